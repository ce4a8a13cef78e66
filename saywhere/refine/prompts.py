"""Prompts: plain files, one a style, each with a worked example; a folder may override them.

A file has four parts under the headings ``[system]``, ``[user]``, ``[assistant]``, ``[user]``: the
instruction, an example caption, its rewrite, and ``{caption}`` where the caption goes. The example
is sent as the JSON that is asked for.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from saywhere.errors import InputError
from saywhere.files import hash_text

STYLES = ("satellite", "drone", "ground", "operator")
SLOT = "{caption}"
SCHEMA = {
    "type": "object",
    "properties": {"text": {"type": "string"}},
    "required": ["text"],
    "additionalProperties": False,
}
Messages = list[dict[str, str]]
_HEADING = re.compile(r"^\[(system|user|assistant)\]\s*\n", re.MULTILINE)
_ROLES = ["system", "user", "assistant", "user"]
_HASH_LENGTH = 12


@dataclass(frozen=True, slots=True)
class Prompt:
    """One style's prompt.

    Attributes:
        texts: of ``system``, example ``user``, example ``assistant``, ``user`` with the slot.
        hash: twelve hexadecimal digits, of the texts.
    """

    style: str
    texts: tuple[str, str, str, str]
    hash: str

    def messages(self, caption: str) -> Messages:
        """What is sent for one caption."""
        system, example, rewrite, user = self.texts
        contents = (system, example, json.dumps({"text": rewrite}), user.replace(SLOT, caption))
        return [
            {"role": role, "content": content}
            for role, content in zip(_ROLES, contents, strict=True)
        ]


def load_prompts(styles: Iterable[str], folder: Path | None = None) -> Mapping[str, Prompt]:
    """Prompts by style; a file ``<style>.txt`` in ``folder`` takes the built-in one's place.

    Raises:
        InputError: a folder without any prompt, or a file without the four parts or the slot.
    """
    if folder is not None and not any((folder / f"{style}.txt").is_file() for style in STYLES):
        names = ", ".join(f"{style}.txt" for style in STYLES)
        raise InputError(f"{folder}: holds none of {names}; put a prompt there or drop --prompts")
    return {style: _load(style, folder) for style in styles}


def _load(style: str, folder: Path | None) -> Prompt:
    own = folder / f"{style}.txt" if folder is not None else None
    try:
        if own is not None and own.is_file():
            return parse_prompt(style, own.read_text("utf-8"), str(own))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{own}: cannot be read as UTF-8 text ({error}); check the file") from None
    built_in = files("saywhere.refine").joinpath("prompts", f"{style}.txt")
    return parse_prompt(style, built_in.read_text("utf-8"), f"{style}.txt")


def parse_prompt(style: str, text: str, name: str) -> Prompt:
    """A prompt from a file's text; errors as ``load_prompts``."""
    parts = _HEADING.split(text.replace("\r\n", "\n"))
    roles, texts = parts[1::2], [part.strip() for part in parts[2::2]]
    if parts[0].strip() or roles != _ROLES or not all(texts):
        raise InputError(
            f"{name}: needs the parts [system], [user], [assistant], [user] in this order, none "
            "empty; see the built-in prompts for an example"
        )
    slots = [part.count(SLOT) for part in texts]
    if slots != [0, 0, 0, 1]:
        raise InputError(f"{name}: needs {SLOT} once, in its last part; put it there")
    system, example, rewrite, user = texts
    digest = hash_text(json.dumps(texts))[:_HASH_LENGTH]
    return Prompt(style, (system, example, rewrite, user), digest)
