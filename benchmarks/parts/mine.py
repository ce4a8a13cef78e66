"""Hard negatives against a loop over the texts and against sentence-transformers."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median

import numpy as np

from parts.common import Line, Setting, milliseconds, rounds, say, unit_vectors

TOP_K, MARGIN = 20, 0.05
SHAPES = ("triplet", "n-tuple")  # its default, and the one it makes fastest
Mined = list[set[int]]


def run(setting: Setting) -> list[Line]:
    """Up to three lines a size."""
    sizes = ((60, 2),) if setting.toy else ((1_000, 7), (10_000, 3))
    return [line for size in sizes for line in _measure(setting, *size)]


def _measure(setting: Setting, count: int, turns: int) -> list[Line]:
    from saywhere.config import load_config
    from saywhere.mining import MiningItems, mine_hard_negatives

    dimension = load_config().head.dimension  # members mine alone, so vectors are this long
    say(f"mine: {count:,} pairs of {dimension} numbers")
    images = unit_vectors(count, dimension, seed=0)
    texts = images + unit_vectors(count, dimension, seed=1)
    texts /= np.linalg.norm(texts, axis=1, keepdims=True)
    codes = np.arange(count)
    items = MiningItems(texts, images, codes, codes)
    found: dict[str, object] = {}

    def ours() -> None:
        found["ours"] = mine_hard_negatives(items, TOP_K, relative_margin=MARGIN)

    def loop() -> None:
        found["loop"] = [_of_one(texts, images, row) for row in range(count)]

    jobs: dict[str, Callable[[], object]] = {"ours": ours, "loop": loop}
    others = _sentence_transformers(setting, texts, images)
    for shape in SHAPES if others else ():
        jobs[shape] = lambda shape=shape: found.update({shape: others(shape)})
    seconds = rounds(jobs, turns)
    sets = {job: _sets(mined, count) for job, mined in found.items()}
    return _lines(f"{count:,} pairs × {dimension}", seconds, sets, (texts, images))


def _sets(mined: object, count: int) -> Mined:
    """Negatives of each text, of any job's result."""
    if isinstance(mined, list):
        return mined
    if isinstance(mined, np.ndarray):
        return [set(row[row >= 0].tolist()) for row in mined]
    sets: Mined = [set() for _ in range(count)]
    for name in (name for name in mined.column_names if name.startswith("negative")):
        for text, image in zip(mined["text"], mined[name], strict=True):
            sets[int(text[1:])].add(int(image[1:]))
    return sets


def _lines(
    name: str,
    seconds: dict[str, list[float]],
    found: dict[str, Mined],
    vectors: tuple[np.ndarray, np.ndarray],
) -> list[Line]:
    names = {
        "loop": "a loop over the texts",
        "triplet": "sentence-transformers, its default triplets",
        "n-tuple": "sentence-transformers, its fastest form (n-tuple)",
    }
    lines = []
    for job, spent in seconds.items():
        if job == "ours":
            continue
        same = _compare(found["ours"], found[job], vectors, job)
        lines.append(
            Line(
                f"mine: {TOP_K} hard negatives a text",
                f"{name}; {same}",
                milliseconds(seconds["ours"]),
                f"{names[job]}: {milliseconds(spent)}",
                median(spent) / median(seconds["ours"]),
                "≥ 5" if job == "triplet" else "",
                seconds,
            )
        )
    if "triplet" not in seconds:
        missing = "sentence-transformers: not measured, needs sentence-transformers and datasets"
        lines.append(Line("mine", name, milliseconds(seconds["ours"]), missing))
    return lines


def _compare(ours: Mined, theirs: Mined, vectors: tuple[np.ndarray, np.ndarray], who: str) -> str:
    """Says how the negatives agree; stops where a difference is no tie in float32."""
    texts, images = vectors
    differ = [row for row, pair in enumerate(zip(ours, theirs, strict=True)) if pair[0] != pair[1]]
    for row in differ:
        scores = images.astype(np.float64) @ texts[row].astype(np.float64)
        only = sorted(ours[row] ^ theirs[row])
        spread = float(np.ptp(scores[only]))
        limit = scores[row] - MARGIN * abs(scores[row])  # an image at the margin itself
        if spread > 1e-6 and float(np.abs(scores[only] - limit).max()) > 1e-6:
            raise SystemExit(f"mine: text {row}: {who} differs in {only}, scores {scores[only]}")
    if not differ:
        return "same negatives"
    return f"same negatives but for {len(differ)} texts with a tie in float32"


def _of_one(texts: np.ndarray, images: np.ndarray, row: int) -> set[int]:
    scores = images @ texts[row]
    limit = scores[row] - MARGIN * abs(scores[row])
    order = np.argsort(-scores, kind="stable")
    best = order[(order != row) & (scores[order] <= limit)][:TOP_K]
    return set(best.tolist())


def _sentence_transformers(
    setting: Setting, texts: np.ndarray, images: np.ndarray
) -> Callable[[str], object] | None:
    """Its ``mine_hard_negatives`` on ready vectors; None where it or ``datasets`` is missing."""
    try:
        import datasets
        import torch
        from sentence_transformers.util import mine_hard_negatives
    except ImportError as error:
        say(
            f"mine: without sentence-transformers ({error}); pip install 'saywhere[train]' datasets"
        )
        return None
    torch.set_num_threads(setting.threads)
    datasets.disable_progress_bars()
    pairs = datasets.Dataset.from_dict(
        {
            "text": [f"t{row}" for row in range(len(texts))],
            "image": [f"i{row}" for row in range(len(texts))],
        }
    )
    model = _Ready(texts, images)

    return lambda shape: mine_hard_negatives(
        pairs, model, relative_margin=MARGIN, num_negatives=TOP_K, output_format=shape,
        verbose=False,
    )  # fmt: skip


class _Ready:
    """A model that knows its embeddings: text ``t7`` has row 7, image ``i7`` likewise."""

    def __init__(self, texts: np.ndarray, images: np.ndarray) -> None:
        import torch

        self.device = torch.device("cpu")
        self._texts, self._images = texts, images

    def encode_query(self, names: list[str], **_: object) -> np.ndarray:
        return self._texts[[int(name[1:]) for name in names]]

    def encode_document(self, names: list[str], **_: object) -> np.ndarray:
        return self._images[[int(name[1:]) for name in names]]

    def similarity(self, left: object, right: object) -> object:
        import torch

        return torch.as_tensor(left) @ torch.as_tensor(right).T

    def similarity_pairwise(self, left: object, right: object) -> object:
        import torch

        return (torch.as_tensor(left) * torch.as_tensor(right)).sum(1)
