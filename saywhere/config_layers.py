"""Layers of configuration: TOML files and ``key=value`` overrides, laid over one another.

Knows nothing of our settings: it reads, merges, writes and explains for any pydantic model.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from saywhere.errors import ConfigError


def without_none(values: Mapping[str, Any]) -> dict[str, Any]:
    """``values`` with "" for None, which TOML cannot write."""
    return {
        key: without_none(value) if isinstance(value, Mapping) else "" if value is None else value
        for key, value in values.items()
    }


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file.

    Raises:
        ConfigError: missing, unreadable or no TOML.
    """
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); check the path") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: is not valid TOML ({error}); correct that line") from None


def parse_override(text: str) -> dict[str, Any]:
    """``a.b=3`` to ``{"a": {"b": 3}}``; what is no TOML value is taken as a string.

    Raises:
        ConfigError: no key.
    """
    key, separator, raw = text.partition("=")
    if not separator or not key.strip():
        raise ConfigError(f"override {text!r} has no key; write it as section.key=value")
    try:
        parsed = tomllib.loads(f"value = {raw}")
    except tomllib.TOMLDecodeError:
        parsed = {}
    # More than one key: the value brought lines of its own, so it is a text.
    value: Any = parsed["value"] if parsed.keys() == {"value"} else raw.strip()
    for part in reversed(key.strip().split(".")):
        value = {part: value}
    nested: dict[str, Any] = value
    return nested


def merge(into: dict[str, Any], values: Mapping[str, Any]) -> None:
    """Lay ``values`` over ``into``, table by table."""
    for key, value in values.items():
        if isinstance(value, Mapping) and isinstance(into.get(key), dict):
            merge(into[key], value)
        else:
            into[key] = deepcopy(value)


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """All problems of a validation in one line, each with its key and value."""
    problems = []
    for item in error.errors():
        where = ".".join(str(part) for part in item["loc"])
        if item["type"] == "extra_forbidden":
            known = ", ".join(_keys_beside(item["loc"], model))
            problems.append(f"{where}: there is no such setting; known here: {known}")
        else:
            shown = repr(item["input"])
            shown = shown if len(shown) <= 80 else f"{shown[:79]}…"
            problems.append(f"{where}: {item['msg'].removeprefix('Value error, ')} (got {shown})")
    return "configuration: " + "; ".join(problems)


def _keys_beside(location: tuple[int | str, ...], model: type[BaseModel]) -> list[str]:
    """The settings of the table that holds ``location``."""
    for part in location[:-1]:
        annotation = model.model_fields[str(part)].annotation
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            break
        model = annotation
    return list(model.model_fields)
