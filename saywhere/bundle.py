"""A folder of trained experts: what ``train`` writes and everything else reads.

    experts/
      experts.json           manifest: format, files with SHA-256, towers, calibrations, provenance
      config.toml            the resolved configuration
      satellite.safetensors  … one file an expert: its heads
      satellite.adapters.safetensors  … and its adapters, where it has some
      platforms.safetensors  the platform classifiers (images, words)
      towers/                the exported frozen towers, hard links where the disk allows

The folder is written whole or not at all, and checked when read; see ``manifest``.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saywhere.classify import PlatformClassifier, classifier_from_arrays
from saywhere.config import dump_config, load_resolved
from saywhere.errors import ConfigError, ExpertError, InputError
from saywhere.expert import Expert, expert_from_arrays
from saywhere.expert_set import ExpertSet
from saywhere.files import exchange, hash_bytes, hash_file, temporary_folder
from saywhere.manifest import (
    BY_NAME,
    CONFIG_FILE,
    FORMAT,
    MANIFEST_FILE,
    PLATFORMS_FILE,
    TOWERS_FOLDER,
    Manifest,
    adapter_file,
    check_tower_sizes,
    expert_file,
    read_manifest,
    tower_files,
    write_manifest,
)
from saywhere.types import FloatArray


def save_experts(
    experts: ExpertSet, folder: Path, towers: Mapping[str, Path], *, overwrite: bool = False
) -> Path:
    """Write ``experts`` to ``folder``, whole or not at all.

    Args:
        towers: the exported tower files to carry along.
        overwrite: replace experts that are there; anything else in the way is never touched.

    Returns:
        ``folder``.

    Raises:
        InputError: as ``check_target``, or the place cannot be written to.
    """
    check_target(folder, overwrite=overwrite)
    target = folder.resolve()  # a link is followed, not replaced
    try:
        with temporary_folder(target.parent) as temporary:
            _write(experts, temporary, towers)
            _swap(temporary, target)
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be written ({error.strerror or error}); "
            "check its folder's rights and free space, or choose another --out"
        ) from None
    return folder


def load_experts(folder: Path) -> ExpertSet:
    """Read a folder of experts and check every file against its hash.

    Raises:
        ExpertError: no experts there, a file missing or altered, another format.
    """
    manifest = read_manifest(folder)
    contents = _read_files(folder, manifest)
    check_tower_sizes(folder, manifest)
    platforms = _parse(folder / PLATFORMS_FILE, contents[PLATFORMS_FILE])
    experts = tuple(_expert(folder, name, contents) for name in manifest.experts)
    try:
        config = load_resolved(folder / CONFIG_FILE)
    except ConfigError as error:
        raise ExpertError(f"{folder / CONFIG_FILE}: {error}; train anew") from None
    loaded = ExpertSet(
        config=config,
        experts=experts,
        calibrations=dict(manifest.calibrations.items()),
        image_classifier=_classifier(platforms, "image"),
        word_classifier=_classifier(platforms, "words"),
        towers=manifest.towers,
        provenance=manifest.provenance,
        folder=folder,
        sharpness=dict(manifest.sharpness.items()),
    )
    if loaded.hash != manifest.hash:
        raise ExpertError(
            f"{folder}: the experts give hash {loaded.hash[:12]} where {manifest.hash[:12]} was "
            "written, by another version of saywhere; train anew"
        )
    return loaded


def check_target(folder: Path, *, overwrite: bool) -> None:
    """Refuse a place that experts may not be written to; call it before hours of training.

    Raises:
        InputError: ``folder`` is there and is no experts folder, holds something that saywhere did
            not write, or ``overwrite`` is not set.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not (folder / MANIFEST_FILE).is_file():
        raise InputError(f"{folder}: exists and holds no experts; choose another --out")
    if not overwrite:
        raise InputError(
            f"{folder}: already holds experts; add --overwrite or choose another --out"
        )
    own = {MANIFEST_FILE, CONFIG_FILE, PLATFORMS_FILE, TOWERS_FOLDER}
    own |= {file(name) for name in BY_NAME for file in (expert_file, adapter_file)}
    foreign = [path for path in folder.iterdir() if path.name not in own]
    foreign += [path for path in folder.glob(f"{TOWERS_FOLDER}/*") if path.suffix != ".onnx"]
    if foreign:
        raise InputError(
            f"{foreign[0]}: would be lost with the old experts; move it or choose another --out"
        )


def place_experts(temporary: Path, folder: Path) -> None:
    """Put a checked folder of experts in the place of ``folder``; both on one disk."""
    _swap(temporary, folder.resolve())


def _write(experts: ExpertSet, folder: Path, towers: Mapping[str, Path]) -> None:
    """All files into a folder of our own; the manifest last."""
    from safetensors.numpy import save  # not save_file: its error of a full disk is no OSError

    for expert in experts.experts:
        (folder / expert_file(expert.name)).write_bytes(save(_narrow(expert.arrays())))
        if adapters := expert.adapter_arrays():
            (folder / adapter_file(expert.name)).write_bytes(save(_narrow(adapters)))
    (folder / PLATFORMS_FILE).write_bytes(save(_narrow(_classifier_arrays(experts))))
    (folder / CONFIG_FILE).write_text(dump_config(experts.config), "utf-8")
    files = {path.name: hash_file(path) for path in sorted(folder.iterdir())}
    (folder / TOWERS_FOLDER).mkdir()
    for path in towers.values():
        _link_or_copy(path, folder / TOWERS_FOLDER / path.name)
    manifest = Manifest(
        format=FORMAT,
        hash=experts.hash,
        experts=tuple(expert.name for expert in experts.experts),
        files=files,
        towers=dict(experts.towers),
        tower_files=tower_files(folder),
        calibrations=dict(experts.calibrations),
        provenance=dict(experts.provenance),
        sharpness=dict(experts.sharpness),
    )
    write_manifest(folder, manifest)


def _swap(temporary: Path, target: Path) -> None:
    """Put ``temporary`` in the place of ``target``; if that fails, the old folder is put back.

    Where the file system cannot swap in one step, a kill between two renames leaves no experts at
    ``target``, and the old ones beside it in a folder called ``.saywhere.….old``.
    """
    if not target.exists():
        temporary.replace(target)
        return
    if exchange(temporary, target):
        return
    retired = temporary.with_suffix(".old")
    target.replace(retired)
    try:
        temporary.replace(target)
    except BaseException:
        retired.replace(target)
        raise
    shutil.rmtree(retired, ignore_errors=True)


def _read_files(folder: Path, manifest: Manifest) -> dict[str, bytes]:
    """Contents of the files by name, checked; read once, so what is checked is what is used."""
    contents = {}
    for name, expected in manifest.files.items():
        path = folder / name
        if not path.is_file():
            raise ExpertError(f"{path}: is missing; copy the whole folder again, or train anew")
        try:
            contents[name] = path.read_bytes()
        except OSError as error:
            raise ExpertError(
                f"{path}: cannot be read ({error.strerror}); check its rights"
            ) from None
        if hash_bytes(contents[name]) != expected:
            raise ExpertError(f"{path}: was altered since training; train anew")
    return contents


def _expert(folder: Path, name: str, contents: Mapping[str, bytes]) -> Expert:
    heads, adapters = expert_file(name), adapter_file(name)
    return expert_from_arrays(
        BY_NAME[name],
        _parse(folder / heads, contents[heads]),
        _parse(folder / adapters, contents[adapters]) if adapters in contents else None,
    )


def _parse(path: Path, content: bytes) -> dict[str, FloatArray]:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        # Half precision is for the disk; everything computes in float32.
        stored = load(content).items()
        return {name: a.astype(np.float32) if a.dtype == np.float16 else a for name, a in stored}
    except (SafetensorError, ValueError, KeyError) as error:
        raise ExpertError(f"{path}: holds no arrays ({error}); train anew") from None


def _narrow(arrays: Mapping[str, FloatArray]) -> dict[str, NDArray[Any]]:
    """Arrays that float16 holds without loss (see ``halving``) as float16, others as they are."""
    out: dict[str, NDArray[Any]] = {}
    for name, array in arrays.items():
        with np.errstate(over="ignore"):
            half = array.astype(np.float16)
        out[name] = half if np.array_equal(half.astype(np.float32), array) else array
    return out


def _classifier_arrays(experts: ExpertSet) -> dict[str, FloatArray]:
    arrays: dict[str, FloatArray] = {}
    for prefix, classifier in (
        ("image", experts.image_classifier),
        ("words", experts.word_classifier),
    ):
        if classifier is not None:
            arrays |= {f"{prefix}.{name}": array for name, array in classifier.arrays().items()}
    return arrays


def _classifier(arrays: Mapping[str, FloatArray], prefix: str) -> PlatformClassifier | None:
    own = {
        name.removeprefix(f"{prefix}."): array
        for name, array in arrays.items()
        if name.startswith(f"{prefix}.")
    }
    return classifier_from_arrays(own) if own else None


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another disk, or a file system without hard links
        shutil.copyfile(source, target)
