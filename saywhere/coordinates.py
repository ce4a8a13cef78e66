"""Positions as people write them: read with checks, and printed in four notations."""

from __future__ import annotations

import re
from typing import Literal, get_args

from saywhere.errors import InputError

Notation = Literal["decimal", "dms", "utm", "mgrs"]
NOTATIONS: tuple[Notation, ...] = get_args(Notation)
# Not all that float() takes: nan, inf and 1_000 are slips in a position.
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_UTM_SOUTH, _UTM_NORTH = -80.0, 84.0  # where UTM is defined


def parse_numbers(text: str, names: str) -> tuple[float, ...]:
    """Comma-separated numbers.

    Args:
        names: what is wanted, comma-separated: ``LAT,LON``.

    Raises:
        InputError: not as many finite numbers as names.
    """
    parts = [part.strip() for part in text.split(",")]
    wanted = names.split(",")
    if len(parts) != len(wanted) or not all(_NUMBER.fullmatch(part) for part in parts):
        raise InputError(f"{text!r}: is not {names}; give {len(wanted)} numbers, comma-separated")
    return tuple(float(part) for part in parts)


def check_position(lat: float, lon: float, what: str) -> None:
    """Refuse what is no WGS84 position.

    Raises:
        InputError: lat beyond 90 or lon beyond 180 degrees.
    """
    if not (abs(lat) <= 90 and abs(lon) <= 180):  # false for NaN
        raise InputError(
            f"{what} {lat:g},{lon:g}: no WGS84 position; give latitude in [-90, 90] first, then "
            "longitude in [-180, 180]"
        )


def parse_position(text: str) -> tuple[float, float]:
    """``LAT,LON`` in decimal degrees.

    Raises:
        InputError: anything else.
    """
    lat, lon = parse_numbers(text, "LAT,LON")
    check_position(lat, lon, "position")
    return lat, lon


def format_position(lat: float, lon: float, notation: Notation = "decimal") -> str:
    """A position in one of ``NOTATIONS``, to about a decimetre or a metre.

    ``decimal`` is ``lat, lon``; ``dms`` degrees, minutes and tenths of seconds; ``utm`` zone with
    hemisphere (N or S, not the latitude band), easting and northing in metres; ``mgrs`` to a metre.
    UTM ends at 84° N and 80° S: beyond, ``utm`` gives MGRS, which goes on in UPS.
    """
    if notation == "dms":
        return f"{_dms(lat, 'NS')} {_dms(lon, 'EW')}"
    if notation == "utm" and _UTM_SOUTH <= lat <= _UTM_NORTH:
        import utm

        east, north, zone, _ = utm.from_latlon(lat, lon)
        return f"{zone}{'N' if lat >= 0 else 'S'} {east:.0f} {north:.0f}"
    if notation in ("utm", "mgrs"):
        import mgrs

        return str(mgrs.MGRS().toMGRS(lat, lon))
    return f"{lat:.6f}, {lon:.6f}"


def _dms(degrees: float, letters: str) -> str:
    tenths = round(abs(degrees) * 36_000)  # rounded once, so that 59.99″ never prints as 60.0″
    minutes, seconds = divmod(tenths, 600)
    letter = letters[0] if degrees >= 0 else letters[1]
    return f"{minutes // 60}°{minutes % 60:02d}′{seconds / 10:04.1f}″{letter}"
