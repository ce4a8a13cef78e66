"""What the tests of readers share: small files, and what a good message looks like."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from saywhere.errors import DatasetError, InputError

REAL = Path(os.environ.get("SAYWHERE_DATA", Path(__file__).parents[1].parent / "shared" / "data"))
real = pytest.mark.skipif(not REAL.is_dir(), reason=f"no real imagery in {REAL}")
GOOD = {"image": "p/p.jpg", "caption": "a text"}


def save_image(path: Path, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 6), (90, 120, 60)).save(path, **options)
    return path


def write_json(path: Path, value: object) -> Path:
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def problems_of(error: InputError) -> tuple[str, ...]:
    return error.problems if isinstance(error, DatasetError) else (str(error),)


def assert_message(error: InputError, *words: str) -> None:
    """One line a problem, the expected words, and a remedy after a semicolon."""
    for problem in problems_of(error):
        assert "\n" not in problem
        assert "; " in problem, problem
    for word in words:
        assert word in "\n".join(problems_of(error))


def track4_folder(root: Path, queries: str = "test_queries.txt") -> Path:
    for name in ("image_0b.jpeg", "image_0a.png"):
        save_image(root / "Track_4_Images" / name)
    (root / queries).write_text("q_00001\ta hall\nq_00002\ta pond\n", encoding="utf-8")
    return root


def gps(lat: Any, lat_ref: Any, lon: Any, lon_ref: Any) -> bytes:
    """EXIF as bytes: Pillow's TIFF writer refuses an Exif object made by hand."""
    exif = Image.Exif()
    tags = {1: lat_ref, 2: lat, 3: lon_ref, 4: lon}
    exif[0x8825] = {tag: value for tag, value in tags.items() if value is not None}
    return exif.tobytes()


SYDNEY = ((33.0, 51.0, 35.9), (151.0, 12.0, 34.5))
