"""What is fitted on known pairs so that probabilities and regions are honest, and its file.

The file lies beside the index, ``<index>.calibration.json``, and is bound to it: to the experts, to
their fusion, and to the indexed folder. Without it, outputs say ``uncalibrated``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from saywhere.errors import InputError
from saywhere.expert_set import ExpertSet
from saywhere.files import hash_text, write_text
from saywhere.fusion import neutral
from saywhere.sharpness import NONE_SHARE, Sharpness
from saywhere.store import StoreInfo, index_folder

Kind = Literal["words", "image"]
KINDS: tuple[Kind, ...] = ("words", "image")
FORMAT = "saywhere-calibration-1"
_SHARPNESS = ("temperature", "stray", "none_offset")
LEVELS = (0.5, 0.95)
# Standard errors in metres assumed of satellite tiles, drone and ground cameras and unknown ones:
# a tile's centre is near what it shows, a camera is not.
ERROR_M = (20.0, 60.0, 40.0, 60.0)
DIAMETER_M = 100.0
CORRELATION = 0.3  # near what rendered worlds' queries have
# Rayleigh's distribution, that of a round normal; its last percentile is finite here.
RESIDUALS = tuple(float(np.sqrt(-2 * np.log1p(-p))) for p in [*np.linspace(0, 0.95, 20), 0.9989])


@dataclass(frozen=True, slots=True)
class Certainty:
    """Everything ``locate`` needs to know about how wrong it may be.

    Attributes:
        kinds: by kind of query; those that are missing are uncalibrated.
        error_m: standard error, a horizontal axis, by platform, the last for unknown: of an image's
            position against what is described.
        residuals: 21 quantiles, at 0, 5 … 100 %, of distance to the truth / error of the place.
        levels: nominal mass at which regions were seen to hold 50 and 95 % of the truths.
        diameter_m: how images without place_id were grouped.
        none_share: prior probability that the index doesn't hold what is described.
        correlation: of descriptions of one place. They share words and mistakes, so r of them are
            worth r / (1 + (r - 1) correlation) independent ones (the effective sample size of
            cluster sampling: Kish 1965).
        assumed_temperature: of kinds that weren't fitted.
    """

    kinds: Mapping[str, Sharpness] = field(default_factory=dict)
    error_m: tuple[float, ...] = ERROR_M
    residuals: tuple[float, ...] = RESIDUALS
    levels: tuple[float, float] = LEVELS
    diameter_m: float = DIAMETER_M
    none_share: float = NONE_SHARE
    correlation: float = CORRELATION
    assumed_temperature: float = 1.0

    def of(self, kind: Kind) -> Sharpness:
        """Of a kind of query; neutral where it wasn't fitted."""
        return self.kinds.get(kind, Sharpness(self.assumed_temperature))

    def none(self, kinds: tuple[Kind, ...]) -> float | None:
        """Log of odds and likelihood of "none" after descriptions of ``kinds``, if all fitted."""
        offsets = [self.of(kind).none_offset for kind in kinds]
        fitted = [offset for offset in offsets if offset is not None]
        if len(fitted) < len(offsets):
            return None
        odds = math.log(self.none_share / (1 - self.none_share))
        return odds + self.worth(len(kinds)) * sum(fitted)

    def levels_of(self, descriptions: int) -> tuple[float, float]:
        """Nominal mass of the regions of so many descriptions of one place.

        ``levels`` are fitted on one each. Several may repeat one mistake, so their regions are
        never made narrower than stated for what one alone was seen to hold.
        """
        if descriptions == 1:
            return self.levels
        return max(self.levels[0], LEVELS[0]), max(self.levels[1], LEVELS[1])

    def worth(self, descriptions: int) -> float:
        """What each of so many descriptions of one place counts, in (0, 1]."""
        return 1 / (1 + (descriptions - 1) * self.correlation)


def uncalibrated(experts: ExpertSet) -> Certainty:
    """What to assume of an index before anything is fitted on it.

    A fitted fusion gives log-odds; similarities that count as they are were trained at the experts'
    logit scale.
    """
    if experts.calibration() != neutral(len(experts.experts)):
        return Certainty()
    scales = [member.logit_scale for expert in experts.experts for member in expert.members]
    return Certainty(assumed_temperature=1 / float(np.mean(scales)))


@dataclass(frozen=True, slots=True)
class Binding:
    """What a calibration belongs to: image vectors, query side, indexed folder."""

    expert_hash: str
    fusion_hash: str
    root: str


def binding(experts: ExpertSet, info: StoreInfo) -> Binding:
    """Of an index searched by these experts."""
    mode = experts.config.fusion.mode
    query_side = {
        "calibration": asdict(experts.calibration()),
        "prior": experts.config.fusion.prior,
        "clean": experts.config.text.clean_queries,
        "mode": mode,
    }
    return Binding(info.expert_hash, hash_text(json.dumps(query_side, sort_keys=True)), info.root)


def calibration_path(uri: str) -> Path:
    """Where the calibration of an index lies: beside it, so that no rebuild sweeps it away."""
    folder = Path(index_folder(uri)).absolute()
    return folder.with_name(f"{folder.name}.calibration.json")


def save_certainty(
    uri: str, certainty: Certainty, bound: Binding, report: Mapping[str, Any]
) -> Path:
    """Write the calibration of an index, atomically; errors as ``write_text``."""
    path = calibration_path(uri)
    value = {"format": FORMAT, "bound_to": asdict(bound), **asdict(certainty), "report": report}
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")
    return path


def load_certainty(uri: str, bound: Binding) -> Certainty | None:
    """The calibration of an index; None where none was made.

    Raises:
        InputError: one that cannot be read, or that belongs to other experts, another fusion or
            another folder: its probabilities would be wrong without a sign of it.
    """
    path = calibration_path(uri)
    remedy = "run `saywhere calibrate` again, or remove it"
    try:
        found = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read ({error}); {remedy}") from None
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise InputError(f"{path}: is no {FORMAT}; {remedy}")
    if found.get("bound_to") != asdict(bound):
        raise InputError(f"{path}: belongs to other experts, fusion or images; {remedy}")
    try:
        return _certainty(found)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path}: is damaged ({error}); {remedy}") from None


def _certainty(found: Mapping[str, Any]) -> Certainty:
    kinds = {
        str(name): Sharpness(*(float(value[part]) for part in _SHARPNESS))
        for name, value in found["kinds"].items()
    }
    certainty = Certainty(
        kinds=kinds,
        error_m=_numbers(found["error_m"], len(ERROR_M)),
        residuals=_numbers(found["residuals"], len(RESIDUALS)),
        levels=_numbers(found["levels"], 2),  # type: ignore[arg-type]
        diameter_m=float(found["diameter_m"]),
        none_share=float(found["none_share"]),
        correlation=float(found["correlation"]),
        assumed_temperature=float(found["assumed_temperature"]),
    )
    positive = [*certainty.error_m, certainty.diameter_m, certainty.assumed_temperature]
    positive += [kind.temperature for kind in kinds.values()]
    shares = [certainty.none_share, *(kind.stray for kind in kinds.values())]
    ascending = sorted(certainty.residuals) == list(certainty.residuals)
    if not 0 <= certainty.correlation <= 1:
        raise ValueError("correlation out of range")
    if min(positive) <= 0 or not all(0 < share < 1 for share in shares) or not ascending:
        raise ValueError("numbers out of range")
    return certainty


def _numbers(values: list[Any], count: int) -> tuple[float, ...]:
    numbers = tuple(float(value) for value in values)
    if len(numbers) != count or not all(math.isfinite(number) for number in numbers):
        raise ValueError(f"needs {count} finite numbers")
    return numbers
