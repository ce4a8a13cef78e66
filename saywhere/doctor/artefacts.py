"""Towers, caches, experts and index: are they whole, and do they fit each other."""

from __future__ import annotations

import shlex
from pathlib import Path

from saywhere.bundle import load_experts
from saywhere.caches import list_caches
from saywhere.config import AdapterConfig, Config
from saywhere.data.sources import remembered_paths
from saywhere.doctor.check import Check, Status, failed
from saywhere.errors import SaywhereError
from saywhere.keeping import index_bytes, verify_index
from saywhere.manifest import TOWERS_FOLDER
from saywhere.store import StoreInfo, index_folder
from saywhere.summary import summarise
from saywhere.towers.cache import TowerConfig, build_versions, find_tower
from saywhere.towers.onnxfile import read_onnx

_ROW_BYTES = 400  # of an image beside its vector: names, hashes, position
_SLACK = 5_000_000  # bytes that are not worth a compaction


def tower_checks(experts: Path | None) -> list[Check]:
    """The two towers of ``experts``, or of the default configuration where there are none."""
    config, bundle, expected = Config(), None, dict[str, str]()
    if experts is not None:
        try:
            loaded = load_experts(experts)
        except SaywhereError:
            return []  # the experts' own line says it
        config, bundle, expected = loaded.config, experts / TOWERS_FOLDER, dict(loaded.towers)
    pairs: list[tuple[str, TowerConfig, AdapterConfig]] = [
        ("image", config.towers.image, config.adapters.image),
        ("text", config.towers.text, config.adapters.text),
    ]
    return [
        _tower(side, (tower, adapter), bundle, expected.get(side)) for side, tower, adapter in pairs
    ]


def cache_checks() -> list[Check]:
    """Every cache, and what a killed process left in them."""
    found = []
    for file in list_caches():
        of = f"of {file.tower}" if file.tower else "of a tower that is not cached"
        size = f"{file.bytes / 1e6:.1f} MB"
        if file.problem:
            found.append(failed("caches", file.kind, file.problem))
        elif file.kind == "leftover":
            found.append(
                Check(
                    "caches",
                    file.kind,
                    "note",
                    f"{file.path}, {size}",
                    "left by a killed process; run: saywhere cache clear",
                )
            )
        elif file.kind == "features":
            rows = f"{file.rows:,} rows, {size}, {of}"
            found.append(Check("caches", file.kind, "ok", f"{rows}, {file.path}"))
    return found or [Check("caches", "features", "ok", "none yet")]


def expert_checks(folder: Path, *, required: bool) -> list[Check]:
    """The experts: every byte.

    Args:
        required: whether it is a problem that none are there.
    """
    if not required and not folder.exists():
        return [
            Check(
                "experts",
                str(folder),
                "note",
                "none here",
                "train some: saywhere train DATA, or name a folder: --experts DIR",
            )
        ]
    try:
        found = summarise(folder)
    except SaywhereError as error:
        return [failed("experts", str(folder), error)]
    names = ", ".join(f"{part.name} ({part.members})" for part in found.parts)
    kept = f"{found.experts.hash[:12]}, {names}, {found.bytes / 1e6:.1f} MB, every hash checked"
    if found.portable:
        return [Check("experts", str(folder), "ok", kept)]
    return [
        Check(
            "experts",
            str(folder),
            "note",
            f"{kept}; towers are in the cache only",
            "before moving it: saywhere expert export",
        )
    ]


def index_checks(uri: str, experts: Path | None, *, required: bool) -> list[Check]:
    """The index: its rows, its vectors, its files, its experts; ``required`` as above."""
    try:
        if not required and not Path(index_folder(uri)).exists():
            return [
                Check(
                    "index",
                    uri,
                    "note",
                    "none here",
                    "make one: saywhere index DIR, or name it: --index URI",
                )
            ]
        found = verify_index(uri, experts=experts)
    except SaywhereError as error:
        return [failed("index", uri, error)]
    checks = [failed("index", uri, problem) for problem in found.problems]
    if found.info is None:
        return checks
    paths = remembered_paths(found.info.root)
    if not found.problems:
        checks.append(
            Check("index", uri, "ok", f"{found.info.count:,} images of {', '.join(paths)}")
        )
    if found.missing or found.changed:
        checks.append(
            Check(
                "index",
                "files",
                "note",
                f"{len(found.missing)} missing, {len(found.changed)} changed since",
                f"bring it up to date: saywhere index {shlex.join(paths)}",
            )
        )
    return [*checks, _compactness(uri, found.info)]


def _tower(
    side: str,
    what: tuple[TowerConfig, AdapterConfig],
    bundle: Path | None,
    expected: str | None,
) -> Check:
    config, adapter = what
    name = f"{side} tower"
    path = find_tower(config, bundle, adapter)
    if path is None and build_versions(config) is None:
        status: Status = "problem" if expected else "note"
        return Check(
            "towers",
            name,
            status,
            f"{config.name} is not exported, and torch is missing",
            "pip install 'saywhere[train]', or use experts that carry it: saywhere expert export",
        )
    if path is None:
        return Check(
            "towers",
            name,
            "note",
            f"{config.name} is not exported yet",
            "the first training or index takes half a minute longer",
            slow=True,
        )
    try:
        fingerprint = str(read_onnx(path).metadata.get("fingerprint"))
    except SaywhereError as error:
        return failed("towers", name, error)
    where = "with the experts" if bundle is not None and path.parent == bundle else "in the cache"
    size = path.stat().st_size / 1e6
    found = f"{config.name} ({fingerprint[:12]}), {size:.1f} MB, {where}"
    if expected is not None and fingerprint != expected:
        return Check(
            "towers",
            name,
            "problem",
            f"{found}, where the experts need {expected[:12]}",
            f"delete {path}, or train anew",
        )
    return Check("towers", name, "ok", found)


def _compactness(uri: str, info: StoreInfo) -> Check:
    needed = info.count * (4 * info.dimension + _ROW_BYTES)
    size = index_bytes(uri)
    found = f"{size / 1e6:.1f} MB on disk for {needed / 1e6:.1f} MB of vectors and rows"
    if size > 2 * needed + _SLACK:
        return Check(
            "index",
            "size",
            "note",
            found,
            "searches read past what updates left; run: saywhere index compact",
            slow=True,
        )
    return Check("index", "size", "ok", found)
