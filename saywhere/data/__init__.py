"""Readers: a path in, a Dataset of records, captions and queries out. Nothing is decoded yet."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from saywhere.data.folder import read_folder
from saywhere.data.geotext import read_geotext
from saywhere.data.source import is_file, is_folder
from saywhere.data.track4 import IMAGES_FOLDER, QUERIES_PATTERN, read_track4
from saywhere.errors import InputError
from saywhere.types import Dataset

__all__ = ["read", "recognise"]


def read(path: Path) -> Dataset:
    """Read whatever lies at a path: a GeoText JSON file, a Track 4 folder or a folder of images.

    Raises:
        InputError: nothing that can be read, or as the reader of that kind raises.
    """
    readers: dict[str, Callable[[Path], Dataset]] = {
        "geotext": read_geotext,
        "track4": read_track4,
        "folder": read_folder,
    }
    return readers[recognise(path)](path)


def recognise(path: Path) -> str:
    """Which kind of dataset lies at a path: ``geotext``, ``track4`` or ``folder``.

    Raises:
        InputError: nothing there, a file that is no JSON, a GeoText folder (whose files must be
            named one by one: training and test must not mix) or half a Track 4 folder.
    """
    if is_file(path):
        if path.suffix.lower() == ".json":
            return "geotext"
        raise InputError(
            f"{path}: is no dataset; name a GeoText .json file, a Track 4 folder or an image folder"
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
