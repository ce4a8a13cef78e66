"""Generations of an index on disk: one is current, a build adds the next and swaps it in.

    index/
      saywhere-index.json   the manifest: what made the index, and which generation is current
      generation-6f0c…/     whatever the engine keeps

A build fills a generation of its own and then replaces the JSON file, in one atomic step. So the
folder holds a whole index at every moment, and whatever a killed build left is nobody's current
generation: the next build sweeps it away.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from saywhere.errors import IndexMismatchError, InputError
from saywhere.store import SCHEMA_VERSION, StoreInfo
from saywhere.types import Tiling

MANIFEST = "saywhere-index.json"
# Written by this version, or by one before it and read as it is.
READABLE = (1, 2, SCHEMA_VERSION)
REBUILD = "`saywhere index DIR --rebuild`"
_FULL = re.compile(r"No space left on device|Disk quota exceeded|File too large")
_GENERATION = re.compile(r"generation-[0-9a-f]{12}")


@dataclass(frozen=True, slots=True)
class Manifest:
    """What the JSON file says: who made the vectors, of what, and where the table lies."""

    expert_hash: str
    dimension: int
    experts: str
    root: str
    tiling: Tiling | None = None
    generation: str = ""
    schema_version: int = SCHEMA_VERSION

    def info(self, count: int) -> StoreInfo:
        """What an index of ``count`` images with this manifest says about itself."""
        return StoreInfo(
            self.schema_version, self.expert_hash, self.dimension, count, self.experts, self.root,
            self.tiling,
        )  # fmt: skip


@contextmanager
def lock(folder: Path, *, shared: bool = False) -> Iterator[None]:
    """Holds the index for one build, or with others for adding to it; dies with the process.

    Args:
        folder: the index, absolute; a build makes it, with its parents, and on taking it sweeps
            away what killed builds left.
        shared: for adding to the index that is there.

    Raises:
        InputError: a build of it going on, a folder that holds something else, or storage that
            cannot be written or locked.
    """
    try:
        if not shared:
            folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise storage_error(folder, "write", error) from error
    try:
        _take(handle, folder, shared)
        try:
            if not shared:
                _require_nothing_else(folder)
                _sweep_leftovers(folder)
            yield
        finally:
            with suppress(OSError):  # only an empty folder goes: one whose first build failed
                folder.rmdir()
    finally:
        os.close(handle)


def _take(handle: int, folder: Path, shared: bool) -> None:
    try:
        fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise InputError(
            f"index {str(folder)!r}: another process is building it or adding to it; "
            "wait for that to finish"
        ) from error
    except OSError as error:
        raise storage_error(folder, "lock", error) from error
    if os.fstat(handle).st_nlink == 0:
        raise InputError(f"index {str(folder)!r}: another process has just removed it; run again")


@contextmanager
def new_generation(folder: Path, manifest: Manifest) -> Iterator[Manifest]:
    """Makes a generation, and the current one of it when the ``with`` block succeeds.

    Args:
        folder: the index, absolute, whose ``lock`` the caller holds.
        manifest: what made the vectors; its generation is chosen here.

    Yields:
        The manifest of the generation, whose folder is there and empty.

    Raises:
        InputError: storage that cannot be written. Errors of the block itself pass unchanged.
    """
    manifest = replace(manifest, generation=f"generation-{secrets.token_hex(6)}")
    generation = folder / manifest.generation
    try:
        _make(folder, generation)
        yield manifest
        _commit(folder, manifest)
    finally:
        # Asks the disk: an interrupt may have come just after the commit.
        if _current_generation(folder) == manifest.generation:
            _sweep(folder, keep=manifest.generation)
        else:
            shutil.rmtree(generation, ignore_errors=True)


def read_manifest(folder: Path) -> Manifest:
    """The manifest of the current generation.

    Raises:
        InputError: no index there, or a manifest that cannot be read or is incomplete.
        IndexMismatchError: an index of another schema.
    """
    try:
        found = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError(
            f"no index at {str(folder)!r}; build one with `saywhere index DIR`"
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise damaged(folder, f"{MANIFEST} cannot be read ({_one_line(error)})") from error
    version = found.get("schema_version") if isinstance(found, dict) else None
    if type(version) is not int:
        raise damaged(folder, f"{MANIFEST} names no schema version")
    if version not in READABLE:
        raise IndexMismatchError(
            f"index {str(folder)!r}: written in schema {version}, this saywhere reads schemas up "
            f"to {SCHEMA_VERSION}; update saywhere, or rebuild it with {REBUILD}"
        )
    return _checked_manifest(folder, found)


def damaged(folder: Path, cause: str) -> InputError:
    """The error of an index that only a rebuild can mend."""
    return InputError(f"index {str(folder)!r}: {cause}; it is damaged, rebuild it with {REBUILD}")


def storage_error(folder: Path, verb: str, error: Exception) -> InputError:
    """The error of storage that failed to ``verb`` (read, write, lock) the index."""
    if full := _FULL.search(str(error)):  # LanceDB tells it by words only
        return InputError(
            f"index {str(folder)!r}: cannot {verb} it ({full[0]}); free disk space and run again, "
            "it is as it was"
        )
    return InputError(
        f"index {str(folder)!r}: cannot {verb} it ({_one_line(error)}); check the disk and the "
        f"permissions, or rebuild it with {REBUILD}"
    )


def _one_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def _checked_manifest(folder: Path, found: dict[str, Any]) -> Manifest:
    kinds = {
        "schema_version": int,
        "expert_hash": str,
        "dimension": int,
        "experts": str,
        "root": str,
        "generation": str,
    }
    wrong = [name for name, kind in kinds.items() if type(found.get(name)) is not kind]
    if wrong:
        raise damaged(folder, f"{MANIFEST} has no proper {', '.join(wrong)}")
    # Checked because it becomes part of a path.
    if not _GENERATION.fullmatch(found["generation"]) or found["dimension"] < 1:
        raise damaged(folder, f"{MANIFEST} names no generation or no dimension")
    known = {name: found[name] for name in kinds}
    return Manifest(**known, tiling=_tiling(folder, found.get("tiling")))


def _tiling(folder: Path, found: object) -> Tiling | None:
    """Of an index that remembers it: those of schemas 1 and 2 don't."""
    if found is None:
        return None
    try:
        return Tiling(**found)  # type: ignore[arg-type]  # whatever it is, it is checked
    except (TypeError, InputError) as error:
        raise damaged(folder, f"{MANIFEST} has no proper tiling ({_one_line(error)})") from error


def _require_nothing_else(folder: Path) -> None:
    names = [path.name for path in folder.iterdir()]
    strange = [name for name in names if name != MANIFEST and not _GENERATION.fullmatch(name)]
    if strange:
        raise InputError(
            f"index {str(folder)!r}: holds {min(strange)!r}, which is no part of an index; "
            "choose a folder that is new or empty"
        )


def _current_generation(folder: Path) -> str | None:
    """The generation in use, "" where there is none, None where it may be any of them."""
    if not (folder / MANIFEST).exists():
        return ""
    try:
        return read_manifest(folder).generation
    except (InputError, IndexMismatchError):
        return None


def _make(folder: Path, generation: Path) -> None:
    try:
        generation.mkdir()
    except OSError as error:
        raise storage_error(folder, "write", error) from error


def _commit(folder: Path, manifest: Manifest) -> None:
    # Not by saywhere.files, whose draft would lie in the index itself: this one lies inside the
    # generation, which a sweep removes whole if we die before the replace.
    draft = folder / manifest.generation / MANIFEST
    try:
        draft.write_text(json.dumps(asdict(manifest), indent=2) + "\n", encoding="utf-8")
        draft.replace(folder / MANIFEST)
    except OSError as error:
        raise storage_error(folder, "write", error) from error


def _sweep_leftovers(folder: Path) -> None:
    before = _current_generation(folder)
    if before is not None:
        _sweep(folder, keep=before)


def _sweep(folder: Path, *, keep: str) -> None:
    for path in folder.iterdir():
        if _GENERATION.fullmatch(path.name) and path.name != keep:
            shutil.rmtree(path, ignore_errors=True)
