"""What the rows share: cached features, questions, a pool of trained generalists, the table."""

from __future__ import annotations

import io
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from saywhere import __version__
from saywhere.ablation.compare import outcome, query_values
from saywhere.ablation.run import kept_places
from saywhere.batches import TrainingSet
from saywhere.classify import fit_classifier
from saywhere.config import CanonicalConfig, Config
from saywhere.data import read
from saywhere.expert import Expert, Member, expert_from_arrays
from saywhere.features import ContentHashes, image_features, text_features
from saywhere.files import hash_arrays, hash_text, write_bytes
from saywhere.metrics import ranks
from saywhere.task import make_task
from saywhere.text.variants import operator_variant
from saywhere.towers import ImageTower, TextTower
from saywhere.train import train_layout, with_canonical
from saywhere.trainset import PreparedData, prepare
from saywhere.trials import Artefacts
from saywhere.types import PLATFORMS, Dataset, FloatArray, IntArray, Platform
from saywhere.views import FIXED_VIEWS

KINDS = ("operator queries", "captions")
FOLDS = 5


@dataclass(frozen=True, slots=True)
class Question:
    """Queries, a gallery, and which image each query describes.

    Attributes:
        texts: (q,) words.
        features: (q, text features) float32 of them.
        images: for each of n images (views, image features) float32.
        platforms: (n,) index into ``PLATFORMS``, told to those rows only that say so.
        target: (q,) row of the image described.
        places: (q,) its place.
    """

    texts: tuple[str, ...]
    features: FloatArray
    images: list[FloatArray]
    platforms: IntArray
    target: IntArray
    places: np.ndarray

    def ranks(self, scores: FloatArray) -> IntArray:
        """(q,) rank of the right image by (q, n) scores, ties against us."""
        return ranks(scores, self.target[:, None] == np.arange(len(self.images)))

    @property
    def means(self) -> FloatArray:
        """(n, image features): an image's views averaged, what the platform classifier sees."""
        return np.stack([views.mean(0) for views in self.images])


@dataclass(frozen=True, slots=True)
class Material:
    """Features of the training images and of what is asked, under one recipe."""

    config: Config
    data: PreparedData
    towers: tuple[ImageTower, TextTower]
    questions: Mapping[str, Question]

    def folds(self) -> list[tuple[IntArray, dict[str, Question]]]:
        """Five-fold by place: items to learn from, and the others as both kinds of question.

        Operator queries are imitated by rule-based variants of the captions.
        """
        places = np.asarray(self.data.place_ids)
        order = np.random.default_rng(0).permutation(np.unique(places))
        fold = dict(zip(order, np.arange(len(order)) % FOLDS, strict=True))
        folds = np.asarray([fold[place] for place in places])
        return [
            (np.flatnonzero(folds != f), self._held(np.flatnonzero(folds == f)))
            for f in range(FOLDS)
        ]

    def _held(self, items: IntArray) -> dict[str, Question]:
        data = self.data
        captions = [data.texts[data.train.text_start[i]] for i in items]
        asked = ([operator_variant(text, 0) for text in captions], captions)
        return {
            kind: Question(
                texts=tuple(texts),
                features=text_features(self.towers[1], texts),
                images=[data.test_features[i] for i in items],
                platforms=data.train.platforms[items],
                target=np.arange(len(items)),
                places=np.asarray(data.place_ids)[items],
            )
            for kind, texts in zip(KINDS, asked, strict=True)
        }

    def log_probability(self, question: Question) -> FloatArray:
        """(n, 3) platforms of the images by the product's classifier on training images."""
        means = np.stack([views.mean(0) for views in self.data.test_features])
        found = fit_classifier(means, self.data.train.platforms, c=1e-2)
        return found.log_probability(question.means)


def load(
    data: Path,
    config: Config,
    towers: tuple[ImageTower, TextTower],
    places: Mapping[Platform, int] | None = None,
) -> Material:
    """Prepare the training set and the two test sets; features come from the cache.

    Args:
        places: by platform, how many training places keep their images of it.
    """
    questions = {
        kind: asked(read(data / path), config, towers)
        for kind, path in zip(KINDS, ("track4-mini", "geotext-mini/test_mini.json"), strict=True)
    }
    whole = read(data / "geotext-mini/train.json")
    train = whole.only(kept_places(whole.records, places or {}))
    return Material(config, prepare(train, config, towers), towers, questions)


def asked(dataset: Dataset, config: Config, towers: tuple[ImageTower, TextTower]) -> Question:
    """A test set as a question, its images in the views of ``config``."""
    task = make_task(dataset)
    hashes, views = ContentHashes(), tuple(FIXED_VIEWS[name] for name in config.views.test)
    wanted = [hashes.request(record, views) for record in task.records]
    texts = tuple(query.text for query in task.queries)
    return Question(
        texts=texts,
        features=text_features(towers[1], texts),
        images=image_features(towers[0], wanted, config.towers.image.size),
        platforms=np.asarray([PLATFORMS.index(found) for found in task.platforms]),
        target=task.target,
        places=np.asarray(task.places)[task.target],
    )


@dataclass(frozen=True, slots=True)
class Pool:
    """Generalists by recipe, training items and number; trained once, kept in ``folder``."""

    folder: Path

    def member(self, config: Config, data: TrainingSet, number: int) -> tuple[Expert, float]:
        """A generalist of one trained member, and the seconds of processor time that took."""
        config = config.model_copy(update={"seed": number, "threads": 1})
        none = CanonicalConfig()
        one = {"layout": "generalist", "members": 1, "canonical": none}
        config = config.model_copy(update={"train": config.train.model_copy(update=one)})
        arrays = {name: getattr(data, name) for name in ("views", "texts", "places", "text_codes")}
        key = hash_text(json.dumps([config.model_dump_json(), hash_arrays(arrays)]))
        path = self.folder / f"{key}.npz"
        if path.exists():
            with np.load(path) as found:
                kept = dict(found)
            seconds = float(kept.pop("seconds"))
            return expert_from_arrays(None, kept), seconds
        started = time.process_time()
        expert = train_layout(data, config, lambda _line: None)[-1]
        seconds = time.process_time() - started
        file = io.BytesIO()
        np.savez(file, **expert.arrays(), seconds=np.float64(seconds))
        write_bytes(path, file.getvalue())
        return expert, seconds

    def ensemble(
        self, config: Config, data: TrainingSet, seed: int, count: int
    ) -> tuple[Expert, float]:
        """``count`` members of one seed; those of a smaller count are among them.

        Beside them stands the member in closed form, where the recipe has one.
        """
        members, seconds = self.members(config, data, seed, count)
        (expert,), more = closed([Expert(None, members)], config, data)
        return expert, seconds + more

    def members(
        self, config: Config, data: TrainingSet, seed: int, count: int
    ) -> tuple[tuple[Member, ...], float]:
        """The trained ones alone."""
        found = [self.member(config, data, 100 * seed + k) for k in range(count)]
        return tuple(expert.members[0] for expert, _ in found), sum(taken for _, taken in found)


def closed(
    experts: Sequence[Expert], config: Config, data: TrainingSet
) -> tuple[list[Expert], float]:
    """Experts with the member in closed form, where the recipe has one, and its seconds."""
    started = time.process_time()
    return with_canonical(experts, data, config, lambda _line: None), time.process_time() - started


@dataclass(slots=True)
class Row:
    """One system.

    Attributes:
        against: name of the row it is compared with.
        heads: trained numbers.
        seconds: processor time of training, mean of the seeds, members shared with others included.
        answers: by kind, ranks of each seed.
    """

    name: str
    against: str = ""
    heads: int = 0
    seconds: float = 0.0
    answers: dict[str, list[IntArray]] = field(default_factory=dict)

    def add(self, kind: str, found: IntArray) -> None:
        """The ranks of one more seed."""
        self.answers.setdefault(kind, []).append(found)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        answers = {kind: [r.tolist() for r in found] for kind, found in self.answers.items()}
        return {**asdict(self), "answers": answers}


@dataclass(frozen=True, slots=True)
class Setting:
    """What a part of the table needs.

    Attributes:
        data: folder of the data sets.
    """

    material: Material
    pool: Pool
    seeds: tuple[int, ...]
    data: Path

    def kept(self, name: str, make: Callable[[], Sequence[Row]]) -> list[Row]:
        """Rows by ``name``, made once and then found in the pool's folder.

        Known by recipe, training features and seeds, not by the code that made them: give another
        ``--out`` after changing it.
        """
        config, data = self.material.config, self.material.data
        shaping = [__version__, config.model_dump_json(), data.data_hash, self.seeds, name]
        artefacts, key = Artefacts(self.pool.folder), hash_text(json.dumps(shaping))
        found = artefacts.load(key)
        if found is None:
            artefacts.save(key, {"rows": [row.to_dict() for row in make()]})
            found = artefacts.load(key) or {"rows": []}
            say(name)
        return [row_from(values) for values in found["rows"]]


def row_from(values: Mapping[str, Any]) -> Row:
    """The inverse of ``Row.to_dict``."""
    answers = {kind: [np.asarray(r) for r in found] for kind, found in values["answers"].items()}
    return Row(**{**values, "answers": answers})


Part = Callable[[Setting], list[Row]]


def similarity(expert: Expert, question: Question) -> FloatArray:
    """(q, n) float32 of one expert."""
    texts = expert.encode_text(question.features)
    return np.asarray(texts @ expert.encode_image(question.images).T, np.float32)


def parameters(experts: Sequence[Expert]) -> int:
    """Trained numbers of heads; mean and deviation of the features are not trained."""
    names = ("weight1", "bias1", "weight2", "bias2")
    return sum(
        array.size
        for expert in experts
        for name, array in expert.arrays().items()
        if name.endswith(names)
    )


def value(answers: Mapping[str, Sequence[IntArray]]) -> float:
    """Mean over kinds of the mean of R@1/5/10: what is chosen by on training places."""
    return float(np.mean([query_values(found).mean() for found in answers.values()]))


def say(line: str) -> None:
    """Progress, on stderr."""
    print(line, file=sys.stderr, flush=True)


def table(rows: Sequence[Row], every: Sequence[Row], questions: Mapping[str, Question]) -> str:
    """Markdown of ``rows``; where ``against`` is not among ``every`` row there is no difference."""
    head = ["row", "against", "heads", "MB", "s"]
    for kind in questions:
        head += [kind, "R@1 / 5 / 10", "sd of seeds", "difference"]
    lines = ["| " + " | ".join(head) + " |", "|---|---|--:|--:|--:|" + "---|" * 4 * len(questions)]
    by_name = {row.name: row for row in every}
    for row in rows:
        other = by_name.get(row.against)
        cells = [row.name, row.against or "–", f"{row.heads / 1e6:.2f} M"]
        cells += [f"{2e-6 * row.heads:.1f}", f"{row.seconds:.0f}"]
        for kind in questions:
            baseline = other.answers[kind] if other else None
            cells += outcome(row.answers[kind], baseline, questions[kind].places).cells()
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
