"""How pictures carry their position: GeoTIFF tags for tiles, EXIF GPS for photos."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, TiffImagePlugin
from PIL.ExifTags import GPS, IFD, Base

from saywhere.world.model import Shot
from saywhere.world.render import Pixels

JPEG_QUALITY = 90
SECOND_PARTS = 10_000  # EXIF seconds to 1/10000: 3 mm on the ground


def write_geotiff(
    path: Path, pixels: Pixels, epsg: int, corner: tuple[float, float], metres_px: float
) -> None:
    """Write (rows, columns, 3) uint8, north up, as a deflated RGB GeoTIFF.

    Args:
        epsg: a projected CRS in metres.
        corner: (easting, northing) in metres of the outer corner of the north-west pixel.
    """
    import rasterio
    from rasterio.io import MemoryFile

    rows, columns = pixels.shape[:2]
    layout = {"tiled": True, "blockxsize": 256, "blockysize": 256} if rows > 1024 else {}
    # In memory first: GDAL says nothing of a disk that fills up while a file is being closed.
    with MemoryFile() as memory:
        with memory.open(
            driver="GTiff",
            width=columns,
            height=rows,
            count=3,
            dtype="uint8",
            crs=f"EPSG:{epsg}",
            transform=rasterio.Affine(metres_px, 0.0, corner[0], 0.0, -metres_px, corner[1]),
            compress="deflate",
            predictor=2,
            photometric="RGB",
            **layout,
        ) as file:
            file.write(np.moveaxis(pixels, 2, 0))
        path.write_bytes(memory.read())


def write_jpeg(path: Path, pixels: Pixels, exif: Image.Exif | None = None) -> None:
    """Write (rows, columns, 3) uint8 as a JPEG; the same pixels give the same scan data."""
    extra = {} if exif is None else {"exif": exif}
    Image.fromarray(pixels).save(path, "JPEG", quality=JPEG_QUALITY, **extra)


def _degrees(value: float) -> tuple[TiffImagePlugin.IFDRational, ...]:
    """Degrees, minutes, seconds of an unsigned angle as EXIF rationals."""
    parts = round(abs(value) * 3600 * SECOND_PARTS)
    minutes, seconds = divmod(parts, 60 * SECOND_PARTS)
    rational = TiffImagePlugin.IFDRational
    return (
        rational(minutes // 60, 1),
        rational(minutes % 60, 1),
        rational(seconds, SECOND_PARTS),
    )


def shot_exif(shot: Shot, minute: int) -> Image.Exif:
    """EXIF of one photo: camera position in WGS84, height above the ground as altitude, time.

    Args:
        minute: minutes after nine o'clock on the day of the flight.
    """
    exif = Image.Exif()
    exif[Base.Make] = "saywhere"
    exif[Base.Model] = f"procedural {shot.platform} camera"
    hour, minute = divmod(minute % (14 * 60), 60)
    exif[Base.DateTime] = f"2025:06:01 {9 + hour:02d}:{minute:02d}:00"
    gps = exif.get_ifd(IFD.GPSInfo)
    gps[GPS.GPSVersionID] = b"\x02\x03\x00\x00"
    gps[GPS.GPSLatitudeRef] = "N" if shot.lat >= 0 else "S"
    gps[GPS.GPSLatitude] = _degrees(shot.lat)
    gps[GPS.GPSLongitudeRef] = "E" if shot.lon >= 0 else "W"
    gps[GPS.GPSLongitude] = _degrees(shot.lon)
    gps[GPS.GPSAltitudeRef] = b"\x00"
    gps[GPS.GPSAltitude] = TiffImagePlugin.IFDRational(round(shot.height_m * 100), 100)
    return exif
