"""What an index is of: one folder or file, or several under short names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from saywhere.errors import InputError


@dataclass(frozen=True, slots=True)
class Sources:
    """Paths with the names their images' ids begin with; the name of a single one is empty."""

    named: tuple[tuple[str, Path], ...]

    def __str__(self) -> str:
        return ", ".join(str(path) for _, path in self.named)

    @property
    def text(self) -> str:
        """How an index remembers them: a path, or a line ``name=path`` each."""
        if len(self.named) == 1:
            return str(self.named[0][1].resolve())
        return "\n".join(f"{name}={path.resolve()}" for name, path in self.named)

    def of(self, image_id: str) -> Path:
        """The source of an image of that id."""
        if len(self.named) == 1:
            return self.named[0][1]
        name = image_id.partition("/")[0]
        return dict(self.named).get(name, self.named[0][1])

    def place(self, image_id: str) -> Path:
        """Where an image of that id was found, if its source is a folder."""
        rest = image_id if len(self.named) == 1 else image_id.partition("/")[2]
        return self.of(image_id) / rest


def name_sources(paths: Sequence[Path]) -> Sources:
    """Names are those of the folders and files, without suffix; equal ones get ``-2``, ``-3``.

    They depend on the set of paths alone, not on the order in which it is given.

    Raises:
        InputError: no path, one given twice, or a folder inside another one.
    """
    if not paths:
        raise InputError("nothing to index; name folders, tables or STAC files")
    if len(paths) == 1:
        return Sources((("", paths[0]),))
    ordered = sorted(paths, key=lambda path: str(path.resolve()))
    resolved = [path.resolve() for path in ordered]
    for index, path in enumerate(resolved):
        around = [other for other in resolved[:index] if other == path or other in path.parents]
        if around:
            cause = "given twice" if around[0] == path else f"lies inside {str(around[0])!r}"
            raise InputError(
                f"{ordered[index]}: {cause}, its images would count twice; name it once"
            )
    named: dict[str, Path] = {}
    for path, whole in zip(ordered, resolved, strict=True):
        # Names that are not UTF-8 are no ids; what is replaced only makes them less pretty.
        text = (whole.name if whole.is_dir() else whole.stem).encode("utf-8", "replace").decode()
        stem = text or "source"
        number = 1
        while (name := stem if number == 1 else f"{stem}-{number}") in named:
            number += 1
        named[name] = path
    return Sources(tuple(named.items()))


def remembered_paths(text: str) -> list[str]:
    """The paths of ``Sources.text``, for messages and commands."""
    lines = text.split("\n")
    if len(lines) == 1:
        return lines
    return [line.partition("=")[2] for line in lines]
