"""Hits and places for other software: GeoJSON, CSV, KML, GPX. Every text is escaped for its reader.

File names and place names may come from anywhere. A spreadsheet must not run them as formulas,
Google Earth must not render them as HTML, and a terminal must not obey them.
"""

from __future__ import annotations

import csv
import html
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal
from xml.etree import ElementTree as ET  # only ever writes here

from saywhere.coordinates import Notation, format_position
from saywhere.errors import printable
from saywhere.geodesy import circle, distances_m
from saywhere.types import Footprint, Hit, Location

Form = Literal["geojson", "csv", "kml", "gpx"]
Value = str | int | float | bool | None

_KML = "http://www.opengis.net/kml/2.2"
_GPX = "http://www.topografix.com/GPX/1/1"
# Control characters, inprintable ones that reorder or hide text, and bytes that are no text.
_UNSHOWN = re.compile(
    "[\\x00-\\x1f\\x7f-\\x9f\\u00ad\\u061c\\u180e\\u200b-\\u200f\\u2028-\\u202e\\u2060-\\u206f"
    "\\ufeff\\ufff9-\\ufffb\\ud800-\\udfff]"
)
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # OWASP, CSV Injection


@dataclass(frozen=True, slots=True)
class Mark:
    """Something on a map.

    Attributes:
        lat, lon: WGS84 degrees; None for an image without a position, which no map shows.
        values: what is told of it, by name.
        regions: radius in metres of circles about it, by name.
        footprint: the ground it shows.
    """

    name: str
    lat: float | None
    lon: float | None
    values: Mapping[str, Value]
    regions: Mapping[str, float] = field(default_factory=dict)
    footprint: Footprint | None = None


def hit_marks(hits: Sequence[Hit]) -> list[Mark]:
    """Marks of images."""
    return [
        Mark(
            hit.image_id,
            hit.lat,
            hit.lon,
            {
                "rank": hit.rank,
                "score": hit.score,
                "probability": hit.probability,
                "platform": hit.platform.value if hit.platform else None,
                "place_id": hit.place_id,
                "image_id": hit.image_id,
                "path": hit.path,
                "window": _window_text(hit),
                "taken": hit.taken.isoformat() if hit.taken else None,
            },
            footprint=hit.footprint,
        )
        for hit in hits
    ]


def place_marks(found: Location) -> list[Mark]:
    """Marks of places, with their regions."""
    return [
        Mark(
            f"{place.rank}. {place.place_id or 'place'} ({place.probability:.0%})",
            place.lat,
            place.lon,
            {
                "rank": place.rank,
                "probability": place.probability,
                "radius_50_m": place.radius_50_m,
                "radius_95_m": place.radius_95_m,
                "calibrated": found.calibrated,
                "place_id": place.place_id,
                "images": place.images,
                "path": place.evidence[0].path,
            },
            {"50 %": place.radius_50_m, "95 %": place.radius_95_m},
        )
        for place in found.places
    ]


def hit_json(hit: Hit) -> dict[str, Any]:
    """A hit's values for JSON: the footprint as a GeoJSON geometry, times in ISO 8601."""
    return asdict(hit) | {
        "footprint": footprint_geometry(hit.footprint) if hit.footprint else None,
        "approximate": hit.footprint.approximate if hit.footprint else None,
        "taken": hit.taken.isoformat() if hit.taken else None,
    }


def footprint_geometry(footprint: Footprint) -> dict[str, Any]:
    """GeoJSON (RFC 7946): a Polygon, or a MultiPolygon where the antimeridian cuts it."""
    polygons = [[ring] for ring in closed_rings(footprint)]
    if len(polygons) == 1:
        return {"type": "Polygon", "coordinates": polygons[0]}
    return {"type": "MultiPolygon", "coordinates": polygons}


def closed_rings(footprint: Footprint) -> list[list[list[float]]]:
    """Closed (lon, lat) rings, counter-clockwise as GeoJSON wants them."""
    return [_oriented([[lon, lat] for lat, lon in ring]) for ring in footprint.rings]


def _oriented(ring: list[list[float]]) -> list[list[float]]:
    following = [*ring[1:], ring[0]]
    area = sum(a[0] * b[1] - b[0] * a[1] for a, b in zip(ring, following, strict=True))
    turned = ring if area >= 0 else ring[::-1]
    return [*turned, turned[0]]


def _window_text(hit: Hit) -> str | None:
    """``column,row,width,height`` in pixels of the file."""
    part = hit.window
    return f"{part.column},{part.row},{part.width},{part.height}" if part else None


def export(marks: Sequence[Mark], form: Form, notation: Notation = "decimal") -> str:
    """One document of all marks; without a position they are in the CSV only.

    Args:
        notation: of the column ``position`` in CSV and of descriptions in KML and GPX; numbers that
            the format itself defines stay WGS84 decimal degrees.
    """
    if form == "csv":
        return _csv(marks, notation)
    placed = [mark for mark in marks if mark.lat is not None and mark.lon is not None]
    writers = {"geojson": _geojson, "kml": _kml, "gpx": _gpx}
    return writers[form](placed, notation)


def plain_json(value: object) -> str:
    """JSON in which nothing can speak to a terminal; still the same value when read."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    return "\n".join(
        _UNSHOWN.sub(lambda found: f"\\u{ord(found[0]):04x}", line) for line in text.split("\n")
    )


def rings(lat: float, lon: float, metres: float) -> list[list[list[float]]]:
    """Closed (lon, lat) rings of a circle, split at the antimeridian (RFC 7946, 3.1.9)."""
    import shapely

    corners = [(east, north) for north, east in circle(lat, lon, metres)]
    pole = 90.0 if lat >= 0 else -90.0
    if float(distances_m(lat, lon, pole, 0)) <= metres:  # it runs around the pole
        edge = min(abs(north) for _, north in corners) * (1 if lat >= 0 else -1)
        cap = shapely.box(-180, min(edge, pole), 180, max(edge, pole))
        return [[list(point) for point in cap.exterior.coords]]
    whole = shapely.Polygon(corners)
    parts = []
    for shift in (-360, 0, 360):
        part = shapely.intersection(whole, shapely.box(-180 + shift, -90, 180 + shift, 90))
        if part.area > 0:
            ring = shapely.geometry.polygon.orient(part).exterior.coords
            parts.append([[x - shift, y] for x, y in ring])
    return parts


def _geojson(marks: Sequence[Mark], notation: Notation) -> str:
    features: list[dict[str, Any]] = []
    for mark in marks:
        lat, lon = _position(mark)
        told = {"name": mark.name, **mark.values, "position": format_position(lat, lon, notation)}
        point = {"type": "Point", "coordinates": [lon, lat]}
        features.append({"type": "Feature", "geometry": point, "properties": told})
        for name, metres in mark.regions.items():
            shape = {
                "type": "MultiPolygon",
                "coordinates": [[ring] for ring in rings(lat, lon, metres)],
            }
            region = {**told, "region": name, "radius_m": metres}
            features.append({"type": "Feature", "geometry": shape, "properties": region})
        if mark.footprint:
            ground = {**told, "region": "footprint", "approximate": mark.footprint.approximate}
            shape = footprint_geometry(mark.footprint)
            features.append({"type": "Feature", "geometry": shape, "properties": ground})
    return plain_json({"type": "FeatureCollection", "features": features}) + "\n"


def _csv(marks: Sequence[Mark], notation: Notation) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    names = list(dict.fromkeys(name for mark in marks for name in mark.values))
    writer.writerow([*names, "lat", "lon", "position"])
    for mark in marks:
        position = "" if mark.lat is None or mark.lon is None else format_position(
            mark.lat, mark.lon, notation
        )  # fmt: skip
        values = [mark.values.get(name) for name in names]
        writer.writerow([*(_cell(value) for value in values), mark.lat, mark.lon, _cell(position)])
    return out.getvalue()


def _cell(value: Value) -> Value:
    """A text that a spreadsheet would run gets an apostrophe, which it hides."""
    if not isinstance(value, str):
        return value
    return f"'{printable(value)}" if value.startswith(_FORMULA) else printable(value)


def _kml(marks: Sequence[Mark], notation: Notation) -> str:
    root = ET.Element("kml", xmlns=_KML)
    document = ET.SubElement(root, "Document")
    for mark in marks:
        lat, lon = _position(mark)
        placemark = ET.SubElement(document, "Placemark")
        _text(placemark, "name", mark.name)
        # Rendered as HTML by its readers: escaped once for that, and by the writer for XML.
        _text(placemark, "description", html.escape(_sentence(mark, notation)))
        point = ET.SubElement(placemark, "Point")
        _text(point, "coordinates", f"{lon!r},{lat!r}")
        for name, metres in mark.regions.items():
            title = f"{mark.name}: {name} within {metres:.0f} m"
            _kml_polygons(document, title, rings(lat, lon, metres))
        if mark.footprint:
            _kml_polygons(document, f"{mark.name}: footprint", closed_rings(mark.footprint))
    return _document(root)


def _kml_polygons(document: ET.Element, title: str, outlines: list[list[list[float]]]) -> None:
    region = ET.SubElement(document, "Placemark")
    _text(region, "name", title)
    shape = ET.SubElement(region, "MultiGeometry")
    for ring in outlines:
        polygon = ET.SubElement(shape, "Polygon")
        line = ET.SubElement(ET.SubElement(polygon, "outerBoundaryIs"), "LinearRing")
        _text(line, "coordinates", " ".join(f"{x!r},{y!r}" for x, y in ring))


def _gpx(marks: Sequence[Mark], notation: Notation) -> str:
    root = ET.Element("gpx", xmlns=_GPX, version="1.1", creator="saywhere")
    for mark in marks:
        lat, lon = _position(mark)
        point = ET.SubElement(root, "wpt", lat=f"{lat:.8f}", lon=f"{lon:.8f}")
        _text(point, "name", mark.name)
        _text(point, "desc", _sentence(mark, notation))
    return _document(root)


def _document(root: ET.Element) -> str:
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _text(parent: ET.Element, name: str, text: str) -> None:
    ET.SubElement(parent, name).text = printable(text)  # XML 1.0 can't hold control characters


def _sentence(mark: Mark, notation: Notation) -> str:
    told = [
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in mark.values.items()
        if value is not None
    ]
    return "; ".join([format_position(*_position(mark), notation), *told])


def _position(mark: Mark) -> tuple[float, float]:
    if mark.lat is None or mark.lon is None:
        raise ValueError(f"{mark.name!r} has no position")
    return mark.lat, mark.lon
