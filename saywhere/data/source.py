"""Opening what a user names: files and folders that may be missing, odd or in another encoding."""

from __future__ import annotations

import json
import os
from pathlib import Path

from saywhere.errors import InputError


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
