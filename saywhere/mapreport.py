"""An answer of ``locate`` as one HTML file: a map, the places, and the images that speak for them.

The file holds everything it shows, runs no script and loads nothing, and its content policy keeps
it so. Every text in it is escaped: descriptions and file names are anybody's.
"""

from __future__ import annotations

import base64
import html
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from saywhere.background import Extent, orthophoto
from saywhere.coordinates import format_position
from saywhere.errors import ImageError, printable
from saywhere.rasters import read_part
from saywhere.report import location_lines
from saywhere.scored_images import ScoredImages
from saywhere.types import Hit, Location, Place, Window

_WIDTH = 1000  # of the map, in its own units
_THUMBNAIL = 168
_LEAST_M = 150.0  # half of the map's edge, at the least
_STYLE = """
body{font:15px/1.45 system-ui,sans-serif;margin:0 auto;max-width:1060px;padding:24px;color:#1c2330;
background:#f6f7f9}
h1{font-size:22px;margin:0 0 4px}h2{font-size:17px;margin:0}
blockquote{margin:6px 0;padding:6px 12px;border-left:3px solid #2f6fde;background:#fff}
.warn{background:#fff3d6;border-left:3px solid #d08a00;padding:6px 12px;margin:6px 0}
svg{width:100%;height:auto;background:#e4e8ee;border:1px solid #c8ced8;border-radius:6px}
section{background:#fff;border:1px solid #dde1e8;border-radius:6px;padding:12px 16px;margin:12px 0}
.meta{color:#566074}figure{display:inline-block;margin:8px 10px 0 0;vertical-align:top;width:168px}
figcaption{font-size:12px;color:#566074;overflow-wrap:anywhere}
figure img,figure .none{width:168px;height:126px;object-fit:cover;border-radius:4px;
background:#dde1e8;display:flex;align-items:center;justify-content:center;font-size:12px}
"""


@dataclass(frozen=True, slots=True)
class _Frame:
    """The map's piece of the Earth, and its picture's size; an equirectangular projection."""

    extent: Extent
    height: float

    def at(self, lat: float, lon: float) -> tuple[float, float]:
        """(x, y) in the map's units."""
        extent = self.extent
        turn = (lon - extent.west + 540) % 360 - 180  # a longitude may be written 360° off
        return (
            _WIDTH * turn / (extent.east - extent.west),
            self.height * (extent.north - lat) / (extent.north - extent.south),
        )

    @property
    def metres_unit(self) -> float:
        """Metres a unit of the map."""
        return self.extent.height_m / self.height


def map_report(
    found: Location,
    descriptions: Sequence[str],
    photos: Sequence[Path],
    images: ScoredImages,
    chart: Path | None = None,
) -> str:
    """The report; images that cannot be decoded any more are named and left blank.

    Args:
        images: the index, of whose satellite tiles the map's background is made.
        chart: a GeoTIFF to make it of instead.

    Raises:
        InputError: ``chart`` shows nothing of the map.
    """
    asked = [f"<blockquote>{_text(text)}</blockquote>" for text in descriptions]
    asked += [_figure(path, None, str(path)) for path in photos]
    warnings = [f'<p class="warn">{_text(line)}</p>' for line in location_lines(found)]
    places = [_section(place) for place in found.places]
    return "\n".join([
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'\">",
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>Places found</title><style>{_STYLE}</style></head><body>",
        f"<h1>{_headline(found)}</h1>",
        *asked,
        *warnings,
        _map(found, images, chart) if found.places else "",
        *places,
        "</body></html>",
        "",
    ])  # fmt: skip


def _headline(found: Location) -> str:
    if not found.confident:
        return "No confident match"
    place = found.places[0]
    return _text(f"{place.probability:.0%}: {format_position(place.lat, place.lon)}")


def _text(text: str) -> str:
    return html.escape(printable(text))


def _section(place: Place) -> str:
    shown: dict[str, Hit] = {}
    for hit in place.evidence:  # the best of each platform
        shown.setdefault(hit.platform.value if hit.platform else "unknown platform", hit)
    figures = [
        _figure(Path(hit.path), hit.window, f"{name} · {hit.score:.3f} · {hit.image_id}")
        for name, hit in shown.items()
    ]
    where = " · ".join(format_position(place.lat, place.lon, n) for n in ("decimal", "mgrs"))
    name = f" · {place.place_id}" if place.place_id else ""
    return (
        f"<section><h2>{place.rank}. {_text(f'{place.probability:.1%}{name}')}</h2>"
        f'<div class="meta">{_text(where)} · if it is this place: 50 % within '
        f"{place.radius_50_m:.0f} m, 95 % within {place.radius_95_m:.0f} m · "
        f"{place.images} images</div>{''.join(figures)}</section>"
    )


def _figure(path: Path, window: Window | None, caption: str) -> str:
    try:
        picture = read_part(path, window)
    except (ImageError, OSError):
        seen = '<div class="none">cannot be read</div>'
    else:
        picture.thumbnail((2 * _THUMBNAIL, 2 * _THUMBNAIL))
        seen = f'<img alt="" src="{_data_uri(picture)}">'
    return f"<figure>{seen}<figcaption>{_text(caption)}</figcaption></figure>"


def _data_uri(picture: object) -> str:
    content = io.BytesIO()
    picture.save(content, "JPEG", quality=80)  # type: ignore[attr-defined]
    return f"data:image/jpeg;base64,{base64.b64encode(content.getvalue()).decode('ascii')}"


def _frame(found: Location) -> _Frame:
    """All listed places with their regions, and a margin."""
    first = found.places[0]
    metres_lat = math.pi / 180 * 6_371_008.8
    metres_lon = metres_lat * max(math.cos(math.radians(first.lat)), 0.02)
    east, north = [], []
    for place in found.places:
        turn = (place.lon - first.lon + 540) % 360 - 180
        for sign in (-1, 1):
            east.append(turn * metres_lon + sign * place.radius_95_m)
            north.append((place.lat - first.lat) * metres_lat + sign * place.radius_95_m)
    middle = (min(east) + max(east)) / 2, (min(north) + max(north)) / 2
    half = [max(1.15 * (max(v) - min(v)) / 2, _LEAST_M) for v in (east, north)]
    half = [max(half[0], half[1] / 0.75), max(half[1], half[0] / 3)]  # neither tower nor ribbon
    lat, lon = first.lat + middle[1] / metres_lat, first.lon + middle[0] / metres_lon
    extent = Extent(
        west=lon - half[0] / metres_lon,
        south=max(lat - half[1] / metres_lat, -90),
        east=lon + half[0] / metres_lon,
        north=min(lat + half[1] / metres_lat, 90),
    )
    return _Frame(extent, _WIDTH * half[1] / half[0])


def _map(found: Location, images: ScoredImages, chart: Path | None) -> str:
    frame = _frame(found)
    parts = [f'<svg viewBox="0 0 {_WIDTH} {frame.height:.0f}" role="img" aria-label="map">']
    picture = orthophoto(images, frame.extent, (_WIDTH, round(frame.height)), chart)
    if picture is not None:
        parts.append(f'<image width="{_WIDTH}" height="{frame.height:.0f}" '
                     f'preserveAspectRatio="none" href="{_data_uri(picture)}"/>')  # fmt: skip
    parts += _graticule(frame)
    if found.radius_95_m is not None:
        parts += _circle(frame, found.places[0], found.radius_95_m, 'stroke="#b3261e" '
                         'stroke-dasharray="10 7" fill="none"')  # fmt: skip
    for place in reversed(found.places):
        strength = 0.25 + 0.5 * place.probability
        for radius, fill in ((place.radius_95_m, 0.5 * strength), (place.radius_50_m, strength)):
            style = f'stroke="#12409a" fill="#2f6fde" fill-opacity="{fill:.2f}"'
            parts += _circle(frame, place, radius, style)
    for place in reversed(found.places):
        x, y = frame.at(place.lat, place.lon)
        parts.append(  # a disc, since a region of a few metres shows on no map of a town
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="13" fill="#12409a" stroke="#fff" '
            f'stroke-width="2"/><text x="{x:.1f}" y="{y + 5.5:.1f}" text-anchor="middle" '
            f'font-size="16" font-weight="700" fill="#fff">{place.rank}</text>'
        )
    return "".join([*parts, *_scale(frame), "</svg>"])


def _circle(frame: _Frame, place: Place, metres: float, style: str) -> list[str]:
    x, y = frame.at(place.lat, place.lon)
    radius = metres / frame.metres_unit
    return [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" stroke-width="2" {style}/>']


def _graticule(frame: _Frame) -> list[str]:
    """Lines of equal latitude and longitude, about five each way."""
    extent, out = frame.extent, []
    line = 'stroke="#fff" stroke-opacity="0.65" stroke-width="1"'
    label = 'font-size="13" fill="#12203c" stroke="#fff" stroke-width="3" paint-order="stroke"'
    for value in _steps(extent.south, extent.north):
        y = frame.at(value, extent.west)[1]
        out.append(f'<path d="M0 {y:.1f}H{_WIDTH}" {line}/><text x="6" y="{y - 4:.1f}" {label}>'
                   f"{value:.5f}</text>")  # fmt: skip
    for value in _steps(extent.west, extent.east):
        x = _WIDTH * (value - extent.west) / (extent.east - extent.west)
        lon = (value + 540) % 360 - 180
        out.append(f'<path d="M{x:.1f} 0V{frame.height:.0f}" {line}/>'
                   f'<text x="{x + 4:.1f}" y="15" {label}>{lon:.5f}</text>')  # fmt: skip
    return out


def _steps(low: float, high: float) -> list[float]:
    step = _round_number((high - low) / 4)
    return [n * step for n in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _round_number(value: float) -> float:
    """The largest of 1, 2, 5 times a power of ten that isn't above ``value``."""
    power = 10.0 ** math.floor(math.log10(value))
    return float(max(factor * power for factor in (1, 2, 5) if factor * power <= value * 1.000001))


def _scale(frame: _Frame) -> list[str]:
    """A scale bar at the lower right: latitudes stand on the left, longitudes above."""
    metres = _round_number(frame.metres_unit * _WIDTH / 4)
    length, y = metres / frame.metres_unit, frame.height - 24
    x = _WIDTH - length - 28
    name = f"{metres / 1000:g} km" if metres >= 1000 else f"{metres:g} m"
    return [
        f'<rect x="{x - 12:.0f}" y="{y - 20:.0f}" width="{length + 24:.0f}" height="36" '
        f'fill="#fff" fill-opacity="0.85" rx="4"/>'
        f'<path d="M{x:.1f} {y:.0f}v8h{length:.1f}v-8" fill="none" '
        f'stroke="#12203c" stroke-width="2"/><text x="{x:.1f}" y="{y - 4:.0f}" font-size="14" '
        f'fill="#12203c">{name}</text>'
    ]
