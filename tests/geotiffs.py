"""GeoTIFFs of the tests, written as others write them."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

UTM = "EPSG:32632"
NORTH_UP = (0.5, 0.0, 649_188.0, 0.0, -0.5, 5_318_236.0)  # half-metre pixels


def write_raster(
    path: Path,
    pixels: NDArray[Any],
    *,
    crs: str | None = UTM,
    to_map: tuple[float, ...] = NORTH_UP,
    **profile: Any,
) -> Path:
    """(bands, rows, columns) as a GeoTIFF.

    Args:
        to_map: a, b, c, d, e, f of x = a column + b row + c, y = d column + e row + f.
        profile: of GDAL's driver, and ``overviews``, ``colormap``, ``colorinterp`` and ``mask``.
    """
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning

    path.parent.mkdir(parents=True, exist_ok=True)
    later = {name: profile.pop(name, None) for name in ("overviews", "colormap", "colorinterp")}
    mask = profile.pop("mask", None)
    count, rows, columns = pixels.shape
    with warnings.catch_warnings(), rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(
            path, "w", driver="GTiff", width=columns, height=rows, count=count,
            dtype=pixels.dtype, crs=crs, transform=rasterio.Affine(*to_map), **profile,
        ) as file:  # fmt: skip
            if later["colorinterp"]:
                file.colorinterp = later["colorinterp"]
            file.write(pixels)
            if later["colormap"]:
                file.write_colormap(1, later["colormap"])
            if mask is not None:
                file.write_mask(mask)
            if later["overviews"]:
                file.build_overviews(later["overviews"])
    return path


def noise(bands: int, rows: int, columns: int, *, seed: int = 0) -> NDArray[np.uint8]:
    """Blocks of 8 pixels, so that a smaller picture still shows them."""
    small = np.random.default_rng(seed).integers(0, 256, (bands, -(-rows // 8), -(-columns // 8)))
    return np.kron(small, np.ones((1, 8, 8)))[:, :rows, :columns].astype(np.uint8)
