"""A folder of trained experts: what ``train`` writes and everything else reads.

    experts/
      experts.json           manifest: format, files with SHA-256, towers, calibrations, provenance
      config.toml            the resolved configuration
      satellite.safetensors  … one file an expert
      platforms.safetensors  the platform classifiers (images, words)
      towers/                the exported frozen towers, hard links where the disk allows

The folder is written whole or not at all, and every file is checked against its hash when read.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from saywhere.classify import PlatformClassifier, classifier_from_arrays
from saywhere.config import Config, FusionMode, dump_config, load_config
from saywhere.errors import ConfigError, ExpertError, InputError
from saywhere.expert import Expert, expert_from_arrays
from saywhere.files import hash_file
from saywhere.fusion import Calibration, neutral
from saywhere.types import FloatArray, Platform

FORMAT = 1
_MANIFEST = "experts.json"
_CONFIG = "config.toml"
_PLATFORMS = "platforms.safetensors"


@dataclass(frozen=True, slots=True)
class ExpertSet:
    """Experts that answer together.

    Attributes:
        config: the resolved configuration they were trained with.
        experts: in the order of ``PLATFORMS``, a generalist last.
        calibrations: by fusion mode; a mode that was not fitted counts similarities as they are.
        image_classifier, word_classifier: platform from image features, from query features.
        towers: fingerprints of the ``image`` and the ``text`` tower.
        provenance: seed, versions, git commit, data hash, timings.
        folder: where it was read from; None before it is saved.
    """

    config: Config
    experts: tuple[Expert, ...]
    calibrations: Mapping[str, Calibration]
    image_classifier: PlatformClassifier | None
    word_classifier: PlatformClassifier | None
    towers: Mapping[str, str]
    provenance: Mapping[str, Any] = field(default_factory=dict)
    folder: Path | None = None

    @property
    def platforms(self) -> tuple[Platform | None, ...]:
        """The platform of each expert, None for a generalist."""
        return tuple(expert.platform for expert in self.experts)

    def calibration(self, mode: FusionMode | None = None) -> Calibration:
        """The fitted calibration of ``mode`` (default: the configured one)."""
        wanted = mode or self.config.fusion.mode
        return self.calibrations.get(wanted, neutral(len(self.experts)))

    def with_mode(self, mode: FusionMode) -> ExpertSet:
        """The same experts, fused otherwise; their image vectors differ, and so does the hash."""
        fusion = self.config.fusion.model_copy(update={"mode": mode})
        return replace(self, config=self.config.model_copy(update={"fusion": fusion}))

    @property
    def hash(self) -> str:
        """Identifies the *image vectors*: heads, gates, views and towers; not the calibration."""
        digest = hashlib.sha256()
        digest.update(json.dumps(dict(self.towers), sort_keys=True).encode())
        digest.update(self.config.views.model_dump_json(include={"test"}).encode())
        digest.update(f"{self.config.fusion.mode};{self.config.towers.image.size}".encode())
        for expert in self.experts:
            digest.update(expert.name.encode())
            _update(digest, expert.arrays())
        if self.image_classifier is not None:
            _update(digest, self.image_classifier.arrays())
        return digest.hexdigest()


def save_experts(
    experts: ExpertSet, folder: Path, towers: Mapping[str, Path], *, overwrite: bool = False
) -> Path:
    """Write ``experts`` to ``folder``, whole or not at all.

    Args:
        towers: the exported tower files to carry along.
        overwrite: replace experts that are there; anything else in the way is never touched.

    Raises:
        InputError: ``folder`` exists and is not an experts folder, or ``overwrite`` is not set.
    """
    from safetensors.numpy import save_file

    check_target(folder, overwrite=overwrite)
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        temporary.chmod(0o755)
        for expert in experts.experts:
            save_file(expert.arrays(), temporary / f"{expert.name}.safetensors")
        save_file(_classifier_arrays(experts), temporary / _PLATFORMS)
        (temporary / _CONFIG).write_text(dump_config(experts.config), "utf-8")
        files = {path.name: hash_file(path) for path in sorted(temporary.iterdir())}
        (temporary / "towers").mkdir()
        for path in towers.values():
            _link_or_copy(path, temporary / "towers" / path.name)
        manifest = _manifest(experts, files)
        (temporary / _MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", "utf-8")
        if folder.exists():
            retired = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.old."))
            folder.replace(retired)
            temporary.replace(folder)
            shutil.rmtree(retired)
        else:
            temporary.replace(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def load_experts(folder: Path) -> ExpertSet:
    """Read a folder of experts and check every file against its hash.

    Raises:
        ExpertError: no experts there, a file missing or altered, another format.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    manifest = _read_manifest(folder)
    try:
        for name, expected in manifest["files"].items():
            if hash_file(folder / Path(name).name) != expected:
                raise ExpertError(f"{folder / name}: was altered since training; train anew")
        experts = tuple(
            replace(
                expert_from_arrays(
                    Platform(name) if name != "generalist" else None,
                    load_file(folder / f"{name}.safetensors"),
                )
            )
            for name in manifest["experts"]
        )
        platforms = load_file(folder / _PLATFORMS)
        calibrations = {
            mode: Calibration(tuple(c["scale"]), tuple(c["offset"]), c["prior_weight"])
            for mode, c in manifest["calibrations"].items()
        }
        towers, provenance = manifest["towers"], manifest["provenance"]
        config = load_config(path=folder / _CONFIG)
    except (OSError, KeyError, TypeError, ValueError, SafetensorError, ConfigError) as error:
        if isinstance(error, ExpertError):
            raise
        cause = (str(error).splitlines() or [""])[0][:160]
        raise ExpertError(
            f"{folder}: the experts cannot be read ({type(error).__name__}: {cause}); train anew"
        ) from None
    return ExpertSet(
        config=config,
        experts=experts,
        calibrations=calibrations,
        image_classifier=_classifier(platforms, "image"),
        word_classifier=_classifier(platforms, "words"),
        towers=towers,
        provenance=provenance,
        folder=folder,
    )


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / _MANIFEST
    try:
        manifest = json.loads(path.read_text("utf-8"))
        found = manifest["format"]
    except FileNotFoundError:
        raise ExpertError(
            f"{folder}: holds no experts ({_MANIFEST} is missing); "
            f"train some: saywhere train DATA --out {folder}"
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ExpertError(f"{path}: cannot be read ({error}); train anew") from None
    if found != FORMAT:
        raise ExpertError(
            f"{path}: format {found!r}, this version reads {FORMAT}; "
            "train anew or install the version that wrote it"
        )
    return dict(manifest)


def _manifest(experts: ExpertSet, files: Mapping[str, str]) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "hash": experts.hash,
        "experts": [expert.name for expert in experts.experts],
        "files": dict(files),
        "towers": dict(experts.towers),
        "calibrations": {
            mode: {
                "scale": list(calibration.scale),
                "offset": list(calibration.offset),
                "prior_weight": calibration.prior_weight,
            }
            for mode, calibration in experts.calibrations.items()
        },
        "provenance": dict(experts.provenance),
    }


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


def check_target(folder: Path, *, overwrite: bool) -> None:
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not (folder / _MANIFEST).is_file():
        raise InputError(f"{folder}: exists and holds no experts; choose another --out")
    if not overwrite:
        raise InputError(
            f"{folder}: already holds experts; add --overwrite or choose another --out"
        )


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another disk, or a file system without hard links
        shutil.copyfile(source, target)


def _update(digest: Any, arrays: Mapping[str, FloatArray]) -> None:
    for name in sorted(arrays):
        digest.update(name.encode())
        digest.update(arrays[name].astype("<f4").tobytes())
