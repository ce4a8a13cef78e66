"""A folder of one's own images: whatever position and platform the files themselves tell."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from saywhere.data.geotext import VIEW_NAMES
from saywhere.data.photo import fault_line, read_photo
from saywhere.data.scan import Scan
from saywhere.data.source import is_file, is_folder, is_unicode
from saywhere.errors import InputError
from saywhere.images import silence
from saywhere.types import Dataset, Platform, Record

if TYPE_CHECKING:
    from affine import Affine

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})
_TIFF_SUFFIXES = frozenset({".tif", ".tiff"})
_FOLDER_NAMES: Mapping[str, Platform] = {
    "satellite": Platform.SATELLITE,
    "drone": Platform.DRONE,
    "ground": Platform.GROUND,
    "street": Platform.GROUND,
}


def read_folder(root: Path, *, skip_bad: bool = False) -> Dataset:
    """Read every image below a folder, with the position its metadata holds.

    ``image_id`` is the path relative to ``root``, POSIX style; records are sorted by it. Hidden
    files and folders are left out. A linked folder is read unless its target was read already, so
    every folder is read once and loops end. Broken metadata never stops the read: such an image has
    no position.

    Platform: a georeferenced GeoTIFF is satellite; a photo with a drone's telemetry or maker is
    drone; else the nearest folder called satellite, drone, ground or street tells (``root`` itself
    included), else the file names ``satellite_view``, ``drone_view`` and ``street_view``; else a
    phone's photo with a position is ground; else it is None.

    Position: WGS84 degrees, of a GeoTIFF's centre or of the camera by XMP or EXIF. A camera without
    a fix writes 0, 0, which is open sea and counts as no position. ``Dataset.notes`` has a line
    about every photo whose metadata could not be used in full.

    Args:
        root: the folder.
        skip_bad: leave out what cannot be read and list it in ``Dataset.skipped``.

    Raises:
        DatasetError: file names that are not Unicode and folders below ``root`` that cannot be
            listed, all of them.
        InputError: no such folder, one that cannot be listed, or no image in it.
    """
    return scan_folder(root).dataset(skip_bad=skip_bad)


def scan_folder(root: Path) -> Scan:
    """As ``read_folder``, but faults are collected.

    Raises:
        InputError: no such folder, one that cannot be listed, or no image in it.
    """
    if not is_folder(root):
        raise InputError(f"{root}: no such folder; name the one that holds the images")
    problems: list[str] = []
    found = {path.relative_to(root).as_posix(): path for path in _image_files(root, problems)}
    if not found and not problems:
        suffixes = " ".join(sorted(IMAGE_SUFFIXES))
        raise InputError(f"{root}: holds no image ({suffixes}); name a folder with images")
    names = sorted(found)
    problems += [
        f"{name!a}: the name is not UTF-8; rename the file"
        for name in names
        if not is_unicode(name)
    ]
    notes: list[str] = []
    records = tuple(_record(root, name, found[name], notes) for name in names if is_unicode(name))
    return Scan("folder", root, records, problems=tuple(problems), notes=tuple(notes))


def _image_files(root: Path, problems: list[str]) -> Iterator[Path]:
    """Image files below root. Real folders come first, so that links never take their names."""
    seen: set[tuple[int, int]] = set()
    folders, links = [root], list[Path]()
    while folders or links:
        folder = folders.pop() if folders else links.pop(0)
        try:
            status = folder.stat()
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            listing = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
        except OSError as error:
            problem = f"cannot be listed ({error.strerror}); check its permissions or move it away"
            if folder == root:
                raise InputError(f"{root}: {problem}") from error
            problems.append(f"{str(folder.relative_to(root))!a}: {problem}")
            continue
        for path in listing:
            if is_folder(path):
                (links if path.is_symlink() else folders).append(path)
            elif path.suffix.lower() in IMAGE_SUFFIXES and is_file(path):
                yield path


def _record(root: Path, image_id: str, path: Path, notes: list[str]) -> Record:
    faults: list[str] = []
    if path.suffix.lower() in _TIFF_SUFFIXES:
        georeferenced, centre = _geotiff(path, faults)
        if georeferenced:
            notes += [fault_line(image_id, faults)] if faults else []
            lat, lon = centre or (None, None)
            return Record(image_id, path, Platform.SATELLITE, lat=lat, lon=lon)
    photo = read_photo(path)
    faults += photo.faults
    notes += [fault_line(image_id, faults)] if faults else []
    return Record(
        image_id,
        path,
        photo.platform or _platform(root, image_id) or photo.likely_platform,
        lat=photo.lat,
        lon=photo.lon,
        footprint=photo.footprint,
        taken=photo.taken,
    )


def _platform(root: Path, image_id: str) -> Platform | None:
    relative = PurePosixPath(image_id)
    for name in [*reversed(relative.parts[:-1]), root.resolve().name]:
        if name.lower() in _FOLDER_NAMES:
            return _FOLDER_NAMES[name.lower()]
    return VIEW_NAMES.get(relative.stem.lower())


def _geotiff(path: Path, faults: list[str]) -> tuple[bool, tuple[float, float] | None]:
    """Whether a TIFF is georeferenced, and the (lat, lon) of its centre in WGS84 degrees."""
    import rasterio
    import rasterio._base
    from rasterio.errors import NotGeoreferencedWarning
    from rasterio.warp import transform

    silence(rasterio._base)
    try:
        with warnings.catch_warnings():
            # No position is an ordinary answer here.
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            # The driver is named because GDAL otherwise opens a VRT under any suffix and follows
            # the files it points to; an absolute path cannot be taken for one of GDAL's prefixes.
            with rasterio.open(path.absolute(), driver="GTiff") as image:
                if image.crs is None and image.transform.is_identity:
                    return False, None
                if image.crs is None or image.transform.is_identity:
                    lacks = "a geotransform" if image.crs else "a CRS"
                    faults.append(f"its georeference lacks {lacks}")
                    return False, None
                x, y = _centre(image.transform, image.width, image.height)
                lons, lats = transform(image.crs, "EPSG:4326", [x], [y])
    except Exception:  # GDAL raises many unrelated types on damaged files
        return False, None
    centre = _position(lats[0], lons[0])
    if centre is None:
        faults.append("its georeference leads off the Earth")
    return True, centre


def _centre(pixel_to_map: Affine, width: int, height: int) -> tuple[float, float]:
    """Map x, y of the image centre; pixel 0, 0 begins at the upper left corner (GDAL's model)."""
    column, row = width / 2, height / 2
    t = pixel_to_map
    return t.a * column + t.b * row + t.c, t.d * column + t.e * row + t.f


def _position(lat: float, lon: float) -> tuple[float, float] | None:
    """The pair, or None where it is no position: out of range, infinite or not a number."""
    if not (math.isfinite(lat) and math.isfinite(lon)):
        return None
    return (float(lat), float(lon)) if abs(lat) <= 90 and abs(lon) <= 180 else None
