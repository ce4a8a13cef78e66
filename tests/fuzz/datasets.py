"""Malformed datasets: GeoText JSON, tables, RSICD lists, Track 4 queries and truths, from seeds."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fuzz.sound import sound_images

Family = Callable[[random.Random], tuple[dict[str, bytes], str]]
PLACES = ("0001", "0002", "0003")
_TEXTS = (
    "a red roof by a pond",
    "two towers, in the upper left",
    "gräue Halle",
    "a 球場 in a park",
)
NAMES = ("satellite.jpg", "image-01.jpg", "street.jpg")
ODD_VALUES: tuple[Any, ...] = (
    None, True, 0, -1, 1.5, 10**30, 1e308, "", " ", "\0", "\ud800", "a" * 30_000, [], {}, [[]],
    ["a", 1], {"a": None}, "../../etc/passwd", "/etc/passwd", "C:\\x.jpg", "0001\\a.jpg", "//a//b",
    ".", "..", "0001/", "0001/nowhere.jpg", "satellite", "\ufeffx", "x\ny.jpg", "$(id)", "=1+1",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Case:
    """A dataset as files by name, the path to read, and its family."""

    number: int
    family: str
    files: dict[str, bytes]
    path: str

    def write(self, folder: Path) -> Path:
        """Write the files over those that ``plant_images`` put into ``folder``."""
        for name, content in self.files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        return folder / self.path


def plant_images(folder: Path, family: str) -> None:
    """The images that the sound entries of a family name."""
    content = sound_images()["JPEG RGB"][1]
    parents = {"rsicd": ("images",), "track4": ("Track_4_Images",)}
    for parent in parents.get(family, tuple(f"images/{place}" for place in PLACES)):
        for name in NAMES:
            (folder / parent).mkdir(parents=True, exist_ok=True)
            (folder / parent / name).write_bytes(content)


def malformed_datasets(seed: int, count: int) -> Iterator[Case]:
    """``count`` datasets, of every family about equally many; one in fifty is left sound."""
    yield from cases_of(FAMILIES, seed, count)


def cases_of(families: Mapping[str, Family], seed: int, count: int) -> Iterator[Case]:
    """``count`` cases, the families by turns."""
    names = sorted(families)
    for number in range(count):
        family = names[number % len(names)]
        draw = random.Random(f"{seed}:{number}")
        yield Case(number, family, *families[family](draw))


def _entries() -> list[dict[str, Any]]:
    return [
        {"image_id": f"{place}_{index}", "image": f"{place}/{name}", "caption": _TEXTS[index],
         "sentences": [[_TEXTS[index]]], "bboxes": [[[0.5, 0.5, 0.1, 0.1]]]}
        for place in PLACES for index, name in enumerate(NAMES)
    ]  # fmt: skip


def _geotext(draw: random.Random) -> tuple[dict[str, bytes], str]:
    entries: Any = _entries()
    for _ in range(draw.choice((0, 1, 1, 3))):
        _spoil(draw, entries)
    if draw.random() < 0.1:
        entries = draw.choice((*ODD_VALUES, {"images": entries}, entries[0]))
    return {"train.json": json_bytes(draw, entries)}, "train.json"


def _spoil(draw: random.Random, entries: list[Any]) -> None:
    """A wrong value at a key, a key gone, or an entry that is none."""
    entry = entries[draw.randrange(len(entries))]
    if draw.random() < 0.2 or not isinstance(entry, dict) or not entry:
        entries[draw.randrange(len(entries))] = draw.choice(ODD_VALUES)
    elif draw.random() < 0.2:
        del entry[draw.choice(sorted(entry))]
    else:
        value = copy.deepcopy(draw.choice(ODD_VALUES))
        entry[draw.choice(sorted(entry))] = value if draw.random() < 0.7 else [value, "a hall"]


def json_bytes(draw: random.Random, value: object) -> bytes:
    text = json.dumps(value, ensure_ascii=draw.random() < 0.5, indent=draw.choice((None, 1)))
    return damaged(
        draw,
        text,
        (
            lambda t: t.replace('"0001', "NaN, Infinity, -Infinity", 1),
            lambda t: "[" * 100_000 + t,
            lambda t: '{"a":' * 60_000 + t,
            lambda t: t.replace("0.5", "9" * 6000, 1),
            lambda t: t.replace("0.5", "1e999", 1),
            lambda t: t.replace('"image":', '"image": 7, "image":', 1),
            lambda t: t.replace('"caption":', '"caption": "first", "caption":'),
            lambda t: t.replace("a red", "\\ud83d", 1),
            lambda t: t + t,
            lambda t: t.replace("]", ",]", 1),
            lambda t: t.replace('"', "'"),
            lambda t: "// made by hand\n" + t,
        ),
    )


def damaged(draw: random.Random, text: str, own: tuple[Callable[[str], str], ...]) -> bytes:
    """A text with one of its format's own faults, or one that any file may have, or none."""
    chance = draw.random()
    if chance < 0.35:
        text = draw.choice(own)(text)
    content = text.encode("utf-8", "surrogatepass")
    if chance < 0.5 or chance > 0.95:
        return content
    place = draw.randrange(len(content) + 1)
    return draw.choice(
        (
            content[:place], content[place:], b"\xef\xbb\xbf" + content, b"", b"\0" * 100,
            b"\xef\xbb\xbf\xef\xbb\xbf" + content, text.encode("utf-16", "surrogatepass"),
            text.encode("utf-16-le", "surrogatepass"), content[:place] + b"\0" + content[place:],
            content[:place] + draw.randbytes(4) + content[place:], content.replace(b"\n", b"\r\n"),
            content.replace(b"\n", b"\r"), content.replace(b"\n", b"\r\n", 1) + b"\n\n\n",
            content.replace(b"\n", b""), b"x" * 1_200_000, draw.randbytes(300),
            text.encode("latin-1", "replace"), content + b"\x1a", b"\x1f\x8b\x08" + content,
        )
    )  # fmt: skip


def _table(draw: random.Random) -> tuple[dict[str, bytes], str]:
    comma = draw.choice((",", "\t"))
    header = ["image", "caption", "platform", "place_id", "lat", "lon"]
    rows = [
        [f"{place}/{name}", f'"{_TEXTS[index]}"', "drone", place, "48.1", f"11.{index}"]
        for place in PLACES for index, name in enumerate(NAMES)
    ]  # fmt: skip
    for _ in range(draw.choice((0, 1, 1, 4))):
        row = draw.choice(rows)
        odd = str(draw.choice((*ODD_VALUES, "nan", "inf", "1_0", "91", "48,1", "48°", "1e3", "٤")))
        row[draw.randrange(len(row))] = odd.replace("\n", " ")
    if draw.random() < 0.3:
        draw.choice(rows).append("one more")
    if draw.random() < 0.25:
        header[draw.randrange(6)] = draw.choice(("", "filename", "Image", "latitude", "lat", "x"))
    text = "\n".join(comma.join(row) for row in [header, *rows]) + "\n"
    own: tuple[Callable[[str], str], ...] = (
        lambda t: t.replace('"', "", 1),
        lambda t: t + '"never closed, ',
        lambda t: t.replace(comma, ";"),
        lambda t: t.upper(),
        lambda t: t.replace("image", " image ", 1),
        lambda t: t + f"0001/satellite.jpg{comma}" + "x" * 200_000 + comma * 4 + "\n",
        lambda t: t.split("\n", 1)[1],
        lambda t: t.split("\n", 1)[0],
        lambda t: t + t,
        lambda t: t.replace("\n", comma * 5000 + "\n", 1),
        lambda t: t.replace("48.1", "9" * 5000, 1),
    )
    name = "own.csv" if comma == "," else draw.choice(("own.tsv", "own.tab"))
    return {name: damaged(draw, text, own)}, name


def _rsicd(draw: random.Random) -> tuple[dict[str, bytes], str]:
    once = draw.random() < 0.5
    names = [name for name in NAMES for _ in range(1 if once else 5)]
    captions = [f"{_TEXTS[n % 4]} {n}" for n in range(15)]
    for _ in range(draw.choice((0, 1, 2))):
        lines = draw.choice((names, captions))
        odd = str(draw.choice(ODD_VALUES))
        lines[draw.randrange(len(lines))] = draw.choice((odd, odd, "nowhere.jpg"))
    if draw.random() < 0.2:
        draw.choice((names, captions)).pop()
    files = {}
    for file, lines in (("train_filename.txt", names), ("train_caps.txt", captions)):
        own: tuple[Callable[[str], str], ...] = (
            lambda t: t.replace("\n", "\n\n"),
            lambda t: t.replace("\n", "\u2028"),
            lambda t: t + t,
            lambda t: "\n" + t,
        )
        files[file] = damaged(draw, "\n".join(lines) + "\n", own)
    if draw.random() < 0.1:
        del files["train_caps.txt"]
    splits = (
        ".",
        ".",
        "train_filename.txt",
        "valid",
        "train-without-valid",
        "train_caps.txt",
    )
    return files, draw.choice(splits)


def _track4(draw: random.Random) -> tuple[dict[str, bytes], str]:
    lines = [f"q_{number:05}\t{_TEXTS[number % 4]}" for number in range(1, 9)]
    for _ in range(draw.choice((0, 1, 2))):
        odd = str(draw.choice(ODD_VALUES))
        text = draw.choice((f"q_3\t{odd}", odd, f"q{odd}\ta hall", "q_9 no tab", "q_\t", "q_٤\tx"))
        lines[draw.randrange(len(lines))] = text
    own: tuple[Callable[[str], str], ...] = (
        lambda t: t.replace("\t", "    "),
        lambda t: t.replace("q_", "Q_"),
        lambda t: t + t,
        lambda t: t.replace("q_00001", "q_" + "9" * 5000),
        lambda t: t.replace("\n", "\x85"),
    )
    name = draw.choice(("test_queries.txt", "test_queries.txt", "test_queries_v2.txt"))
    files = {name: damaged(draw, "\n".join(lines) + "\n", own)}
    if draw.random() < 0.1:
        files["test_queries_other.txt"] = b"q_1\tx\n"
    if draw.random() < 0.15:
        files[f"Track_4_Images/{draw.choice(('a b.jpg', 'satellite.png', 'x.txt'))}"] = b"x"
    return files, "."


def _truth(draw: random.Random) -> tuple[dict[str, bytes], str]:
    images: dict[str, Any] = {
        name: {"platform": "drone", "place": place}
        for name, place in zip(NAMES, PLACES, strict=True)
    }
    queries: dict[str, Any] = {
        f"q{n}": {"image": NAMES[n % 3], **images[NAMES[n % 3]]} for n in range(1, 5)
    }
    value: dict[str, Any] = {"queries": queries, "images": images}
    for _ in range(draw.choice((0, 1, 2))):
        sections = [value, queries, images, *queries.values(), *images.values()]
        section = draw.choice([part for part in sections if isinstance(part, dict) and part])
        section[draw.choice(sorted(section))] = copy.deepcopy(draw.choice(ODD_VALUES))
    return {"ground_truth.json": json_bytes(draw, value)}, "ground_truth.json"


FAMILIES: dict[str, Family] = {
    "geotext": _geotext,
    "table": _table,
    "rsicd": _rsicd,
    "track4": _track4,
    "truth": _truth,
}
