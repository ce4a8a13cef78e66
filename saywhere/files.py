"""Atomic writes and content hashes: every file this package leaves behind goes through here."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from saywhere.errors import InputError

_BLOCK = 1 << 20


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary file beside ``path`` that replaces it when the block ends well, else vanishes.

    Raises:
        InputError: the place cannot be written to. Errors of the block itself pass unchanged.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Not named after the target: its name may be as long as the file system allows.
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".saywhere.", suffix=".part")
        os.close(descriptor)
    except OSError as error:
        raise _unwritable(path, error) from None
    temporary = Path(name)
    try:
        yield temporary
        try:
            _settle(temporary, path)
        except OSError as error:
            raise _unwritable(path, error) from None
    finally:
        temporary.unlink(missing_ok=True)


def _settle(temporary: Path, path: Path) -> None:
    with temporary.open("rb") as handle:
        os.fsync(handle.fileno())
    temporary.chmod(0o644)  # mkstemp makes files private; artefacts are for the whole team
    temporary.replace(path)


def _unwritable(path: Path, error: OSError) -> InputError:
    return InputError(
        f"{path}: cannot be written ({error.strerror or error}); "
        "check its folder's rights and free space, or choose another place"
    )


def write_bytes(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path`` atomically; errors as ``atomic_path``."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, content: str) -> None:
    """Write ``content`` to ``path`` atomically, as UTF-8; errors as ``atomic_path``."""
    write_bytes(path, content.encode("utf-8"))


def hash_file(path: Path) -> str:
    """SHA-256 of a file's bytes, hexadecimal; read in blocks.

    Raises:
        OSError: callers name the file's role in their own error.
    """
    digest = hashlib.sha256()
    with path.open("rb") as handle:
        while block := handle.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def hash_bytes(content: bytes) -> str:
    """SHA-256 of bytes, hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def hash_text(text: str) -> str:
    """SHA-256 of a text's UTF-8 bytes, hexadecimal."""
    return hash_bytes(text.encode("utf-8"))
