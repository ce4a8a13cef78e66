"""What holds for any input: what is written is read back, masks never push a positive apart, and
one folded product is three searches.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from saywhere.config import FusionMode
from saywhere.data import read
from saywhere.fusion import (
    UNKNOWN,
    Calibration,
    fold_images,
    fold_queries,
    image_gates,
    query_log_prior,
)
from saywhere.losses import info_nce, negative_mask
from saywhere.types import PLATFORMS, Dataset, FloatArray, IntArray, Platform

COMMON = settings(max_examples=120, deadline=None, derandomize=True)
# Words with letters of every kind, but nothing a line-based format would end a line at.
_LETTERS = st.characters(
    exclude_categories=["Cs", "Cc", "Zl", "Zp", "Zs"], exclude_characters="\ufeff"
)
TEXTS = st.lists(st.text(_LETTERS, min_size=1, max_size=8), min_size=1, max_size=6).map(" ".join)
NAMES = st.sampled_from(["satellite.jpg", "image-01.jpeg", "street-Ü.png", "a b.jpg", "ﬁ.tif"])
PLACES = st.sampled_from(["0001", "0002", "Halle", "x.y"])
IMAGES = st.lists(st.tuples(PLACES, NAMES).map("/".join), min_size=1, max_size=8, unique=True)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which every image that a test may name is there; readers decode none."""
    root = tmp_path_factory.mktemp("round-trip")
    for place, name in itertools.product(
        ("0001", "0002", "Halle", "x.y"),
        ("satellite.jpg", "image-01.jpeg", "street-Ü.png", "a b.jpg", "ﬁ.tif"),
    ):
        for folder in (root / "images" / place, root / "Track_4_Images"):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name.replace("a b", "ab")).touch()
            (root / "images" / place / name).touch()
    return root


def bound(dataset: Dataset) -> dict[str, list[str]]:
    """The captions of each image, in order; images without captions included."""
    found: dict[str, list[str]] = {record.image_id: [] for record in dataset.records}
    for caption in dataset.captions:
        found[caption.image_id].append(caption.text)
    return found


@COMMON
@given(
    captions=st.dictionaries(
        st.tuples(PLACES, NAMES).map("/".join),
        st.lists(TEXTS, min_size=1, max_size=3, unique=True),
        min_size=1,
        max_size=8,
    ),
    together=st.booleans(),
    escaped=st.booleans(),
    mark=st.booleans(),
)
def test_geotext_gives_back_what_was_written(
    root: Path, captions: dict[str, list[str]], together: bool, escaped: bool, mark: bool
) -> None:
    """In both forms of the official files, escaped or not, with or without a byte order mark."""
    entries: list[dict[str, object]] = []
    for image, texts in captions.items():
        if together:
            entries.append({"image": image, "caption": texts})
        else:
            entries += [{"image": image, "caption": text} for text in texts]
    path = root / "train.json"
    path.write_text(json.dumps(entries, ensure_ascii=escaped), "utf-8-sig" if mark else "utf-8")
    found = read(path)
    assert bound(found) == captions
    assert [record.place_id for record in found.records] == [i.split("/")[0] for i in captions]


@COMMON
@given(
    rows=st.dictionaries(
        st.tuples(PLACES, NAMES).map("/".join),
        st.tuples(
            st.lists(TEXTS, max_size=3, unique=True),
            st.none() | st.sampled_from(Platform),
            st.none() | st.tuples(st.floats(-90, 90), st.floats(-180, 180)),
        ),
        min_size=1,
        max_size=8,
    ),
    tabs=st.booleans(),
    order=st.permutations(["image", "caption", "platform", "lat", "lon"]),
)
def test_a_table_gives_back_what_was_written(
    root: Path,
    rows: dict[str, tuple[list[str], Platform | None, tuple[float, float] | None]],
    tabs: bool,
    order: list[str],
) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, order, delimiter="\t" if tabs else ",")
    writer.writeheader()
    for image, (captions, platform, position) in rows.items():
        lat, lon = position or ("", "")
        common = {"image": image, "platform": platform or "", "lat": lat, "lon": lon}
        writer.writerows({**common, "caption": caption} for caption in captions or [""])
    path = root / ("own.tsv" if tabs else "own.csv")
    path.write_text(text.getvalue(), "utf-8", newline="")
    found = read(path)
    assert bound(found) == {image: captions for image, (captions, _, _) in rows.items()}
    for record, (_, platform, position) in zip(found.records, rows.values(), strict=True):
        assert record.platform is platform
        # Shortest decimal forms read back as the same number, to the last bit.
        assert (record.lat, record.lon) == (position or (None, None))


@COMMON
@given(
    captions=st.dictionaries(
        st.tuples(PLACES, NAMES).map("/".join),
        st.lists(TEXTS, min_size=5, max_size=5),
        min_size=1,
        max_size=6,
    ),
    once=st.booleans(),
)
def test_rsicd_gives_back_what_was_written(
    root: Path, captions: dict[str, list[str]], once: bool
) -> None:
    """In the form of the training lists and in that of the test lists; equal captions are kept."""
    names = [name for name in captions for _ in range(1 if once else 5)]
    (root / "train_filename.txt").write_text("\n".join(names) + "\n", "utf-8")
    texts = itertools.chain.from_iterable(captions.values())
    (root / "train_caps.txt").write_text("\n".join(texts) + "\n", "utf-8")
    try:
        assert bound(read(root / "train_filename.txt")) == captions
    finally:
        (root / "train_filename.txt").unlink()


@COMMON
@given(
    queries=st.dictionaries(st.integers(0, 10**6), TEXTS, min_size=1, max_size=8),
    width=st.integers(1, 7),
    end=st.sampled_from(["\n", "\r\n", "\n\n"]),
)
def test_track4_gives_back_what_was_written(
    root: Path, queries: dict[int, str], width: int, end: str
) -> None:
    lines = [f"q_{number:0{width}}\t{text}" for number, text in queries.items()]
    (root / "test_queries.txt").write_bytes(end.join(lines).encode())
    found = read(root)
    assert {query.query_id: query.text for query in found.queries} == {
        f"q{number}": text for number, text in queries.items()
    }
    assert len(found.records) == 5


_CODES = st.integers(0, 3)


@COMMON
@given(st.data())
def test_the_mask_is_what_two_loops_say(data: st.DataObject) -> None:
    """No image of the same place and none that has the text, whatever else it has; all others."""
    texts, images, per_image = (data.draw(st.integers(1, 6)) for _ in range(3))
    text_places, text_codes = (
        data.draw(hnp.arrays(np.int64, texts, elements=_CODES)) for _ in "ab"
    )
    image_places = data.draw(hnp.arrays(np.int64, images, elements=_CODES))
    codes = hnp.arrays(np.int64, (images, per_image), elements=st.integers(-1, 3))
    image_codes = data.draw(codes)
    found = negative_mask(
        *map(torch.from_numpy, (text_places, text_codes, image_places, image_codes))
    )
    for t, i in itertools.product(range(texts), range(images)):
        wrong = text_places[t] != image_places[i] and text_codes[t] not in image_codes[i].tolist()
        assert bool(found[t, i]) == wrong


@COMMON
@given(
    places=hnp.arrays(np.int64, 5, elements=_CODES),
    moved=st.integers(0, 4),
    smoothing=st.sampled_from([0.0, 0.3]),
    seed=st.integers(0, 1000),
)
def test_turning_an_image_moves_no_text_of_its_place(
    places: IntArray, moved: int, smoothing: float, seed: int
) -> None:
    """The gradient of each text knows the images of other places and its own only."""
    generator = torch.Generator().manual_seed(seed)
    image, text = (torch.randn((5, 3), generator=generator, dtype=torch.float64) for _ in "ab")
    turned = image.clone()
    turned[moved] = torch.randn(3, generator=generator, dtype=torch.float64)
    codes = torch.from_numpy(places)
    mask = negative_mask(codes, torch.arange(5), codes, torch.arange(5)[:, None])

    def gradient(pictures: torch.Tensor) -> torch.Tensor:
        asked = text.clone().requires_grad_()
        scale = torch.tensor(2.0, dtype=torch.float64)
        loss = info_nce(pictures, asked, scale, mask, label_smoothing=smoothing)
        return torch.autograd.grad(loss, asked)[0]

    difference = (gradient(image) - gradient(turned)).abs().sum(1)
    for row in range(5):
        if row != moved and places[row] == places[moved]:
            assert difference[row] < 1e-12


@COMMON
@given(
    mode=st.sampled_from(["own", "mean", "weighted", "gated"]),
    experts=st.lists(st.sampled_from([*PLATFORMS, None]), min_size=1, max_size=4, unique=True),
    known=st.lists(st.integers(UNKNOWN, 2), min_size=1, max_size=7),
    weight=st.floats(0, 5),
    seed=st.integers(0, 10_000),
)
def test_one_folded_search_is_a_search_by_each_expert(
    mode: FusionMode, experts: list[Platform | None], known: list[int], weight: float, seed: int
) -> None:
    """Each expert searches by itself, its scores are gated and summed; the product is the same."""
    rng = np.random.default_rng(seed)
    count, images, queries = len(experts), len(known), 3

    def unit(rows: int, width: int) -> FloatArray:
        vectors = rng.standard_normal((rows, width)).astype(np.float32)
        return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)

    texts, pictures = ([unit(n, 3 + e) for e in range(count)] for n in (queries, images))
    calibration = Calibration(
        tuple(rng.uniform(0.1, 40, count)), tuple(rng.normal(0, 5, count)), weight
    )
    logits = rng.normal(0, 3, (images + queries, 3))
    log = np.asarray(logits - np.log(np.exp(logits).sum(1, keepdims=True)), np.float32)
    gates = image_gates(mode, experts, np.asarray(known), log[:images])
    prior = query_log_prior(experts, log[images:])
    searches = [
        gates[:, e] * (calibration.scale[e] * (texts[e] @ pictures[e].T).astype(np.float64)
                       + calibration.offset[e] + weight * prior[:, [e]])
        for e in range(count)
    ]  # fmt: skip
    folded = fold_queries(texts, calibration, prior) @ fold_images(pictures, gates).T
    np.testing.assert_allclose(folded, np.sum(searches, axis=0), atol=2e-4, rtol=1e-4)
