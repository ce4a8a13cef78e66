"""Items of a SpatioTemporal Asset Catalog (STAC 1.0 and 1.1): assets to images."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from saywhere.data.folder import IMAGE_SUFFIXES
from saywhere.data.geojson import load_bounded
from saywhere.data.geometry import read_geometry
from saywhere.data.hrefs import OWN_FOLDER, Hrefs, resolve_href
from saywhere.data.rows import parse_instant
from saywhere.data.scan import Scan
from saywhere.data.source import is_file, is_unicode, shown, shown_value
from saywhere.errors import InputError
from saywhere.types import Dataset, Platform, Record

CATALOGUES = ("catalog.json", "collection.json")  # what the folder of a static catalogue holds
_MEDIA = re.compile(r"image/(jpeg|png|webp|bmp|tiff)\b", re.IGNORECASE)
_PREVIEWS = ("overview", "thumbnail")
_FLOWN = re.compile(r"\b(uavs?|uas|rpas|drones?|dji|unmanned)\b", re.IGNORECASE)
_HINTS = ("platform", "constellation", "mission", "instruments")
_LONGEST_ID = 500  # characters
Json = Mapping[str, object]


def read_stac(path: Path, hrefs: Hrefs = OWN_FOLDER, *, skip_bad: bool = False) -> Dataset:
    """Read the images of an item, an item collection, or a folder of a static catalogue.

    An item's images are its assets in a format that is decoded: those of role ``visual`` where
    there are some, else those that are neither ``metadata`` nor previews, else an overview, else a
    thumbnail. ``image_id`` is the item's id, a slash and the asset's key.

    Platform: satellite, unless the item's ``platform``, ``constellation``, ``mission`` or
    ``instruments`` speak of a drone. Position: the centre of the geometry, which is the footprint.

    Args:
        path: a JSON file, or a folder with a ``catalog.json`` or ``collection.json``, whose items
            are all JSON files below it.
        hrefs: what assets may lead to.
        skip_bad: leave bad items out and list them in ``Dataset.skipped``.

    Raises:
        DatasetError: items and assets that cannot be used, all of them.
        InputError: a file that is missing, no JSON, or without an item.
    """
    return scan_stac(path, hrefs).dataset(skip_bad=skip_bad)


def scan_stac(path: Path, hrefs: Hrefs = OWN_FOLDER) -> Scan:
    """As ``read_stac``, but faults of items are collected.

    Raises:
        InputError: a file that is missing, no JSON, or without an item.
    """
    if is_file(path):
        collector = _Collector(path.parent, hrefs)
        for number, item in enumerate(_items(path), start=1):
            collector.add(f"item {number}", item, path.parent)
    else:
        # The items of a catalogue lie in folders of their own, and name their files from there.
        roots = hrefs.roots or (path,)
        collector = _Collector(path, Hrefs(roots, hrefs.hosts, hrefs.cache))
        for file in sorted(path.rglob("*.json")):
            if file.name not in CATALOGUES:
                collector.add_file(file)
    if not collector.records and not collector.problems:
        raise InputError(f"{path}: holds no STAC item; name an item or an item collection")
    return Scan(
        "stac",
        path,
        tuple(collector.records.values()),
        problems=tuple(collector.problems),
        missing=collector.missing,
    )


def is_stac(value: object) -> bool:
    """Whether a JSON value is an item, a collection of items, or another part of a catalogue."""
    if not isinstance(value, Mapping):
        return False
    features = value.get("features")
    first = features[0] if isinstance(features, list) and features else None
    return "stac_version" in value or (isinstance(first, Mapping) and "stac_version" in first)


def _items(path: Path) -> list[object]:
    value = load_bounded(path)
    kind = value.get("type") if isinstance(value, Mapping) else None
    if kind == "Feature":
        return [value]
    features = value.get("features") if isinstance(value, Mapping) else None
    if kind != "FeatureCollection" or not isinstance(features, list):
        raise InputError(
            f"{path}: is a STAC {shown_value(kind)}; name an item, an item collection, or the "
            "catalogue's folder"
        )
    return features


@dataclass(frozen=True, slots=True)
class _Collector:
    """Records and faults of the items seen so far; paths in messages are relative to ``folder``."""

    folder: Path
    hrefs: Hrefs
    records: dict[str, Record] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)

    def add_file(self, file: Path) -> None:
        name = f"{str(file.relative_to(self.folder))!a}"
        try:
            items = _items(file)
        except InputError as error:
            cause = str(error).removeprefix(f"{file}: ")
            self.problems.append(f"{name}: {cause}")
            return
        for number, item in enumerate(items, start=1):
            self.add(name if len(items) == 1 else f"{name} item {number}", item, file.parent)

    def add(self, name: str, item: object, folder: Path) -> None:
        """Take the images of an item whose paths are relative to ``folder``, or list its faults."""
        try:
            item_id, made, assets = _described(item)
        except InputError as error:
            self.problems.append(f"{name}: {error}")
            return
        for key, asset in assets:
            image_id = f"{item_id}/{key}"
            where = f"{name} ({shown(image_id)})"
            try:
                if image_id in self.records:
                    raise InputError("the id was there before; give every item its own")
                href = asset.get("href")
                if not isinstance(href, str):
                    raise InputError(f"href {shown_value(href)} is no text; write the asset's path")
                path = resolve_href(href, folder, self.hrefs)
            except InputError as error:
                self.problems.append(f"{where}: {error}")
                continue
            self.records[image_id] = Record(
                image_id,
                path,
                made.platform,
                lat=made.lat,
                lon=made.lon,
                footprint=made.footprint,
                taken=made.taken,
            )
            if not is_file(path):
                self.missing[image_id] = (
                    f"{where}: there is no file {shown(href)}; put it there or correct the href"
                )


def _described(item: object) -> tuple[str, Record, list[tuple[str, Json]]]:
    """An item's id, what it says of all its images, and its assets that are images.

    Raises:
        InputError: no item, or one that can't be used; a clause with its remedy.
    """
    if not isinstance(item, Mapping) or item.get("type") != "Feature":
        raise InputError("is no STAC item; remove it")
    item_id, properties = item.get("id"), item.get("properties")
    if not isinstance(item_id, str) or not 0 < len(item_id) <= _LONGEST_ID:
        raise InputError(f"id {shown_value(item_id)} is none; give it a short text")
    assets = item.get("assets")
    if not isinstance(properties, Mapping) or not isinstance(assets, Mapping):
        raise InputError("has no properties or no assets; export it as STAC 1.0")
    chosen = _images(assets)
    if not chosen:
        raise InputError(
            "has no asset that is an image; add one as JPEG, PNG, WebP, BMP or TIFF, with its type"
        )
    if not is_unicode(item_id + "".join(key for key, _ in chosen)):
        raise InputError(f"id {shown(item_id)} holds half a character; write it in whole Unicode")
    ground = read_geometry(item.get("geometry"))
    text = properties.get("datetime") or properties.get("start_datetime")
    taken = parse_instant(text) if isinstance(text, str) else None
    if text is not None and taken is None:
        raise InputError(f"datetime {shown_value(text)} is no time; write ISO 8601")
    made = Record(
        item_id,
        Path(),
        _platform(properties),
        lat=ground.lat,
        lon=ground.lon,
        footprint=ground.footprint,
        taken=taken,
    )
    return item_id, made, chosen


def _platform(properties: Json) -> Platform:
    said = [properties.get(name) for name in _HINTS]
    words = [text for value in said for text in (value if isinstance(value, list) else [value])]
    flown = any(isinstance(text, str) and _FLOWN.search(text[:1000]) for text in words)
    return Platform.DRONE if flown else Platform.SATELLITE


def _images(assets: Mapping[object, object]) -> list[tuple[str, Json]]:
    """Key and asset of the images that stand for an item."""
    images = [
        (str(key), asset, _roles(str(key), asset))
        for key, asset in assets.items()
        if isinstance(asset, Mapping) and _is_image(asset)
    ]
    groups = (
        [(key, asset) for key, asset, roles in images if "visual" in roles],
        [(key, asset) for key, asset, roles in images if not roles & {"metadata", *_PREVIEWS}],
        *([(key, asset) for key, asset, roles in images if role in roles] for role in _PREVIEWS),
    )
    return next((group for group in groups if group), [])


def _roles(key: str, asset: Json) -> set[str]:
    """An asset's roles; where it names none, its key is one."""
    roles = asset.get("roles")
    named = {role for role in roles if isinstance(role, str)} if isinstance(roles, list) else set()
    return named | {key} if "visual" in key or not named else named


def _is_image(asset: Json) -> bool:
    kind = asset.get("type")
    if isinstance(kind, str):
        return _MEDIA.match(kind) is not None
    href = asset.get("href")
    try:
        path = urlsplit(href).path if isinstance(href, str) else ""
    except ValueError:
        return False
    return PurePosixPath(path).suffix.lower() in IMAGE_SUFFIXES
