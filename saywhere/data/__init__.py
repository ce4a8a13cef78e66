"""Readers: a path in, a Dataset of records, captions and queries out. Nothing is decoded yet."""

from __future__ import annotations

from codecs import BOM_UTF8
from collections.abc import Callable
from pathlib import Path

from saywhere.data.folder import scan_folder
from saywhere.data.geojson import load_bounded
from saywhere.data.geotext import scan_geotext
from saywhere.data.hrefs import OWN_FOLDER, Hrefs
from saywhere.data.rsicd import scan_rsicd, split_of
from saywhere.data.scan import Scan
from saywhere.data.source import is_file, is_folder
from saywhere.data.stac import CATALOGUES, is_stac, scan_stac
from saywhere.data.table import SUFFIXES, scan_table
from saywhere.data.track4 import IMAGES_FOLDER, QUERIES_PATTERN, scan_track4
from saywhere.errors import InputError
from saywhere.types import Dataset

_BEGINNING = 1024  # bytes, for a byte order mark and blanks

__all__ = ["read", "recognise", "scan"]


def read(path: Path, *, skip_bad: bool = False, hrefs: Hrefs = OWN_FOLDER) -> Dataset:
    """Read whatever lies at a path, as ``recognise`` tells it.

    Args:
        path: a GeoText JSON file, a table (CSV, TSV, Parquet, GeoJSON), an RSICD folder or a list
            of names in it, a Track 4 folder, STAC items, or a folder of images.
        skip_bad: leave entries that cannot be used out and list them in ``Dataset.skipped``.
        hrefs: where the assets of STAC items may lie.

    Raises:
        DatasetError: entries that cannot be used or images that are missing, all of them listed;
            with ``skip_bad`` only where no image is left without them.
        InputError: nothing that can be read, or as the reader of that kind raises.
    """
    return scan(path, hrefs).dataset(skip_bad=skip_bad)


def scan(path: Path, hrefs: Hrefs = OWN_FOLDER) -> Scan:
    """As ``read``, but the faults of entries are collected instead of raised.

    Raises:
        InputError: nothing that can be read, or as the reader of that kind raises.
    """
    scans: dict[str, Callable[[Path], Scan]] = {
        "geotext": scan_geotext,
        "table": scan_table,
        "rsicd": _scan_rsicd,
        "track4": scan_track4,
        "stac": lambda path: scan_stac(path, hrefs),
        "folder": scan_folder,
    }
    return scans[recognise(path)](path)


def recognise(path: Path) -> str:
    """Which kind of dataset lies at a path: one of those of ``Dataset.kind``.

    Raises:
        InputError: nothing there, a file of another kind, a GeoText folder (whose files must be
            named one by one: training and test must not mix) or half a Track 4 folder.
    """
    if split_of(path) is not None:
        return "rsicd"
    if is_file(path):
        if path.suffix.lower() == ".json":
            return _recognise_json(path)
        if path.suffix.lower() in SUFFIXES:
            return "table"
        raise InputError(
            f"{path}: is no dataset; name a GeoText or STAC .json file, a .csv, .tsv, .parquet or "
            ".geojson table, an RSICD or Track 4 folder, or an image folder"
        )
    if not is_folder(path):
        raise InputError(f"{path}: no such file or folder; check the path")
    if any(_is_catalogue(path / name) for name in CATALOGUES):
        return "stac"
    if is_folder(path / IMAGES_FOLDER):
        return "track4"
    if any(path.glob(QUERIES_PATTERN)):
        raise InputError(f"{path}: has queries but no {IMAGES_FOLDER}; unpack the images there")
    annotations = sorted({*path.glob("train*.json"), *path.glob("test_*.json")})
    if annotations:
        names = " or ".join(file.name for file in annotations)
        raise InputError(f"{path}: is a GeoText folder; name one of its files: {names}")
    return "folder"


def _recognise_json(path: Path) -> str:
    """By its beginning: GeoText files are lists, and some are too large to be parsed twice."""
    try:
        with path.open("rb") as file:
            begins = file.read(_BEGINNING).removeprefix(BOM_UTF8).lstrip()
        if not begins.startswith(b"{"):
            return "geotext"
        value = load_bounded(path)
    except (OSError, InputError):  # the reader says what is wrong
        return "geotext"
    if is_stac(value):
        return "stac"
    kind = value.get("type") if isinstance(value, dict) else None
    return "table" if kind == "FeatureCollection" else "geotext"


def _is_catalogue(path: Path) -> bool:
    try:
        return is_file(path) and is_stac(load_bounded(path))
    except (OSError, InputError):  # a file of something else
        return False


def _scan_rsicd(path: Path) -> Scan:
    root, split = split_of(path) or (path, "train")
    return scan_rsicd(root, split)
