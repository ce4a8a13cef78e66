"""What can go wrong, and what the user can do about it.

    SaywhereError
    ├── InputError              a file, folder or argument the user gave (also a ValueError)
    │   ├── DatasetError        a dataset file with one or more bad entries, all of them listed
    │   └── ImageError          one image that cannot be decoded safely
    ├── ConfigError             a preset, a TOML file or a flag (also a ValueError)
    ├── TowerError              tower weights that are missing, altered or of another model
    ├── ExpertError             a folder of trained experts that is missing, incomplete or altered
    ├── IndexMismatchError      an index built by other experts, or by another schema
    └── MissingExtraError       a stage whose packages are not installed (also an ImportError)

Every message is one line that names the value, the cause and the remedy. Only ``cli.py`` prints it
(exit code 2); the library raises.
"""

from __future__ import annotations

from collections.abc import Sequence


def printable(text: str) -> str:
    """Text with line ends, control characters and lone surrogates escaped as Python does it."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


class SaywhereError(Exception):
    """Base of all errors a user can cause or cure."""


class InputError(SaywhereError, ValueError):
    """A file, folder or argument that cannot be used as given."""


class DatasetError(InputError):
    """A dataset with bad entries. ``problems`` lists every one of them, a line each.

    Args:
        source: the file or folder that was read.
        problems: one line a problem, each with entry number, cause and remedy.
        remedy: a remedy for all of them, such as a flag.
    """

    shown = 20

    def __init__(self, source: object, problems: Sequence[str], remedy: str = "") -> None:
        self.source = str(source)
        self.problems = tuple(problems)
        self.remedy = f"; {remedy}" if remedy else ""
        super().__init__(self._message())

    def _message(self) -> str:
        count = len(self.problems)
        if count == 1:
            return f"{self.source}: {self.problems[0]}{self.remedy}"
        lines = [f"  {problem}" for problem in self.problems[: self.shown]]
        if count > self.shown:
            lines.append(f"  … and {count - self.shown} more")
        return "\n".join([f"{self.source}: {count} problems{self.remedy}", *lines])


class ImageError(InputError):
    """An image that is missing, truncated, too large or no image at all.

    Its file's name comes from anywhere: what is not printable in it is escaped, so that the message
    is one line and can be written to any stream.
    """

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


class ConfigError(SaywhereError, ValueError):
    """A configuration that does not hold together."""


class TowerError(SaywhereError):
    """Tower weights that are missing, altered or made for another model."""


class ExpertError(SaywhereError):
    """A folder of trained experts that cannot be used."""


class IndexMismatchError(SaywhereError):
    """An index that was built by other experts or written in another schema."""


class MissingExtraError(SaywhereError, ImportError):
    """A stage whose optional packages are not installed.

    Args:
        stage: what was asked for, as the user names it ("train").
        extra: the extra that brings the packages.
        missing: the module that could not be imported.
    """

    def __init__(self, stage: str, extra: str, missing: str) -> None:
        super().__init__(
            f"{stage}: the package {missing!r} is not installed; "
            f"run: pip install 'saywhere[{extra}]'"
        )
