"""Asks one task clean, then with corrupted images and with corrupted queries.

Each corruption's ranks are an artefact by hash, so the same command goes on where it was stopped.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

import saywhere
from saywhere.bootstrap import interval, paired_difference
from saywhere.embed import embed_images, embed_queries, platform_codes
from saywhere.errors import InputError
from saywhere.expert_set import ExpertSet
from saywhere.features import content_hashes
from saywhere.files import hash_text
from saywhere.hardware import Runtime
from saywhere.images import read_image
from saywhere.robustness import texts
from saywhere.robustness.encode import embed_decoded
from saywhere.robustness.images import COMMON, GROUPS, SEVERITIES, check_installed, corrupt_image
from saywhere.task import Task
from saywhere.trials import Artefacts, asked_places, task_hash
from saywhere.types import FloatArray, IntArray, Log, Query
from saywhere.vector_metrics import ranks_of_labels

if TYPE_CHECKING:
    from PIL.Image import Image

RESULTS_FOLDER = "results"
HEADLINE_SEVERITY = 3
ALL = "all"  # of ``Plan.every_severity``
_CUT = 10


@dataclass(frozen=True, slots=True)
class Plan:
    """Which corruptions are tried.

    Attributes:
        severities: of the corruptions of images and of words that have any.
        every_severity: corruptions that are tried at all five, whatever ``severities`` says; or
            ``ALL``.
        images, words: names of corruptions.

    Raises:
        InputError: a name in ``every_severity`` that is none of the others'.
    """

    severities: tuple[int, ...] = (HEADLINE_SEVERITY,)
    every_severity: tuple[str, ...] = ()
    images: tuple[str, ...] = (*COMMON, "occlusion")
    words: tuple[str, ...] = texts.NAMES

    def __post_init__(self) -> None:
        names = (*self.images, *self.words, ALL)
        if lost := [name for name in self.every_severity if name not in names]:
            raise InputError(
                f"{lost[0]}: cannot be tried at every severity, since it is not tried; choose from "
                f"{', '.join(names)}"
            )

    def trials(self) -> list[tuple[str, str, int]]:
        """(kind, name, severity), those of severity 3 first: they make the headline."""
        out = []
        for kind, names in (("image", self.images), ("words", self.words)):
            for name in names:
                curved = ALL in self.every_severity or name in self.every_severity
                wanted = SEVERITIES if curved else self.severities
                if name in texts.WORDINGS:
                    wanted = (HEADLINE_SEVERITY,)  # they have only one
                out += [(kind, name, severity) for severity in wanted]
        return sorted(out, key=lambda trial: trial[2] != HEADLINE_SEVERITY)


@dataclass(frozen=True, slots=True)
class Trial:
    """One corruption at one severity.

    Attributes:
        kind: ``image`` or ``words``.
        group: noise, blur, …; ``words`` for those of words.
        recall: R@10 under it, percent, with its 95 % interval by place.
        loss: clean minus corrupted, percent points, paired by query, with its interval.
        retained: R@10 under it as percent of clean R@10.
        changed: percent of images or queries that it changed.
    """

    kind: str
    name: str
    group: str
    severity: int
    recall: tuple[float, float, float]
    loss: tuple[float, float, float]
    retained: float
    changed: float


@dataclass(frozen=True, slots=True)
class Robustness:
    """What was retained.

    Attributes:
        clean: R@10 of clean images and queries, percent.
        context: what was asked of what.
    """

    clean: float
    trials: tuple[Trial, ...]
    context: dict[str, Any]

    def mean_retained(self, kind: str, severity: int = HEADLINE_SEVERITY) -> float | None:
        """Percent of clean R@10, mean over the corruptions tried at this severity; None of none.

        Of images the fifteen common ones count; occlusion is reported beside them.
        """
        counted = [
            trial.retained
            for trial in self.trials
            if trial.kind == kind and trial.severity == severity and trial.name != "occlusion"
        ]
        return float(np.mean(counted)) if counted else None

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        means = {
            kind: {str(s): self.mean_retained(kind, s) for s in SEVERITIES}
            for kind in ("image", "words")
        }
        return {
            "clean_recall_at_10": self.clean,
            "mean_retained": means,
            "context": self.context,
            "trials": [asdict(trial) for trial in self.trials],
        }


def run_robustness(
    experts: ExpertSet,
    task: Task,
    plan: Plan,
    out: Path,
    log: Log,
    *,
    runtime: Runtime | None = None,
) -> Robustness:
    """Try every corruption that ``out`` has no result of.

    Args:
        task: its records' platforms are used where they are known; hide them for a mixed gallery.
        out: results are kept in its folder ``results``.
        log: called with one line a corruption.

    Raises:
        InputError: no such corruption, or nothing is found clean, so nothing can be retained.
        MissingExtraError: images are to be corrupted and the package is not installed.
        ImageError, ExpertError: as ``embed_images``.
    """
    trials = plan.trials()
    if any(kind == "image" for kind, _, _ in trials):
        check_installed()
    asker = _Asker(experts, task, Artefacts(out / RESULTS_FOLDER), runtime)
    places = asked_places(task)
    clean = _percent(asker.clean)
    if not clean.any():
        raise InputError(
            "no query has its image among the first ten even clean, so nothing can be retained; "
            "use experts that know this imagery"
        )
    found = []
    for number, (kind, name, severity) in enumerate(trials, start=1):
        started = time.perf_counter()
        ranks, changed = asker.ask(kind, name, severity)
        trial = _trial((kind, name, severity), clean, _percent(ranks), places, changed)
        found.append(trial)
        seconds = time.perf_counter() - started
        log(f"{number} of {len(trials)}: {name}, severity {severity}: {trial.retained:.0f} % of "
            f"R@10 retained, {seconds:.0f} s")  # fmt: skip
    return Robustness(float(clean.mean()), tuple(found), _context(experts, task))


def _percent(ranks: IntArray) -> NDArray[np.float64]:
    """(q,) 100 for a hit, else 0."""
    return np.where(ranks <= _CUT, 100.0, 0.0)


def _trial(
    which: tuple[str, str, int],
    clean: NDArray[np.float64],
    hits: NDArray[np.float64],
    places: NDArray[np.str_],
    changed: float,
) -> Trial:
    """``which``: kind, name, severity; ``clean``, ``hits``: (q,) 100 for a hit, else 0."""
    kind, name, severity = which
    own, gap = interval(hits, places), paired_difference(clean, hits, places)
    return Trial(
        kind=kind,
        name=name,
        group=next((group for group, names in GROUPS.items() if name in names), "words"),
        severity=severity,
        recall=(own.value, own.low, own.high),
        loss=(gap.value, gap.low, gap.high),
        retained=100 * own.value / float(clean.mean()),
        changed=changed,
    )


def _context(experts: ExpertSet, task: Task) -> dict[str, Any]:
    return {
        "queries": len(task.queries),
        "images": len(task.records),
        "places": len(set(task.places)),
        "platforms_known": sum(record.platform is not None for record in task.records),
        "experts": [expert.name for expert in experts.experts],
        "expert_hash": experts.hash,
        "fusion": experts.config.fusion.mode,
        "views": list(experts.config.views.test),
    }


class _Asker:
    """One system and one task; images are decoded once."""

    def __init__(
        self, experts: ExpertSet, task: Task, artefacts: Artefacts, runtime: Runtime | None
    ) -> None:
        self._experts, self._task = experts, task
        self._artefacts, self._runtime = artefacts, runtime
        self._known = platform_codes(task.records)
        self._digests = content_hashes(task.records)
        self._decoded: list[Image] = []
        images = embed_images(experts, task.records, runtime=runtime)
        self._images = images.embeddings.vectors
        self._queries = embed_queries(experts, task.queries, runtime=runtime).vectors
        calibration = asdict(experts.calibration())
        system = [experts.hash, calibration, self._known.tolist(), task_hash(task)]
        self._system = hash_text(json.dumps([saywhere.__version__, *system]))
        self.clean = self._ranks(self._images, self._queries)

    def ask(self, kind: str, name: str, severity: int) -> tuple[IntArray, float]:
        """(q,) ranks under a corruption, and the percent of inputs it changed."""
        key = hash_text(f"{self._system}:{kind}:{name}:{severity}")
        found = self._artefacts.load(key)
        if found is None:
            found = self._image(name, severity) if kind == "image" else self._words(name, severity)
            self._artefacts.save(key, {"kind": kind, "name": name, "severity": severity, **found})
        return np.asarray(found["ranks"], np.int64), float(found["changed"])

    def _image(self, name: str, severity: int) -> dict[str, Any]:
        if not self._decoded:
            self._decoded = [read_image(record.path) for record in self._task.records]
        images = self._corrupted(name, severity)
        vectors = embed_decoded(self._experts, images, self._known, self._runtime)
        return {"ranks": self._ranks(vectors, self._queries).tolist(), "changed": 100.0}

    def _corrupted(self, name: str, severity: int) -> Iterator[Image]:
        for image, digest in zip(self._decoded, self._digests, strict=True):
            yield corrupt_image(image, name, severity, seed=int(digest[:8], 16))

    def _words(self, name: str, severity: int) -> dict[str, Any]:
        asked: Sequence[Query] = self._task.queries
        other = [replace(q, text=texts.corrupt_text(q.text, name, severity)) for q in asked]
        vectors = embed_queries(self._experts, other, runtime=self._runtime).vectors
        changed = np.mean([one.text != two.text for one, two in zip(asked, other, strict=True)])
        return {
            "ranks": self._ranks(self._images, vectors).tolist(),
            "changed": 100.0 * float(changed),
        }

    def _ranks(self, images: FloatArray, queries: FloatArray) -> IntArray:
        return ranks_of_labels(queries, images, self._task.target, np.arange(len(images)))
