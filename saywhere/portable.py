"""Experts that can be carried to another machine: whole, in one folder or one archive.

A portable folder is an experts folder (see ``bundle``) that has both towers in it, each in one ONNX
file with its tokenizer inside, as real copies. Searching with it needs the base install alone.

An archive is that folder under ``experts/`` in a zip, byte for byte the same for the same experts:
entries sorted, dated 1980, stored (weights hardly shrink, and zlib's output differs between its
builds). Hashes find accidents, not forgery: import what you would trust to run.
"""

from __future__ import annotations

import shutil
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from saywhere.bundle import check_target, load_experts, save_experts
from saywhere.errors import ExpertError, InputError, TowerError
from saywhere.expert_set import ExpertSet
from saywhere.expert_towers import SIDES, adapters_of, check_tower, merged_file, tower_settings
from saywhere.files import atomic_path
from saywhere.halving import halved
from saywhere.manifest import (
    BY_NAME,
    CONFIG_FILE,
    MANIFEST_FILE,
    PLATFORMS_FILE,
    TOWERS_FOLDER,
    adapter_file,
    check_towers,
    expert_file,
)
from saywhere.merging import write_merged
from saywhere.towers.cache import find_tower
from saywhere.towers.onnxfile import OnnxFile, read_onnx

MOST_BYTES = 20_000_000_000  # unpacked; the largest towers of the paper take 4 GB
_MOST_LOADED = 1_000_000_000  # of what is read into memory: everything but the towers
_ARCHIVE_ROOT = "experts"
_DATE = (1980, 1, 1, 0, 0, 0)
_BLOCK = 1 << 20
_LOADED = {MANIFEST_FILE, CONFIG_FILE, PLATFORMS_FILE}
_LOADED |= {file(name) for name in BY_NAME for file in (expert_file, adapter_file)}


def check_whole(folder: Path) -> tuple[ExpertSet, Mapping[str, tuple[Path, OnnxFile]]]:
    """Load the experts of ``folder``, checking every byte, its towers' included.

    Returns:
        the experts, and by side (``image``, ``text``) the tower's file and what it says. A tower
        that was taken out of the folder is the one of the cache.

    Raises:
        ExpertError: anything missing or altered, or a tower of other experts.
        TowerError: a tower's file is no whole ONNX file.
    """
    experts = load_experts(folder)
    check_towers(folder)
    towers: dict[str, tuple[Path, OnnxFile]] = {}
    for side in SIDES:
        config, sites = tower_settings(experts, side)
        path = find_tower(config, folder / TOWERS_FOLDER, sites)
        if path is None:
            raise ExpertError(
                f"{folder}: its {side} tower is neither in {TOWERS_FOLDER}/ nor in the cache; "
                "copy the whole folder again"
            )
        content = read_onnx(path)
        check_tower(experts, side, (path, content.metadata))
        towers[side] = (path, content)
    for _, side, adapter in adapters_of(experts):
        if merged := merged_file(experts, side, adapter):
            check_tower(experts, side, (merged, read_onnx(merged).metadata), adapter.hash)
    return experts, towers


@dataclass(frozen=True, slots=True)
class Form:
    """What of the experts a copy holds.

    Attributes:
        half: trained numbers rounded to half precision, see ``halving``.
        towers: the towers; without them they must be found, or made, where the experts are used.
        merged: towers with each expert's adapters merged into their weights, see ``merging``; the
            shared ones stay beside them for what looks at frozen features.
    """

    half: bool = False
    towers: bool = True
    merged: bool = False


def export_folder(
    source: Path, out: Path, *, overwrite: bool = False, form: Form | None = None
) -> Path:
    """Copy the experts of ``source`` to ``out``, whole or not at all, sharing no byte with it.

    Returns:
        ``out``.

    Raises:
        ExpertError, TowerError: as ``check_whole``.
        InputError: as ``bundle.save_experts``, or as ``merging.write_merged``, whose other errors
            these are, too.
    """
    check_target(out, overwrite=overwrite)
    form = form or Form()
    experts, found = check_whole(source)
    experts = halved(experts) if form.half else experts
    with _folder_beside(out) as temporary:
        # Copied first: what ``save_experts`` links to is then nobody else's.
        copies = {
            side: Path(shutil.copyfile(path, temporary / path.name))
            for side, (path, _) in (found if form.towers else {}).items()
        }
        if form.merged:
            copies |= write_merged(experts, temporary)
        return save_experts(experts, out, copies, overwrite=overwrite)


def export_archive(source: Path, out: Path, *, overwrite: bool = False) -> Path:
    """Pack the experts of ``source`` into the zip archive ``out``, whole or not at all.

    Returns:
        ``out``.

    Raises:
        ExpertError, TowerError: as ``check_whole``.
        InputError: ``out`` is there and ``overwrite`` is not set, or it cannot be written.
    """
    if out.is_dir() or (out.exists() and not overwrite):
        raise InputError(f"{out}: is already there; add --overwrite or choose another place")
    experts, towers = check_whole(source)
    paths = {side: path for side, (path, _) in towers.items()}
    with _folder_beside(out) as temporary:
        folder = save_experts(experts, temporary / _ARCHIVE_ROOT, paths)
        with atomic_path(out) as unfinished:
            _pack(folder, unfinished)
    return out


def import_archive(
    archive: Path, out: Path, *, overwrite: bool = False, most_bytes: int = MOST_BYTES
) -> Path:
    """Unpack an exported ``archive`` into the folder ``out``, whole and checked or not at all.

    Only the files of experts are taken, under names of our own: no name leads out of ``out``.

    Args:
        most_bytes: an archive that holds more is refused before a byte is written.

    Returns:
        ``out``.

    Raises:
        ExpertError, TowerError: what it holds is incomplete or altered.
        InputError: no zip archive, one that holds anything else or too much, no space for it, or as
            ``bundle.check_target``.
    """
    check_target(out, overwrite=overwrite)
    try:
        with zipfile.ZipFile(archive) as opened:
            members = _members(archive, opened, most_bytes)
            with _folder_beside(out) as temporary:
                _unpack(archive, opened, members, temporary)
                experts, towers = _check_unpacked(archive, temporary)
                save_experts(experts, out, towers, overwrite=overwrite)
    except OSError as error:
        raise InputError(
            f"{archive}: cannot be read ({error.strerror or error}); check path and rights"
        ) from None
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise _broken(archive, error) from None
    return out


@contextmanager
def _folder_beside(out: Path) -> Iterator[Path]:
    """A folder on the disk of ``out`` that goes with the block; a full disk is one line."""
    place = out.resolve().parent
    try:
        place.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=place, prefix=".saywhere.") as name:
            yield Path(name)
    except OSError as error:
        raise InputError(
            f"{out}: cannot be written ({error.strerror or error}); "
            "check its folder's rights and free space, or choose another place"
        ) from None


def _pack(folder: Path, target: Path) -> None:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            name = PurePosixPath(_ARCHIVE_ROOT, path.relative_to(folder).as_posix())
            entry = zipfile.ZipInfo(str(name), _DATE)
            entry.create_system = 3  # Unix, whatever packs it
            entry.external_attr = (stat.S_IFREG | 0o644) << 16
            entry.file_size = path.stat().st_size  # by which the zip64 form is chosen
            with path.open("rb") as source, archive.open(entry, "w") as sink:
                shutil.copyfileobj(source, sink, _BLOCK)


def _members(archive: Path, opened: zipfile.ZipFile, most_bytes: int) -> dict[str, zipfile.ZipInfo]:
    """What to unpack, by path within the folder; refuses whatever is not part of experts."""
    entries = [entry for entry in opened.infolist() if not entry.is_dir()]
    manifests = [e.filename for e in entries if e.filename.rsplit("/", 1)[-1] == MANIFEST_FILE]
    if len(manifests) != 1:
        raise InputError(
            f"{archive}: holds {len(manifests)} files {MANIFEST_FILE} where experts have one; "
            "make the archive with: saywhere expert export --zip"
        )
    root = manifests[0].removesuffix(MANIFEST_FILE)
    members: dict[str, zipfile.ZipInfo] = {}
    for entry in entries:
        name = entry.filename.removeprefix(root)
        mode = entry.external_attr >> 16
        plain = stat.S_IFMT(mode) in (0, stat.S_IFREG) and not entry.flag_bits & 1
        ours = name in _LOADED or _is_tower(name)
        if not (ours and plain and entry.filename.startswith(root)) or name in members:
            raise InputError(
                f"{archive}: {entry.filename!r} is no file of experts, or not a plain one; "
                "make the archive with: saywhere expert export --zip"
            )
        members[name] = entry
    _check_size(archive, members, most_bytes)
    return members


def _is_tower(name: str) -> bool:
    folder, _, file = name.partition("/")
    simple = PurePosixPath(file).name == file and "\\" not in file and not file.startswith(".")
    return folder == TOWERS_FOLDER and simple and file.endswith(".onnx")


def _check_size(archive: Path, members: Mapping[str, zipfile.ZipInfo], most_bytes: int) -> None:
    total = sum(entry.file_size for entry in members.values())
    loaded = sum(entry.file_size for name, entry in members.items() if name in _LOADED)
    if total > most_bytes or loaded > _MOST_LOADED:
        raise InputError(
            f"{archive}: holds {total / 1e9:.1f} GB unpacked, {loaded / 1e9:.1f} GB beside the "
            f"towers, where {most_bytes / 1e9:g} and {_MOST_LOADED / 1e9:g} are allowed; if that "
            "is meant, raise --max-gb or unpack it by hand"
        )


def _unpack(
    archive: Path, opened: zipfile.ZipFile, members: Mapping[str, zipfile.ZipInfo], folder: Path
) -> None:
    total = sum(entry.file_size for entry in members.values())
    free = shutil.disk_usage(folder).free
    if total > free:
        raise InputError(
            f"{archive}: needs {total / 1e9:.2f} GB where {free / 1e9:.2f} GB are free; "
            "free some, or choose another place"
        )
    (folder / TOWERS_FOLDER).mkdir()
    for name, entry in members.items():
        # Reads no more than the size it declares, which was counted above, and checks its CRC.
        with (folder / name).open("wb") as sink:
            try:
                with opened.open(entry) as source:
                    shutil.copyfileobj(source, sink, _BLOCK)
            except (zipfile.BadZipFile, zlib.error, EOFError) as error:
                raise _broken(archive, error) from None


def _check_unpacked(archive: Path, folder: Path) -> tuple[ExpertSet, dict[str, Path]]:
    """The experts and their towers' files, if all is there, in the folder itself, and unaltered."""
    try:
        experts, towers = check_whole(folder)
    except (ExpertError, TowerError) as error:
        cause = str(error).replace(f"{folder}/", "").replace(str(folder), "the experts")
        raise ExpertError(
            f"{archive}: {cause.rsplit(';', 1)[0]}; copy the archive again, or export it anew"
        ) from None
    for side, (path, _) in towers.items():
        if path.parent != folder / TOWERS_FOLDER:
            raise ExpertError(f"{archive}: lacks the {side} tower; export it anew")
    return experts, {side: path for side, (path, _) in towers.items()}


def _broken(archive: Path, error: Exception) -> InputError:
    cause = " ".join(str(error).split())[:120] or type(error).__name__
    return InputError(
        f"{archive}: is no whole zip archive ({cause}); copy it again, or export it anew"
    )
