"""Readers: a path in, a Dataset of records, captions and queries out. Nothing is decoded yet."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from saywhere.data.folder import scan_folder
from saywhere.data.geotext import scan_geotext
from saywhere.data.rsicd import scan_rsicd, split_of
from saywhere.data.scan import Scan
from saywhere.data.source import is_file, is_folder
from saywhere.data.table import SUFFIXES, scan_table
from saywhere.data.track4 import IMAGES_FOLDER, QUERIES_PATTERN, scan_track4
from saywhere.errors import InputError
from saywhere.types import Dataset

__all__ = ["read", "recognise", "scan"]


def read(path: Path, *, skip_bad: bool = False) -> Dataset:
    """Read whatever lies at a path, as ``recognise`` tells it.

    Args:
        path: a GeoText JSON file, a table (CSV, TSV, Parquet, GeoJSON), an RSICD folder or a list
            of names in it, a Track 4 folder, or a folder of images.
        skip_bad: leave entries that cannot be used out and list them in ``Dataset.skipped``.

    Raises:
        DatasetError: entries that cannot be used or images that are missing, all of them listed;
            with ``skip_bad`` only where no image is left without them.
        InputError: nothing that can be read, or as the reader of that kind raises.
    """
    return scan(path).dataset(skip_bad=skip_bad)


def scan(path: Path) -> Scan:
    """As ``read``, but the faults of entries are collected instead of raised.

    Raises:
        InputError: nothing that can be read, or as the reader of that kind raises.
    """
    scans: dict[str, Callable[[Path], Scan]] = {
        "geotext": scan_geotext,
        "table": scan_table,
        "rsicd": _scan_rsicd,
        "track4": scan_track4,
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
            return "geotext"
        if path.suffix.lower() in SUFFIXES:
            return "table"
        raise InputError(
            f"{path}: is no dataset; name a GeoText .json file, a .csv, .tsv, .parquet or .geojson "
            "table, an RSICD or Track 4 folder, or an image folder"
        )
    if not is_folder(path):
        raise InputError(f"{path}: no such file or folder; check the path")
    if is_folder(path / IMAGES_FOLDER):
        return "track4"
    if any(path.glob(QUERIES_PATTERN)):
        raise InputError(f"{path}: has queries but no {IMAGES_FOLDER}; unpack the images there")
    annotations = sorted({*path.glob("train*.json"), *path.glob("test_*.json")})
    if annotations:
        names = " or ".join(file.name for file in annotations)
        raise InputError(f"{path}: is a GeoText folder; name one of its files: {names}")
    return "folder"


def _scan_rsicd(path: Path) -> Scan:
    root, split = split_of(path) or (path, "train")
    return scan_rsicd(root, split)
