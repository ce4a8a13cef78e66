"""The output: one JSON line a rewrite, appended as it is known, whole whenever the process dies.

A line is written by one ``write`` to a file opened for appending. ``kill -9`` can leave at most the
last line torn; the next opening cuts it off. One process at a time writes a file (``flock``).
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from saywhere.errors import InputError
from saywhere.files import write_text
from saywhere.text.guards import Verdict


@dataclass(frozen=True, slots=True)
class RefinedLine:
    """One rewrite with its history.

    Attributes:
        key: of image, caption, style and variant; unique in a file.
        style: ``satellite``, ``drone``, ``ground`` or ``operator``.
        original: the caption as the dataset has it.
        text: what to train with.
        origin: ``rule``, or ``model@prompt-hash`` where the model's text was accepted.
        verdict: ``accepted``, or why ``text`` is the rule's.
        refused: the model's text where it was not accepted.
        model, prompt: who was asked, and the prompt's hash; empty where nobody was.
        tokens_in, tokens_out: as the endpoint counted them.
    """

    key: str
    image_id: str
    style: str
    variant: int
    original: str
    text: str
    origin: str
    verdict: Verdict
    refused: str
    model: str
    prompt: str
    temperature: float
    seed: int
    tokens_in: int = 0
    tokens_out: int = 0

    def to_json(self) -> str:
        """One line, without its end."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @property
    def settings(self) -> tuple[str, str, float, int]:
        """What must not change within a file, style by style."""
        return (self.model, self.prompt, self.temperature, self.seed - self.variant)


_TYPES: dict[str, type | tuple[type, ...]] = {
    "str": str, "int": int, "float": (int, float), "Verdict": str
}  # fmt: skip


def parse_line(text: str) -> RefinedLine:
    """A line of the file.

    Raises:
        ValueError: no such line.
    """
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError("is no object")
    for field in fields(RefinedLine):
        if not isinstance(value.get(field.name), _TYPES[str(field.type)]):
            raise ValueError(f"{field.name} is missing or of the wrong type")
    known = {field.name: value[field.name] for field in fields(RefinedLine)}
    return RefinedLine(**{**known, "verdict": Verdict(value["verdict"])})


def read_lines(path: Path) -> list[RefinedLine]:
    """Lines of a file, a torn last one left out.

    Raises:
        InputError: no such file, or a line in it that is none of ours.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}); write it with saywhere refine"
        ) from None
    return _parse(path, content[: _whole(content)])


class RefinedFile:
    """A file of refined lines, open for appending. Use ``open_lines``."""

    def __init__(self, path: Path, descriptor: int, lines: Iterable[RefinedLine]) -> None:
        self.path = path
        self._descriptor = descriptor
        self._lines = {line.key: line for line in lines}

    @property
    def lines(self) -> list[RefinedLine]:
        """All of them, in the order they were written."""
        return list(self._lines.values())

    def get(self, key: str) -> RefinedLine | None:
        """The line of a key, None while it's missing."""
        return self._lines.get(key)

    def append(self, line: RefinedLine) -> None:
        """Write one line at the end.

        Raises:
            InputError: the disk refuses.
        """
        data = (line.to_json() + "\n").encode("utf-8", "replace")
        try:
            while data:
                data = data[os.write(self._descriptor, data) :]
        except OSError as error:
            raise InputError(f"{self.path}: {error.strerror}; free some space") from None
        self._lines[line.key] = line

    def sort(self, keys: Sequence[str]) -> None:
        """Put lines in the order of ``keys``, other lines first, atomically.

        Lines come in the order of their answers; sorted, equal runs leave equal files. The lock
        stays on the file that was replaced, so nothing may be appended afterwards.
        """
        place = {key: number for number, key in enumerate(keys)}
        ordered = sorted(self.lines, key=lambda line: place.get(line.key, -1))
        if ordered != self.lines:
            write_text(self.path, "".join(line.to_json() + "\n" for line in ordered))


@contextmanager
def open_lines(path: Path, *, drop_unanswered: bool = False) -> Iterator[RefinedFile]:
    """Open a file for appending; a torn last line is cut off.

    Args:
        drop_unanswered: take lines out that the endpoint never answered, so they are missing again.

    Raises:
        InputError: another process writes it, it cannot be written, or a line is none of ours.
    """
    descriptor = _locked(path)
    try:
        content = path.read_bytes()
        whole = _whole(content)
        lines = _parse(path, content[:whole])
        if whole < len(content):
            os.ftruncate(descriptor, whole)
        answered = [line for line in lines if line.verdict is not Verdict.UNANSWERED]
        if drop_unanswered and len(answered) < len(lines):
            # In place would not survive kill -9; the new file is then locked as the old one was.
            write_text(path, "".join(line.to_json() + "\n" for line in answered))
            replaced, descriptor = descriptor, _locked(path)
            os.close(replaced)
            lines = answered
        yield RefinedFile(path, descriptor, lines)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _locked(path: Path) -> int:
    """A descriptor for appending that holds the file's lock; errors as ``open_lines``."""
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        except OSError as error:
            raise InputError(
                f"{path}: cannot be written ({error.strerror}); choose another --out"
            ) from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            raise InputError(
                f"{path}: another saywhere refine writes it; wait, or choose another --out"
            ) from None
        # Whoever had the lock may have put another file in this one's place.
        if path.exists() and os.fstat(descriptor).st_ino == path.stat().st_ino:
            return descriptor
        os.close(descriptor)


def _whole(content: bytes) -> int:
    """Length of the part that ends with a whole line."""
    return content.rfind(b"\n") + 1


def _parse(path: Path, content: bytes) -> list[RefinedLine]:
    lines = []
    for number, line in enumerate(content.split(b"\n")[:-1], 1):
        try:
            lines.append(parse_line(line.decode("utf-8")))
        except ValueError as error:
            raise InputError(
                f"{path}, line {number}: is no refined caption ({error}); choose another file"
            ) from None
    return lines
