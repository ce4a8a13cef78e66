"""Frozen towers: any timm image tower, any Hugging Face text tower, run by ONNX Runtime.

A tower is exported once (``export``, needs torch) to one self-contained ONNX file in the cache:
weights, normalisation, tokenizer and provenance travel inside it. Running it (``runtime``) needs
ONNX Runtime and tokenizers only, so searching never imports torch.
"""

from __future__ import annotations

from pathlib import Path

from saywhere.adapters import Adapter
from saywhere.config import AdapterConfig, ImageTowerConfig, TextTowerConfig
from saywhere.hardware import Runtime
from saywhere.towers.cache import NO_ADAPTER, cache_folder, find_tower
from saywhere.towers.runtime import ImageTower, TextTower

__all__ = ["ImageTower", "TextTower", "cache_folder", "find_tower", "image_tower", "text_tower"]


def image_tower(
    config: ImageTowerConfig,
    *,
    runtime: Runtime | None = None,
    bundle: Path | None = None,
    adapter: AdapterConfig = NO_ADAPTER,
    merged: Adapter | None = None,
) -> ImageTower:
    """The image tower of ``config``, exported on first use.

    Args:
        runtime: threads and device; by default all usable cores, and the GPU where there is one.
        bundle: a folder of exported towers that is looked into before the cache.
        adapter: with a rank, the tower that takes adapters at these sites; without one its numbers
            are those of the plain tower.
        merged: an adapter that is part of the weights: a tower of its own, which needs no adapter
            at run time and as much memory again.

    Raises:
        TowerError: weights missing, altered, or of another architecture, or
            a device that is not there.
        MissingExtraError: an export is needed and torch is not installed.
    """
    path = find_tower(config, bundle, adapter, merged.hash if merged else "")
    if path is None:
        from saywhere.towers.export import export_image_tower

        path = export_image_tower(config, adapter, merged)
    return ImageTower(path, runtime=runtime)


def text_tower(
    config: TextTowerConfig,
    *,
    runtime: Runtime | None = None,
    bundle: Path | None = None,
    adapter: AdapterConfig = NO_ADAPTER,
    merged: Adapter | None = None,
) -> TextTower:
    """The text tower of ``config``, exported on first use; arguments and errors as above."""
    path = find_tower(config, bundle, adapter, merged.hash if merged else "")
    if path is None:
        from saywhere.towers.export import export_text_tower

        path = export_text_tower(config, adapter, merged)
    return TextTower(path, runtime=runtime)
