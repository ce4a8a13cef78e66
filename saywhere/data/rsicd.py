"""RSICD: satellite images with five captions each, as lists of names and captions ("precomp").

The lists are those that came with VSE++-style precomputed features: ``<split>_filename.txt`` and
``<split>_caps.txt`` beside a folder ``images``. Training lists name an image once and have its five
captions on lines 5i … 5i+4; test lists repeat the name for every caption. Which form a split has is
told by the number of lines. Lu et al., "Exploring Models and Data for Remote Sensing Image Caption
Generation", IEEE TGRS 2018.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from saywhere.data.scan import Scan
from saywhere.data.source import is_file, is_folder, is_unicode, path_fault, shown, stream_lines
from saywhere.errors import InputError
from saywhere.types import Caption, Dataset, Platform, Record

IMAGES_FOLDER = "images"
CAPTIONS_PER_IMAGE = 5
DEFAULT_SPLIT = "train"
_NAMES, _CAPTIONS = "_filename.txt", "_caps.txt"
_WITHOUT = "-without-"
_SPLIT = re.compile(r"\w+(-\w+)*", re.ASCII)


def read_rsicd(root: Path, split: str = DEFAULT_SPLIT, *, skip_bad: bool = False) -> Dataset:
    """Read one split of an RSICD folder; every image it names must exist.

    ``image_id`` is the image's name. Each image is a place of its own: ``place_id`` is the name
    without its suffix. Platform is satellite; nothing has a position. All captions of an image are
    kept, equal ones too, because the field scores each of the five.

    Args:
        root: the folder with ``images`` and the lists.
        split: ``train``, ``test`` or whatever ``<split>_filename.txt`` is there. Where it has no
            ``<split>_caps.txt``, the captions are those of ``train`` by name: ``valid`` names a
            part of the training images. ``train-without-valid`` is the one without the other.
        skip_bad: leave bad entries out and list them in ``Dataset.skipped``.

    Raises:
        DatasetError: counts that do not fit, empty captions, names that are unsafe or repeated,
            missing images: all of them listed.
        InputError: no such folder or split, no ``images`` folder, or a split without a name.
    """
    return scan_rsicd(root, split).dataset(skip_bad=skip_bad)


def scan_rsicd(root: Path, split: str = DEFAULT_SPLIT) -> Scan:
    """As ``read_rsicd``, but faults are collected.

    Raises:
        InputError: no such folder or split, no ``images`` folder, or a split without a name.
    """
    images = root / IMAGES_FOLDER
    if not is_folder(images):
        raise InputError(f"{root}: has no folder {IMAGES_FOLDER}; unpack the RSICD images there")
    if _SPLIT.fullmatch(split) is None:
        raise InputError(f"{root}: split {shown(split)} is no name; write train, valid or test")
    wanted, _, left_out = split.partition(_WITHOUT)
    owner = wanted if is_file(root / f"{wanted}{_CAPTIONS}") else DEFAULT_SPLIT
    lists = _Lists(root)
    captions = lists.captions_of(owner)
    if owner != wanted:
        captions = lists.part(captions, wanted, owner)
    if left_out:
        dropped = {name for _, name in lists.names(left_out)}
        captions = {name: texts for name, texts in captions.items() if name not in dropped}
    records = tuple(
        Record(name, images / name, Platform.SATELLITE, str(PurePosixPath(name).with_suffix("")))
        for name in captions
    )
    return Scan(
        "rsicd",
        root / f"{split}{_NAMES}",
        records,
        tuple(Caption(name, text, text) for name, texts in captions.items() for text in texts),
        problems=tuple(lists.problems),
        missing={
            record.image_id: f"image {shown(record.image_id)} is not in {images}; "
            "unpack the images there"
            for record in records
            if not is_file(record.path)
        },
    )


def benchmark_split(root: Path) -> str:
    """The split to score on: ``test`` where its lists are there, else ``valid``.

    Raises:
        InputError: no such folder, or neither is there.
    """
    if not is_folder(root):
        raise InputError(f"{root}: is no folder; name the one with images and the RSICD lists")
    if is_file(root / f"test{_NAMES}") and is_file(root / f"test{_CAPTIONS}"):
        return "test"
    if is_file(root / f"valid{_NAMES}"):
        return "valid"
    raise InputError(
        f"{root}: has neither test{_NAMES} and test{_CAPTIONS} nor valid{_NAMES}; name the RSICD "
        "folder, or a --split whose list is there"
    )


def split_of(path: Path) -> tuple[Path, str] | None:
    """The RSICD folder and split a path names; None where it names none.

    A folder with lists names its ``train``. ``<folder>/<split>_filename.txt`` names a split, and so
    does ``<folder>/<split>`` where nothing lies there, for splits made of lists, such as
    ``train-without-valid``.
    """
    if is_folder(path):
        return (path, DEFAULT_SPLIT) if _splits(path) else None
    if not is_folder(path.parent) or not _splits(path.parent):
        return None
    if is_file(path) and not path.name.endswith(_NAMES):
        return None
    return path.parent, path.name.removesuffix(_NAMES)


def _splits(root: Path) -> list[str]:
    return sorted(path.name.removesuffix(_NAMES) for path in root.glob(f"*{_NAMES}"))


@dataclass(frozen=True, slots=True)
class _Lists:
    """The lists of one folder and the faults found in them so far."""

    root: Path
    problems: list[str] = field(default_factory=list)

    def names(self, split: str) -> list[tuple[int, str]]:
        """Line number and name of every line, unsafe names included."""
        path = self.root / f"{split}{_NAMES}"
        if not is_file(path):
            known = ", ".join(_splits(self.root)) or "none"
            raise InputError(f"{path}: no such split; name one of those there: {known}")
        lines = _numbered(path)
        if not lines:
            raise InputError(f"{path}: holds no name; write one image a line")
        return lines

    def captions_of(self, split: str) -> dict[str, list[str]]:
        """The captions of every soundly named image, in file order."""
        names = self.names(split)
        file = self.root / f"{split}{_CAPTIONS}"
        texts = _numbered(file)
        once = len(texts) == CAPTIONS_PER_IMAGE * len(names)
        if not once and len(texts) != len(names):
            self.problems.append(
                f"{split}{_NAMES} has {len(names):,} names and {file.name} {len(texts):,} captions;"
                f" write {CAPTIONS_PER_IMAGE} captions a name or repeat the name for each"
            )
        sound = self._sound_names(split, names, once=once)
        fit = once or len(texts) == len(names)
        found: dict[str, list[str]] = {}
        for index, (line, text) in enumerate(texts):
            if fault := _text_fault(text):
                self.problems.append(f"{file.name} line {line}: {fault}")
            elif fit and (name := sound[index // CAPTIONS_PER_IMAGE if once else index]):
                found.setdefault(name, []).append(text)
        return found

    def part(self, captions: dict[str, list[str]], wanted: str, owner: str) -> dict[str, list[str]]:
        """Those of ``captions`` that the list of ``wanted`` names, in its order."""
        names = self.names(wanted)
        sound = self._sound_names(wanted, names, once=False)
        found: dict[str, list[str]] = {}
        for (line, _), name in zip(names, sound, strict=True):
            if name in captions:
                found[name] = captions[name]
            elif name:
                self.problems.append(
                    f"{wanted}{_NAMES} line {line}: {shown(name)} has no captions in "
                    f"{owner}{_CAPTIONS}; add {wanted}{_CAPTIONS} or drop the name"
                )
        return found

    def _sound_names(self, split: str, names: list[tuple[int, str]], *, once: bool) -> list[str]:
        """The names, empty where one cannot be used; ``once``: none may repeat."""
        first: dict[str, int] = {}
        sound = []
        for line, name in names:
            fault = path_fault(name)
            if not fault and once and name in first:
                fault = f"stands on line {first[name]} already; name each image once"
            if fault and not (name in first and not once):
                self.problems.append(f"{split}{_NAMES} line {line}: {shown(name)} {fault}")
            first.setdefault(name, line)
            sound.append("" if fault else name)
        return sound


def _numbered(path: Path) -> list[tuple[int, str]]:
    """Line number and text of every line; blank lines at the end are no lines."""
    lines = [(number, line.strip()) for number, line in enumerate(stream_lines(path), start=1)]
    while lines and not lines[-1][1]:
        lines.pop()
    return lines


def _text_fault(text: str) -> str | None:
    if not text:
        return "an empty caption; describe the image or drop the line with its name"
    return None if is_unicode(text) else "not UTF-8; save the file with that encoding"
