"""Embeds images that are on no disk, by the same views, towers and fusion as ``embed``."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from saywhere.embed import fold_image_features, image_adapters, query_views
from saywhere.expert_set import ExpertSet
from saywhere.expert_towers import ExpertTowers
from saywhere.hardware import Runtime
from saywhere.types import FloatArray, IntArray
from saywhere.views import render

if TYPE_CHECKING:
    from PIL.Image import Image

    from saywhere.adapters import Adapter
    from saywhere.towers import ImageTower


def embed_decoded(
    experts: ExpertSet, images: Iterable[Image], known: IntArray, runtime: Runtime | None = None
) -> FloatArray:
    """Folded vectors of decoded images; nothing is cached.

    Args:
        images: n upright RGB images.
        known: (n,) platforms, as ``embed.platform_codes`` gives them.

    Returns:
        (n, d) float32.

    Raises:
        ExpertError: the towers are not those the experts were trained with.
    """
    opened = ExpertTowers(experts, runtime)
    towers = {key: opened.image(adapter) for key, adapter in image_adapters(experts).items()}
    first = next(iter(towers.values()))[0]  # towers of one set of experts share size and workers
    views = query_views(experts)
    if not first.any_size:
        views = tuple(replace(view, scale=1.0) for view in views)
    size = experts.config.towers.image.size

    def seen(image: Image) -> list[FloatArray]:
        pixels = [render(image, view, size) for view in views]
        return [_features(tower, pixels, adapter) for tower, adapter in towers.values()]

    with ThreadPoolExecutor(first.workers) as pool:
        found = list(pool.map(seen, images))
    features = {key: [one[at] for one in found] for at, key in enumerate(towers)}
    return fold_image_features(experts, features, known)


def _features(tower: ImageTower, pixels: list[np.ndarray], adapter: Adapter | None) -> FloatArray:
    """(views, dimension) float32 of one image's views, those of one edge together."""
    out = np.empty((len(pixels), tower.dimension), np.float32)
    for edge in {len(view) for view in pixels}:
        rows = [row for row, view in enumerate(pixels) if len(view) == edge]
        out[rows] = tower.encode(np.stack([pixels[row] for row in rows]), adapter)
    return out
