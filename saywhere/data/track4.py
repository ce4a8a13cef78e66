"""RoboSense 2025 Track 4: a folder of images under hashed names and a file of text queries.

Neither platform nor place can be read from the names. The ground truth is for scoring only and no
reader of a dataset opens it.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from saywhere.data.folder import IMAGE_SUFFIXES
from saywhere.data.scan import Scan
from saywhere.data.source import is_file, is_folder, load_json, read_text
from saywhere.errors import DatasetError, InputError
from saywhere.types import Dataset, Platform, Query, Record

IMAGES_FOLDER = "Track_4_Images"
QUERIES_FILE = "test_queries.txt"
QUERIES_PATTERN = "test_queries*.txt"
_QUERY_ID = re.compile(r"q_?0*([0-9]+)")


@dataclass(frozen=True, slots=True)
class Truth:
    """The right answers of a Track 4 set, for scoring only: systems under test never read it.

    Attributes:
        query_image: query id (``q1``) to the image it describes.
        query_platform, query_place: query id to the platform and place of that image.
        image_platform, image_place: image id to its platform and place.
    """

    query_image: dict[str, str]
    query_platform: dict[str, Platform]
    query_place: dict[str, str]
    image_platform: dict[str, Platform]
    image_place: dict[str, str]


def read_track4(root: Path, *, skip_bad: bool = False) -> Dataset:
    """Read a Track 4 folder: ``Track_4_Images/`` and ``test_queries.txt`` (or ``test_queries*``).

    ``image_id`` is the file name without its suffix, as a submission has it; records are sorted by
    it. Platform, place and coordinates are None.

    Args:
        root: the folder.
        skip_bad: leave bad queries and images out and list them in ``Dataset.skipped``; of images
            that share a name but for the suffix none is kept.

    Raises:
        DatasetError: queries or image names that cannot be used, all of them listed.
        InputError: no images folder, no images, no queries file, or several of them.
    """
    return scan_track4(root).dataset(skip_bad=skip_bad)


def scan_track4(root: Path) -> Scan:
    """As ``read_track4``, but faults are collected.

    Raises:
        DatasetError: no query that can be used.
        InputError: no images folder, no images, no queries file, or several of them.
    """
    folder = root / IMAGES_FOLDER
    if not is_folder(folder):
        raise InputError(f"{root}: has no folder {IMAGES_FOLDER}; name the unpacked Track 4 folder")
    records, problems = _records(folder)
    file = _queries_file(root)
    queries, faults = _queries(file)
    problems += [f"{file.name} {fault}" for fault in faults]
    if not queries:
        raise DatasetError(root, problems)
    return Scan("track4", root, records, queries=queries, problems=tuple(problems))


def read_queries(path: Path) -> tuple[Query, ...]:
    """Read queries, one a line: ``q_00001``, a tab, the text. ``q_00001`` becomes ``q1``.

    The file is UTF-8; a byte order mark, Windows line ends and blank lines are accepted.

    Raises:
        DatasetError: lines that cannot be used, all of them listed with their number.
        InputError: a file that is missing, not UTF-8 or without a query.
    """
    queries, problems = _queries(path)
    if problems:
        raise DatasetError(path, problems)
    return queries


def _queries(path: Path) -> tuple[tuple[Query, ...], list[str]]:
    # Not splitlines(): it also breaks at characters that may stand inside a text.
    lines = read_text(path).replace("\r\n", "\n").replace("\r", "\n").split("\n")
    queries: dict[str, Query] = {}
    first: dict[str, int] = {}
    problems: list[str] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            query = _query(line)
        except InputError as error:
            problems.append(f"line {number}: {error}")
            continue
        if query.query_id in queries:
            problems.append(
                f"line {number}: id {query.query_id} stands on line {first[query.query_id]} "
                "already; give each query its own"
            )
            continue
        queries[query.query_id] = query
        first[query.query_id] = number
    if not queries and not problems:
        raise InputError(f"{path}: holds no query; write one a line: q_00001, a tab, the text")
    return tuple(queries.values()), problems


def read_truth(path: Path) -> Truth:
    """Read the ground truth of a Track 4 set (``ground_truth.json``), for scoring only.

    Raises:
        DatasetError: entries that cannot be used, all of them listed.
        InputError: a file that is missing, not JSON or not of this form.
    """
    value = load_json(path)
    queries, images = (_section(path, value, name) for name in ("queries", "images"))
    problems = [
        *(
            f"query {name!r}: {fault}"
            for name, entry in queries.items()
            for fault in _faults(entry)
        ),
        *(f"image {name!r}: {fault}" for name, entry in images.items() for fault in _faults(entry)),
        *(
            f"query {name!r}: its 'image' is not among the images; add it there"
            for name, entry in queries.items()
            if not _has_image(entry, images)
        ),
    ]
    if problems:
        raise DatasetError(path, problems)
    return Truth(
        query_image={name: entry["image"] for name, entry in queries.items()},
        query_platform={name: Platform(entry["platform"]) for name, entry in queries.items()},
        query_place={name: entry["place"] for name, entry in queries.items()},
        image_platform={name: Platform(entry["platform"]) for name, entry in images.items()},
        image_place={name: entry["place"] for name, entry in images.items()},
    )


def _queries_file(root: Path) -> Path:
    usual = root / QUERIES_FILE
    found = [usual] if is_file(usual) else sorted(root.glob(QUERIES_PATTERN))
    if not found:
        raise InputError(f"{root}: has no {QUERIES_FILE}; put the file of queries there")
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise InputError(f"{root}: has several query files ({names}); keep one as {QUERIES_FILE}")
    return found[0]


def _records(folder: Path) -> tuple[tuple[Record, ...], list[str]]:
    by_id: defaultdict[str, list[Path]] = defaultdict(list)
    for path in sorted(folder.iterdir()):
        # A leading dot: thumbnails and resource forks that file managers leave behind.
        visible = not path.name.startswith(".")
        if visible and path.suffix.lower() in IMAGE_SUFFIXES and is_file(path):
            by_id[path.stem].append(path)
    if not by_id:
        raise InputError(f"{folder}: holds no images; unpack the Track 4 images there")
    records, problems = [], []
    for image_id, paths in sorted(by_id.items()):
        if len(paths) > 1:
            names = ", ".join(path.name for path in paths)
            problems.append(f"{names}: the same name but for the suffix; keep one of them")
        elif image_id.split() != [image_id]:
            problems.append(f"{paths[0].name!r}: a submission cannot hold white space; rename it")
        else:
            records.append(Record(image_id, paths[0]))
    return tuple(records), problems


def _query(line: str) -> Query:
    head, tab, tail = line.partition("\t")
    if not tab:
        raise InputError("no tab; write q_00001, a tab, the text")
    match = _QUERY_ID.fullmatch(head.strip())
    if match is None:
        raise InputError(f"id {head.strip()[:40]!r} is not of the form q_00001; number the query")
    if not tail.strip():
        raise InputError("no text after the tab; write what to search for")
    return Query(f"q{match.group(1)}", tail.strip())


def _section(path: Path, value: object, name: str) -> dict[str, Any]:
    section = value.get(name) if isinstance(value, dict) else None
    if not isinstance(section, dict) or not section:
        raise InputError(f"{path}: has no object {name!r} with entries; name a ground truth file")
    return section


def _faults(entry: object) -> list[str]:
    if not isinstance(entry, dict):
        return ["not an object; write platform and place"]
    faults = []
    if entry.get("platform") not in tuple(Platform):
        faults.append("'platform' is none of satellite, drone, ground; write one of them")
    if not isinstance(entry.get("place"), str):
        faults.append("'place' is not a text; write the place id")
    return faults


def _has_image(entry: object, images: Mapping[str, Any]) -> bool:
    image = entry.get("image") if isinstance(entry, dict) else None
    return isinstance(image, str) and image in images
