"""Where exported towers live and how one is found without torch.

File name: ``<name>-<spec>-<build>.onnx``. *spec* is the hash of the tower's configuration with its
pinned weight hash; *build* is the hash of the opset and of the versions that exported it. Where
those packages are installed the build must match (a new torch exports anew); where they are not,
any build of the same spec serves, newest first. A tower that takes adapters is another file, with
their sites in the spec. Weights that lie in a file or folder of one's own without a pinned hash are
part of the build by their files' sizes and times.
"""

from __future__ import annotations

import os
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from saywhere.config import AdapterConfig, ImageTowerConfig, TextTowerConfig
from saywhere.files import hash_text

OPSET = 18
TowerConfig = ImageTowerConfig | TextTowerConfig
NO_ADAPTER = AdapterConfig()
_BUILD_PACKAGES: dict[type[TowerConfig], tuple[str, ...]] = {
    ImageTowerConfig: ("torch", "timm"),
    TextTowerConfig: ("torch", "transformers"),
}


def cache_folder() -> Path:
    """The cache: ``$SAYWHERE_CACHE``, else the user's cache folder of the system."""
    if override := os.environ.get("SAYWHERE_CACHE"):
        return Path(override)
    from platformdirs import user_cache_path

    return user_cache_path("saywhere")


def build_versions(config: TowerConfig) -> dict[str, str] | None:
    """Versions of the packages that export ``config``; None where one is not installed."""
    try:
        return {name: version(name) for name in _BUILD_PACKAGES[type(config)]}
    except PackageNotFoundError:
        return None


def spec_key(config: TowerConfig) -> str:
    """Hash of everything in ``config`` that changes the numbers a tower gives."""
    # The default view's size is a property of the views, not of the exported graph. What adds
    # nothing is left out: towers and experts from before there was a choice keep their names.
    left_out = {"size"} | ({"precision"} if config.precision == "float32" else set())
    if not getattr(config, "words", ""):
        left_out |= {"words"}
    if not getattr(config, "tuned", ""):
        left_out |= {"tuned", "tuned_sha256"}
    return hash_text(type(config).__name__ + config.model_dump_json(exclude=left_out))[:16]


def fingerprint(config: TowerConfig, weight_hash: str, merged: str = "") -> str:
    """Identifies the numbers a tower gives.

    Args:
        weight_hash: SHA-256 of what was loaded.
        merged: hash of the adapter that its weights have taken up.
    """
    return hash_text(f"{spec_key(config)}:{weight_hash}{merged}")[:32]


def tower_file(
    config: TowerConfig,
    versions: dict[str, str],
    adapter: AdapterConfig = NO_ADAPTER,
    merged: str = "",
) -> Path:
    """Where the export of ``config`` with these package versions belongs.

    Args:
        adapter: at whose sites the tower takes adapters.
        merged: hash of the adapter that its weights have taken up.
    """
    parts = [f"{name}={version}" for name, version in versions.items()]
    build = hash_text(";".join([f"opset={OPSET}", *parts, *_own_files(config)]))[:8]
    return cache_folder() / "towers" / f"{_stem(config, adapter, merged)}-{build}.onnx"


def find_tower(
    config: TowerConfig,
    bundle: Path | None,
    adapter: AdapterConfig = NO_ADAPTER,
    merged: str = "",
) -> Path | None:
    """The exported file of ``config``: in ``bundle``, else in the cache, else None."""
    stem = _stem(config, adapter, merged)
    if bundle is not None and (found := _newest(bundle, stem)):
        return found
    versions = build_versions(config)
    if versions is None:
        return _newest(cache_folder() / "towers", stem)
    path = tower_file(config, versions, adapter, merged)
    return path if path.is_file() else None


def carried_merged(config: TowerConfig, bundle: Path, merged: str) -> Path | None:
    """The tower in ``bundle`` whose weights have taken up the adapter with this hash, if any.

    The cache is not looked into: whether experts run merged is a property of their folder.
    """
    return _newest(bundle, _stem(config, NO_ADAPTER, merged))


def _own_files(config: TowerConfig) -> list[str]:
    """Name, size and time of each unpinned file of one's own; empty for other sources."""
    places = list[Path]()
    if config.weights != "package" and config.sha256 is None:
        places += [Path(config.name), Path(config.weights)]
    if isinstance(config, ImageTowerConfig) and config.tuned and config.tuned_sha256 is None:
        places += [Path(config.tuned)]
    files = [file for place in places for file in _files_of(place)]
    found = [(path.name, path.stat()) for path in files]
    return [f"{name}:{status.st_size}:{status.st_mtime_ns}" for name, status in found]


def _files_of(place: Path) -> list[Path]:
    if place.is_file():
        return [place]
    return sorted(file for file in place.iterdir() if file.is_file()) if place.is_dir() else []


def _stem(config: TowerConfig, adapter: AdapterConfig, merged: str) -> str:
    name = re.sub(r"[^A-Za-z0-9_.]+", "-", config.name.rsplit("/", 1)[-1])
    spec = spec_key(config)
    if adapter.rank:  # one graph serves every rank: it names the sites only
        spec = hash_text(spec + adapter.model_dump_json(include={"layers", "targets"}))[:16]
    if merged:
        spec = hash_text(f"{spec}+{merged}")[:16]
    return f"{name}-{spec}"


def _newest(folder: Path, stem: str) -> Path | None:
    files = sorted(folder.glob(f"{stem}-*.onnx"), key=lambda path: path.stat().st_mtime)
    return files[-1] if files else None
