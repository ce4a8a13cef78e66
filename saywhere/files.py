"""Atomic writes and content hashes: every file this package leaves behind goes through here.

A temporary file or folder is called ``.saywhere.….part`` and locked by its maker for as long as it
is being made. The lock dies with the process, so what a kill left behind is found by its name and
told by its lock: the next write into the same folder sweeps it away, and never what another
process is still writing.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from saywhere.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BLOCK = 1 << 20
_PREFIX, _SUFFIX = ".saywhere.", ".part"
# Only writing gives these: no space, no quota, beyond the largest file allowed.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # of Linux: fcntl.h, fs.h


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary file beside ``path`` that replaces it when the block ends well, else vanishes.

    Raises:
        InputError: the place cannot be written to, or the disk filled up in the block. Other errors
            of the block pass unchanged.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Not named after the target: its name may be as long as the file system allows.
        temporary, handle = _claim(path.parent, _new_file)
    except OSError as error:
        raise _unwritable(path, error) from None
    try:
        try:
            yield temporary
        except OSError as error:
            if error.errno in _FULL:
                raise _unwritable(path, error) from None
            raise
        try:
            _settle(temporary, path)
        except OSError as error:
            raise _unwritable(path, error) from None
    finally:
        temporary.unlink(missing_ok=True)
        os.close(handle)


@contextmanager
def temporary_folder(parent: Path) -> Iterator[Path]:
    """A new folder in ``parent`` to be filled and renamed; what is left of it goes with the block.

    Raises:
        OSError: ``parent`` cannot be made or written to.
    """
    parent.mkdir(parents=True, exist_ok=True)
    temporary, handle = _claim(parent, _new_folder)
    try:
        temporary.chmod(0o755)  # mkdtemp makes folders private; artefacts are for the team
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        os.close(handle)


def exchange(one: Path, other: Path) -> bool:
    """Swap two paths in one step; False, and nothing done, where the file system cannot."""
    import ctypes

    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):  # no Linux, or a C library without it
        return False
    names = os.fsencode(one), os.fsencode(other)
    return bool(rename(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) == 0)


def _claim(parent: Path, make: Callable[[Path], tuple[Path, int]]) -> tuple[Path, int]:
    """A temporary file or folder, and the handle whose lock says that its maker lives."""
    _sweep(parent)
    while True:
        try:
            path, handle = make(parent)
        except FileNotFoundError:
            if parent.is_dir():  # a sweep of another process came before our lock
                continue
            raise
        with suppress(OSError):  # a file system without locks: nobody sweeps there
            fcntl.flock(handle, fcntl.LOCK_EX)
        try:
            if os.path.samestat(os.fstat(handle), path.stat()):
                return path, handle
        except FileNotFoundError:
            pass
        os.close(handle)


def _new_file(parent: Path) -> tuple[Path, int]:
    handle, name = tempfile.mkstemp(dir=parent, prefix=_PREFIX, suffix=_SUFFIX)
    return Path(name), handle


def _new_folder(parent: Path) -> tuple[Path, int]:
    path = tempfile.mkdtemp(dir=parent, prefix=_PREFIX, suffix=_SUFFIX)
    return Path(path), os.open(path, os.O_RDONLY)


def _sweep(folder: Path) -> None:
    """Remove temporary files and folders whose makers are dead."""
    for path in folder.glob(f"{_PREFIX}*{_SUFFIX}"):
        try:
            handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        except OSError:  # gone, or not ours to read
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        except OSError:  # locked: its maker lives
            continue
        finally:
            os.close(handle)


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
        try:
            temporary.write_bytes(content)
        except OSError as error:
            raise _unwritable(path, error) from None


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


def hash_arrays(arrays: Mapping[str, NDArray[Any]]) -> str:
    """SHA-256 of names, types, shapes and bytes of arrays, hexadecimal, whatever their order."""
    import numpy as np

    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name}:{array.dtype.str}:{array.shape};".encode())
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
