"""``experts.json``: what a folder of experts holds, and how it is checked.

Every file but the towers is checked against its SHA-256 when the folder is loaded, and the manifest
against its own seal. The towers are a hundred megabytes: loading looks at their names and sizes,
``check_towers`` at every byte. They may be taken out of the folder; then they are looked for in the
cache. Hashes and seal find accidents, not forgery: who can write to the folder can seal it anew.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from saywhere.config import FusionMode
from saywhere.errors import ExpertError
from saywhere.files import hash_file, hash_text, write_text
from saywhere.fusion import Calibration
from saywhere.sharpness import Sharpness
from saywhere.types import PLATFORMS, Platform

FORMAT = 1
MANIFEST_FILE = "experts.json"
CONFIG_FILE = "config.toml"
PLATFORMS_FILE = "platforms.safetensors"
TOWERS_FOLDER = "towers"
SHIPPED = Path(__file__).parent / "shipped"  # experts that come with the package, without towers
BY_NAME: Mapping[str, Platform | None] = {**{p.value: p for p in PLATFORMS}, "generalist": None}


class TowerFile(BaseModel):
    """An exported tower carried along: size in bytes, SHA-256."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    size: int
    sha256: str


class Manifest(BaseModel):
    """``experts.json`` without its seal.

    Attributes:
        format: of the folder.
        hash: ``ExpertSet.hash``.
        experts: their names, in order.
        files: SHA-256 by name of every file beside the manifest.
        towers: fingerprints of the ``image`` and the ``text`` tower.
        tower_files: the files in ``towers/`` by name.
        calibrations: by fusion mode.
        sharpness: of words asking for images, by fusion mode; of experts from before it was fitted,
            and of those without fitting places, none.
        provenance: anything JSON can say.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    format: int
    hash: str
    experts: tuple[str, ...]
    files: dict[str, str]
    towers: dict[str, str]
    tower_files: dict[str, TowerFile]
    calibrations: dict[FusionMode, Calibration]
    provenance: dict[str, Any]
    sharpness: dict[FusionMode, Sharpness] = {}


def expert_file(name: str) -> str:
    """File of the heads of the expert called ``name``."""
    return f"{name}.safetensors"


def adapter_file(name: str) -> str:
    """File of the adapters of the expert called ``name``; there only where it has some."""
    return f"{name}.adapters.safetensors"


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write and seal ``manifest``; the last file of a folder."""
    values = manifest.model_dump(mode="json")
    sealed = {**values, "seal": _seal(values)}
    write_text(folder / MANIFEST_FILE, json.dumps(sealed, indent=2) + "\n")


def read_manifest(folder: Path) -> Manifest:
    """The manifest of ``folder``, checked by itself; the files are not looked at.

    Raises:
        ExpertError: missing, altered, of another format, or naming files it should not.
    """
    path = folder / MANIFEST_FILE
    try:
        values = json.loads(path.read_bytes())
        found = values["format"]
    except FileNotFoundError:
        raise ExpertError(
            f"{folder}: holds no experts ({MANIFEST_FILE} is missing); "
            f"train some: saywhere train DATA --out {folder}"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ExpertError(f"{path}: cannot be read ({_brief(error)}); train anew") from None
    if found != FORMAT:
        raise ExpertError(
            f"{path}: format {found!r}, this version reads {FORMAT}; "
            "train anew or install the version that wrote it"
        )
    if values.pop("seal", None) != _seal(values):
        raise ExpertError(f"{path}: was altered since training; train anew")
    try:
        manifest = Manifest.model_validate(values)
    except ValidationError as error:
        raise ExpertError(f"{path}: does not hold together ({_brief(error)}); train anew") from None
    _check_names(path, manifest)
    return manifest


def training_of(folder: Path) -> str:
    """Key of the training that made these experts; "" where none are, or they do not say."""
    try:
        return str(read_manifest(folder).provenance.get("training", ""))
    except ExpertError:
        return ""


def tower_files(folder: Path) -> dict[str, TowerFile]:
    """Size and hash of every file in the towers folder of ``folder``, by name."""
    return {
        path.name: TowerFile(size=path.stat().st_size, sha256=hash_file(path))
        for path in sorted((folder / TOWERS_FOLDER).iterdir())
    }


def check_tower_sizes(folder: Path, manifest: Manifest) -> None:
    """Tower files that are there are ours and whole; for every byte see ``check_towers``.

    Raises:
        ExpertError: a tower of another name or size.
    """
    for path in (folder / TOWERS_FOLDER).glob("*.onnx"):
        expected = manifest.tower_files.get(path.name)
        if expected is None or path.stat().st_size != expected.size:
            raise ExpertError(
                f"{path}: is not the tower the experts were saved with; delete it or train anew"
            )


def check_towers(folder: Path) -> None:
    """Check every byte of the tower files that are there; about 0.2 s for the small towers.

    Raises:
        ExpertError: as ``read_manifest``, or a tower file that was altered.
    """
    manifest = read_manifest(folder)
    check_tower_sizes(folder, manifest)
    for name, expected in manifest.tower_files.items():
        path = folder / TOWERS_FOLDER / name
        if path.is_file() and hash_file(path) != expected.sha256:
            raise ExpertError(f"{path}: was altered since training; delete it or train anew")


def _check_names(path: Path, manifest: Manifest) -> None:
    """The manifest names the files we would write and no other: no name leads out of the folder."""
    experts = manifest.experts
    required = {CONFIG_FILE, PLATFORMS_FILE, *map(expert_file, experts)}
    good = (
        bool(experts)
        and len(set(experts)) == len(experts)
        and set(experts) <= set(BY_NAME)
        and required <= set(manifest.files) <= required | set(map(adapter_file, experts))
        and all(Path(name).name == name and ".onnx" in name for name in manifest.tower_files)
        and {len(c.scale) for c in manifest.calibrations.values()} <= {len(experts)}
    )
    if not good:
        raise ExpertError(f"{path}: names other files or experts than it should; train anew")


def _seal(values: Mapping[str, Any]) -> str:
    return hash_text(json.dumps(values, sort_keys=True))


def _brief(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
