"""Results of many trials on the same tasks: known by hash, written whole, never computed twice."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saywhere.features import content_hashes
from saywhere.files import hash_text, write_text
from saywhere.task import Task


@dataclass(frozen=True, slots=True)
class Artefacts:
    """JSON results in a folder, one a file, named by the hash of what shapes them."""

    folder: Path

    def load(self, key: str) -> dict[str, Any] | None:
        """The result of ``key``; None where there is none, or a damaged one."""
        try:
            found = json.loads(self._path(key).read_text("utf-8"))
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    def save(self, key: str, value: Mapping[str, Any]) -> None:
        """Keep a result, atomically; errors as ``write_text``."""
        write_text(self._path(key), json.dumps(value) + "\n")

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.json"


def task_hash(task: Task) -> str:
    """Hash of images, queries and right answers, wherever the files lie.

    Raises:
        ImageError: a file that cannot be read.
    """
    described = [
        content_hashes(task.records),
        [query.text for query in task.queries],
        task.target.tolist(),
        list(task.places),
    ]
    return hash_text(json.dumps(described))


def asked_places(task: Task) -> NDArray[np.str_]:
    """(q,) place of the image each query describes."""
    return np.asarray(task.places)[task.target]
