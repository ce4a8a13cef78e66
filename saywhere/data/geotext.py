"""GeoText-1652: one JSON file of captions beside a folder of images.

The layout is that of the official repository (https://github.com/MultimodalGeo/GeoText-1652):
a list of entries with ``image_id``, ``image``, ``caption``, ``sentences`` and ``bboxes``. Training
files repeat an image once per caption, test files hold a list of captions; both forms, and any
mixture of them, give one Record an image and one Caption a text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from saywhere.data.scan import Scan
from saywhere.data.source import is_file, is_folder, is_unicode, load_json, path_fault, shown
from saywhere.errors import InputError
from saywhere.types import Caption, Dataset, Platform, Record

# The names of University-1652 as the GeoText README prints them; the files themselves use others.
VIEW_NAMES: Mapping[str, Platform] = {
    "satellite_view": Platform.SATELLITE,
    "drone_view": Platform.DRONE,
    "street_view": Platform.GROUND,
}
_DRONE_STEM = re.compile(r"image-[0-9]+", re.IGNORECASE)
_JSON_NAMES: Mapping[type, str] = {
    dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null",
}  # fmt: skip


def read_geotext(path: Path, *, images: Path | None = None, skip_bad: bool = False) -> Dataset:
    """Read a GeoText JSON file; every image it names must exist.

    ``image_id`` of a Record is the entry's ``image``, a path relative to the images folder, because
    the file's own ``image_id`` is not unique across splits. Texts lose the white space around them.

    Args:
        path: the JSON file, UTF-8, with or without a byte order mark.
        images: the folder the entries' ``image`` is relative to; by default ``images`` beside the
            file, or the file's own folder where there is none.
        skip_bad: leave bad entries out and list them in ``Dataset.skipped``.

    Raises:
        DatasetError: entries that cannot be used or images that are missing, all of them listed.
        InputError: a file that is missing, not UTF-8 or not JSON.
    """
    return scan_geotext(path, images=images).dataset(skip_bad=skip_bad)


def scan_geotext(path: Path, *, images: Path | None = None) -> Scan:
    """Read a GeoText JSON file and collect its faults instead of raising them.

    Raises:
        InputError: a file that is missing, not UTF-8, not JSON or not a list, or no images folder.
    """
    entries = load_json(path)
    if not isinstance(entries, list):
        raise InputError(
            f"{path}: holds {_kind(entries)} where GeoText has a list of entries; "
            "name the annotation file, such as train.json"
        )
    if not entries:
        raise InputError(f"{path}: the list holds no entries; name a file with annotations")
    collector = _Collector(_images_folder(path, images))
    for number, entry in enumerate(entries, start=1):
        collector.add(number, entry)
    return Scan(
        "geotext",
        path,
        tuple(collector.records.values()),
        tuple(collector.captions.values()),
        problems=tuple(collector.problems),
        missing=collector.missing,
    )


def platform_of(image: str) -> Platform:
    """The platform a GeoText file name tells, by the rules of University-1652.

    ``<place>/<place>.jpg`` is satellite and ``image-NN.jpeg`` drone, whatever the image suffix (a
    re-encoded set must not turn into ground images in silence); ``satellite_view``, ``drone_view``
    and ``street_view`` say it themselves; every other name is ground.
    """
    path = PurePosixPath(image)
    named = VIEW_NAMES.get(path.stem.lower())
    if named is not None:
        return named
    if path.stem == path.parent.name:
        return Platform.SATELLITE
    return Platform.DRONE if _DRONE_STEM.fullmatch(path.stem) else Platform.GROUND


def place_of(image: str) -> str:
    """The place an image shows: the name of the folder that holds it.

    Raises:
        InputError: a path without a folder.
    """
    place = PurePosixPath(image).parent.name
    if not place:
        raise InputError(f"image {shown(image)} lies in no folder; write <place>/<file name>")
    return place


@dataclass(frozen=True, slots=True)
class _Collector:
    """Records, captions and faults of the entries seen so far."""

    images: Path
    records: dict[str, Record] = field(default_factory=dict)
    captions: dict[tuple[str, str], Caption] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)

    def add(self, number: int, entry: object) -> None:
        if not isinstance(entry, dict):
            self.problems.append(
                f'entry {number}: {_kind(entry)}, not an object; write {{"image": …}} there'
            )
            return
        faults = [*_image_faults(entry), *_caption_faults(entry), *_other_faults(entry)]
        if faults:
            self.problems.extend(f"entry {number}: {fault}" for fault in faults)
            return
        image = str(PurePosixPath(entry["image"]))
        if image not in self.records:
            self._add_record(number, image)
        for caption in _texts(entry["caption"]):
            text = caption.strip()
            self.captions.setdefault((image, text), Caption(image, text, text))

    def _add_record(self, number: int, image: str) -> None:
        path = self.images / image
        self.records[image] = Record(image, path, platform_of(image), place_of(image))
        if not is_file(path):
            self.missing[image] = (
                f"entry {number}: image {shown(image)} is not in {self.images}; "
                "unpack the images there or name their folder"
            )


def _images_folder(path: Path, images: Path | None) -> Path:
    if images is None:
        beside = path.parent / "images"
        return beside if is_folder(beside) else path.parent
    if not is_folder(images):
        raise InputError(f"{images}: no such folder; name the one that holds the images")
    return images


def _image_faults(entry: Mapping[str, Any]) -> list[str]:
    if "image" not in entry:
        return ["'image' is missing; add the path of the image, relative to the images folder"]
    image = entry["image"]
    if not isinstance(image, str):
        return [f"'image' is {_kind(image)}; write the path of the image as a text"]
    fault = path_fault(image)
    if fault is None and not PurePosixPath(image).parent.name:
        fault = "lies in no place folder; write <place>/<file name>"
    return [f"'image' {shown(image)} {fault}"] if fault else []


def _caption_faults(entry: Mapping[str, Any]) -> list[str]:
    if "caption" not in entry:
        return ["'caption' is missing; add a text or a list of texts"]
    caption = entry["caption"]
    if isinstance(caption, list) and not caption:
        return ["'caption' is an empty list; add at least one text"]
    faults = []
    for text in _texts(caption):
        if not isinstance(text, str):
            faults.append(f"'caption' holds {_kind(text)}; write a text or a list of texts")
        elif not text.strip():
            faults.append("'caption' holds an empty text; describe the image or drop the entry")
        elif not is_unicode(text):
            faults.append(f"'caption' {shown(text)} holds half a character; write whole Unicode")
    return faults


def _other_faults(entry: Mapping[str, Any]) -> list[str]:
    # Nothing is read from these keys, so they may be absent; a wrong type means a wrong file.
    lists = ("a list", "null")
    wanted = {"image_id": ("a text", "a number"), "sentences": lists, "bboxes": lists}
    return [
        f"'{key}' is {_kind(entry[key])}; write {kinds[0]} or leave the key out"
        for key, kinds in wanted.items()
        if key in entry and _kind(entry[key]) not in kinds
    ]


def _texts(caption: object) -> list[Any]:
    return caption if isinstance(caption, list) else [caption]


def _kind(value: object) -> str:
    return _JSON_NAMES.get(type(value), "a number")
