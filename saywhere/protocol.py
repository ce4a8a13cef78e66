"""The evaluation of the published GeoText-1652 script, errors included.

Numbers in the literature come from that script, so they can only be compared with numbers made
its way. It differs from the path-based truth in that a row's building is the run of equal
four-character prefixes it stands in, and the running number is given out *before* it is raised:
the first row of each new building still carries the previous building's number. A building that
comes back later gets a new number. :func:`official_gap` says how much of a file that concerns.

Source: ``re_eval_dataset`` and ``itm_eval`` of MultimodalGeo/GeoText-1652; written anew here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from saywhere.errors import InputError
from saywhere.types import FloatArray, IntArray

_PREFIX = 4  # characters of an image_id that the script takes for the building


@dataclass(frozen=True, slots=True)
class OfficialGap:
    """How far the script's building numbers are from the places.

    A number belongs to the place that holds most of its rows (one of them where several hold as
    many). Pairs are unordered pairs of different rows.

    Attributes:
        rows: images.
        rows_mislabelled: rows whose number belongs to another place.
        share_mislabelled: the same in percent of the rows, 0..100.
        buildings: places.
        buildings_split: places whose rows carry more than one number.
        buildings_merged: places with a row whose number also stands on another place's row.
        pairs: pairs of one place.
        pairs_lost: of these, pairs whose numbers differ: right answers the script counts as wrong.
        pairs_invented: pairs of two places with one number: wrong answers it counts as right.
    """

    rows: int
    rows_mislabelled: int
    share_mislabelled: float
    buildings: int
    buildings_split: int
    buildings_merged: int
    pairs: int
    pairs_lost: int
    pairs_invented: int

    def to_dict(self) -> dict[str, float]:
        """The fields, ready for JSON."""
        return asdict(self)


def official_building_ids(image_ids: Sequence[str]) -> IntArray:
    """The building number the script gives each row.

    Args:
        image_ids: of the rows of ``test_*.json`` in file order, ``0001/image-01.jpeg``.

    Returns:
        (n,) int64, from 0 up.
    """
    prefixes = np.array([image_id[:_PREFIX] for image_id in image_ids], dtype=np.str_)
    starts = np.zeros(len(prefixes), dtype=np.int64)
    # A row that opens a building raises the number only for the rows after it: hence one later.
    starts[2:] = prefixes[1:-1] != prefixes[:-2]
    return np.cumsum(starts)


def official(
    scores_i2t: FloatArray,
    scores_t2i: FloatArray,
    image_ids: Sequence[str],
    text_image: IntArray,
) -> dict[str, float]:
    """Recalls as the script computes and names them.

    The published numbers come from a re-ranker that scores the best candidates and leaves -100
    elsewhere; any score matrix will do here. Tied scores stand as NumPy's default sort leaves
    them, reversed, which favours nobody on purpose and may differ between processors and dtypes:
    pass the dtype the scores were made in.

    Args:
        scores_i2t: (images, texts) floating point, higher is better.
        scores_t2i: (texts, images) floating point.
        image_ids: of the images in file order.
        text_image: (texts,) int64, row of the image each text describes.

    Returns:
        In percent, 0..100: ``txt_r1``, ``txt_r5``, ``txt_r10``, ``txt_r_mean`` for image to text,
        ``img_…`` for text to image, and ``r_mean``, the mean of both means.

    Raises:
        InputError: shapes that do not fit, NaN scores (the script would put them first), or an
            image whose building has no text (the script would stop).
    """
    images, texts = len(image_ids), len(text_image)
    _require_shapes(scores_i2t, scores_t2i, images, texts)
    _require_rows(text_image, images)
    of_image = official_building_ids(image_ids)
    of_text = of_image[text_image]
    alone = np.flatnonzero(~np.isin(of_image, of_text))
    if len(alone):
        raise InputError(
            f"{len(alone)} images have no text in their official building (first: "
            f"{image_ids[alone[0]]!r}): drop images without captions"
        )
    to_text = _recalls("txt", _official_ranks("scores_i2t", scores_i2t, of_image, of_text))
    to_image = _recalls("img", _official_ranks("scores_t2i", scores_t2i, of_text, of_image))
    r_mean = (to_text["txt_r_mean"] + to_image["img_r_mean"]) / 2
    return {**to_text, **to_image, "r_mean": r_mean}


def official_gap(image_ids: Sequence[str], place_ids: Sequence[str]) -> OfficialGap:
    """Compare the script's building numbers with the places.

    Args:
        image_ids: of the rows in file order.
        place_ids: the place of each row, from its path.

    Raises:
        InputError: no rows, or lengths that differ.
    """
    if not len(image_ids) or len(image_ids) != len(place_ids):
        raise InputError(
            f"{len(image_ids)} image ids and {len(place_ids)} place ids: give one place a row, and "
            "at least one row"
        )
    number = official_building_ids(image_ids)
    position = {name: i for i, name in enumerate(dict.fromkeys(place_ids))}
    place = np.array([position[name] for name in place_ids], dtype=np.int64)
    # Cells (number, place) that hold rows, ascending, and how many rows each holds.
    cells, rows = np.unique(number * len(position) + place, return_counts=True)
    cell_number, cell_place = np.divmod(cells, len(position))
    numbers_of_place = np.bincount(cell_place, minlength=len(position))
    places_of_number = np.bincount(cell_number)
    owned = np.zeros(len(places_of_number), dtype=np.int64)
    np.maximum.at(owned, cell_number, rows)
    mislabelled = len(number) - int(owned.sum())
    pairs, same_number, both = (_pairs(n) for n in (np.bincount(place), np.bincount(number), rows))
    return OfficialGap(
        rows=len(number),
        rows_mislabelled=mislabelled,
        share_mislabelled=100.0 * mislabelled / len(number),
        buildings=len(position),
        buildings_split=int(np.count_nonzero(numbers_of_place > 1)),
        buildings_merged=len(np.unique(cell_place[places_of_number[cell_number] > 1])),
        pairs=pairs,
        pairs_lost=pairs - both,
        pairs_invented=same_number - both,
    )


def _pairs(sizes: IntArray) -> int:
    """Unordered pairs within groups of these sizes."""
    return int(np.sum(sizes * (sizes - 1) // 2))


def _require_shapes(i2t: FloatArray, t2i: FloatArray, images: int, texts: int) -> None:
    if not images or not texts or i2t.shape != (images, texts) or t2i.shape != (texts, images):
        raise InputError(
            f"scores_i2t {i2t.shape}, scores_t2i {t2i.shape} for {images} images and {texts} "
            f"texts: must be {(images, texts)} and {(texts, images)}, and not empty"
        )


def _require_rows(text_image: IntArray, images: int) -> None:
    low, high = text_image.min(), text_image.max()
    if text_image.ndim != 1 or text_image.dtype.kind not in "iu" or low < 0 or high >= images:
        raise InputError(
            f"text_image {text_image.shape} of {text_image.dtype}, {low}..{high}: must be (texts,) "
            f"whole numbers in 0..{images - 1}, the row of each text's image"
        )


def _official_ranks(
    name: str, scores: FloatArray, query_building: IntArray, gallery_building: IntArray
) -> IntArray:
    """(q,) 0-based position of the first answer from the query's building."""
    positions = np.empty(len(scores), np.int64)
    for row, score in enumerate(scores):
        if np.isnan(score).any():
            raise InputError(f"{name} row {row}: has NaN, which the script would rank first")
        # One row at a time, in its own dtype, with the default sort: ties fall as in the script.
        order = np.argsort(score)[::-1]
        positions[row] = np.argmax(gallery_building[order] == query_building[row])
    return positions


def _recalls(prefix: str, positions: IntArray) -> dict[str, float]:
    # In the script's order of operations, so that even the last bit agrees.
    at_1, at_5, at_10 = (
        100.0 * int(np.count_nonzero(positions < k)) / len(positions) for k in (1, 5, 10)
    )
    return {
        f"{prefix}_r1": at_1,
        f"{prefix}_r5": at_5,
        f"{prefix}_r10": at_10,
        f"{prefix}_r_mean": (at_1 + at_5 + at_10) / 3,
    }
