"""A GeoJSON file of one's own images: a feature an image, with a point or a polygon."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from saywhere.data.geometry import read_geometry
from saywhere.data.rows import COLUMNS, RowCollector
from saywhere.data.scan import Scan
from saywhere.data.source import is_file, load_json, shown_value
from saywhere.errors import InputError

MAX_BYTES = 200_000_000  # some hundred thousand features; parsed JSON takes ten times its size
_IMAGE_NAMES = ("image", "path", "href")
_TIME_NAMES = ("taken", "datetime")
_WGS84 = ("CRS84", "EPSG::4326", "EPSG:4326")


def scan_geojson(path: Path) -> Scan:
    """A FeatureCollection whose features name their image as ``image``, ``path`` or ``href``.

    Other properties are the columns of a CSV table; ``caption`` may be a list of texts. A Point is
    the position, a Polygon the footprint; ``lat`` and ``lon`` properties come first.

    Raises:
        InputError: a file that is missing, too large, no GeoJSON, or in another CRS than WGS84.
    """
    features = load_features(path)
    collector = RowCollector(path.parent, "feature")
    for number, feature in enumerate(features, start=1):
        properties = feature.get("properties") if isinstance(feature, Mapping) else None
        if not isinstance(feature, Mapping) or not isinstance(properties, Mapping):
            collector.problems.append(f"feature {number}: has no properties; name its image there")
            continue
        try:
            ground = read_geometry(feature.get("geometry"))
        except InputError as error:
            collector.problems.append(f"feature {number}: {error}")
            continue
        collector.add_values(number, _values(properties), ground)
    return collector.scan(path)


def load_features(path: Path) -> list[object]:
    """The features of a FeatureCollection in WGS84.

    Raises:
        InputError: a file that is missing, too large, no GeoJSON, or in another CRS than WGS84.
    """
    value = load_bounded(path)
    features = value.get("features") if isinstance(value, Mapping) else None
    if not isinstance(value, Mapping) or not isinstance(features, list):
        raise InputError(f"{path}: is no FeatureCollection; export the layer as GeoJSON")
    crs = value.get("crs")  # of GeoJSON before RFC 7946; GDAL still writes it
    properties = crs.get("properties") if isinstance(crs, Mapping) else None
    name = properties.get("name") if isinstance(properties, Mapping) else crs
    if name is not None and not (isinstance(name, str) and name.endswith(_WGS84)):
        raise InputError(f"{path}: is in {shown_value(name)}; export it in WGS84 (EPSG:4326)")
    return features


def load_bounded(path: Path) -> object:
    """The value of a JSON file that is not larger than ``MAX_BYTES``.

    Raises:
        InputError: larger, or as ``load_json``.
    """
    if is_file(path) and (size := path.stat().st_size) > MAX_BYTES:
        raise InputError(f"{path}: {size:,} bytes exceed {MAX_BYTES:,}; divide it into files")
    return load_json(path)


def _values(properties: Mapping[str, object]) -> dict[str, object]:
    """Properties by the names of columns, in any case."""
    named = {str(name).strip().lower(): value for name, value in properties.items()}
    values = {name: named.get(name) for name in COLUMNS}
    for target, names in (("image", _IMAGE_NAMES), ("taken", _TIME_NAMES)):
        given = (named[name] for name in names if named.get(name) is not None)
        values[target] = next(given, None)
    return values
