"""Opening what a user names: files and folders that may be missing, odd or in another encoding."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

from saywhere.errors import InputError

_LINE_LIMIT = 1 << 20  # characters; a file of one endless line must not fill the memory
_SHOWN_CHARACTERS = 60
_ABSOLUTE = re.compile("/|[A-Za-z]:")  # a Windows drive too
# UTF-16's marks as they look decoded as UTF-8 with the odd bytes kept.
_UTF16_MARKS = ("\udcff\udcfe", "\udcfe\udcff")


def read_text(path: Path) -> str:
    """The text of a UTF-8 file, without the byte order mark some editors put before it.

    Raises:
        InputError: no such file, a folder, an unreadable file, or one in another encoding.
    """
    if not is_file(path):
        cause = "is a folder" if is_folder(path) else "no such file"
        raise InputError(f"{path}: {cause}; give the path of a file")
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}: byte {error.start} is not UTF-8; save the file with that encoding"
        ) from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check its rights") from error


def stream_lines(path: Path) -> Iterator[str]:
    """The lines of a UTF-8 file one by one, line ends kept, without a byte order mark.

    Bytes that are not UTF-8 come as lone surrogates, which ``is_unicode`` tells: a reader can then
    name every line that holds some.

    Raises:
        InputError: no such file, a folder, an unreadable file, UTF-16, or a line without an end.
    """
    if not is_file(path):
        cause = "is a folder" if is_folder(path) else "no such file"
        raise InputError(f"{path}: {cause}; give the path of a file")
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as handle:
            number = 0
            while line := handle.readline(_LINE_LIMIT):
                number += 1
                if number == 1 and line.startswith(_UTF16_MARKS):
                    raise InputError(f"{path}: is UTF-16; save the file as UTF-8")
                if len(line) == _LINE_LIMIT:
                    raise InputError(
                        f"{path}: line {number} is longer than {_LINE_LIMIT:,} characters; "
                        "name a text file with one entry a line"
                    )
                yield line
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check its rights") from error


def load_json(path: Path) -> object:
    """The value of a JSON file, standard JSON only.

    Raises:
        InputError: as ``read_text``; text that is not JSON (with line and column), NaN or Infinity,
            nesting or numbers beyond what can be parsed.
    """

    def refuse(constant: str) -> object:
        raise InputError(f"{path}: holds {constant}, which is not JSON; write null in its place")

    try:
        return json.loads(read_text(path), parse_constant=refuse)
    except InputError:
        raise
    except json.JSONDecodeError as error:
        raise InputError(
            f"{path}: not JSON at line {error.lineno} column {error.colno} ({error.msg}); "
            "mend it there or download the file again"
        ) from error
    except RecursionError as error:
        raise InputError(f"{path}: nested too deeply; download the file again") from error
    except ValueError as error:  # an integer of thousands of digits
        raise InputError(
            f"{path}: holds a number too long to read; download the file again"
        ) from error


def is_file(path: Path) -> bool:
    """Whether a file is there; unlike Path.is_file it never raises, however odd the path."""
    return os.path.isfile(path)  # noqa: PTH113


def is_folder(path: Path) -> bool:
    """Whether a folder is there; unlike Path.is_dir it never raises, however odd the path."""
    return os.path.isdir(path)  # noqa: PTH112


def is_unicode(text: str) -> bool:
    """False with lone surrogates, which no UTF-8 file or terminal can take."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def path_fault(name: str) -> str | None:
    """Why a dataset's file may not name an image so, with the remedy; None where it may.

    A dataset's file comes from elsewhere: it must not name files outside the images folder.
    """
    parts = name.split("/")  # not a Path object: tables have hundreds of thousands of names
    checks = (
        (not name.strip(), "is empty; write the path of the image"),
        (not is_unicode(name), "holds half a character; write it in whole Unicode"),
        ("\\" in name, "has backslashes; write the path with /"),
        (
            _ABSOLUTE.match(name) is not None,
            "is an absolute path; make it relative to the images folder",
        ),
        (".." in parts, "leaves the images folder by '..'; write the path without"),
        (not set(parts) - {"", "."}, "names no file; write the path of the image"),
    )
    # The first fault only: the later ones follow from it.
    return next((fault for found, fault in checks if found), None)


def shown(text: str) -> str:
    """Text for a one-line message: control characters escaped, long ones cut."""
    cut = text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…"
    return repr(cut)


def shown_value(value: object) -> str:
    """A JSON value for a one-line message; of lists and objects, which may be endless, the kind."""
    if isinstance(value, list | tuple | dict):
        return "a list" if not isinstance(value, dict) else "an object"
    return shown(value) if isinstance(value, str) else shown(str(value)).strip("'")
