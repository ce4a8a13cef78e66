"""What is fitted on known pairs is found again, covers what it says, and is bound to its index."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from saywhere import calibrate
from saywhere.calibrate import calibrate_pairs, judge_locations
from saywhere.certainty import (
    Binding,
    Certainty,
    Kind,
    calibration_path,
    load_certainty,
    save_certainty,
)
from saywhere.errors import DatasetError, InputError
from saywhere.geodesy import moved
from saywhere.location_metrics import calibration_error
from saywhere.pair_table import Pairing, PairTable
from saywhere.pairs import read_pairs
from saywhere.scored_images import ScoredImages
from saywhere.sharpness import Sharpness
from saywhere.types import Platform

BOUND = Binding("a" * 64, "b" * 64, "/photos")
ERROR_M = {Platform.SATELLITE: 8.0, Platform.DRONE: 40.0}


def simulated(seed: int, places: int = 60, asked: int = 400, sharp: float = 1.0) -> tuple[
    Pairing, ScoredImages
]:  # fmt: skip
    """An index whose scores are log-likelihood ratios at a temperature of 1 / ``sharp``.

    A score of N(d², d²) at the right place against N(0, d²) elsewhere has itself, less d²/2, as
    log-likelihood ratio.
    """
    rng = np.random.default_rng(seed)
    deviation = 2.2
    right = rng.integers(0, places, asked)
    scores = rng.normal(0, deviation, (asked, places))
    scores[np.arange(asked), right] += deviation**2
    lat, lon = 48 + rng.uniform(0, 0.2, places), 11 + rng.uniform(0, 0.2, places)
    platforms = [list(ERROR_M)[n] for n in rng.integers(0, 2, places)]
    error = np.asarray([ERROR_M[platform] for platform in platforms])
    at = moved(
        lat, lon, rng.uniform(0, 360, places), np.hypot(*rng.normal(size=(2, places))) * error
    )
    images = ScoredImages(
        tuple(f"{n:03d}" for n in range(places)),
        tuple(f"{n:03d}.jpg" for n in range(places)),
        tuple(platforms),
        (None,) * places,
        *at,
        np.asarray(scores * sharp, np.float32),
    )
    kinds: list[Kind] = ["words"] * asked
    return Pairing(lat[right], lon[right], np.full(asked, 150.0), tuple(kinds)), images


def test_temperature_and_errors_are_found_again() -> None:
    found = calibrate_pairs(*simulated(0, sharp=4.0)).certainty
    assert found.of("words").temperature == pytest.approx(4.0, rel=0.25)
    assert found.error_m[0] == pytest.approx(8.0, rel=0.4)
    assert found.error_m[1] == pytest.approx(40.0, rel=0.4)
    assert found.none(("words",)) is not None
    assert found.none(("words", "image")) is None


def test_regions_cover_what_they_say_on_new_data() -> None:
    fitted = calibrate_pairs(*simulated(1, 120, 700))
    assert fitted.report["coverage_95"] == pytest.approx(0.95, abs=0.03)
    assert fitted.report["coverage_50"] == pytest.approx(0.50, abs=0.06)
    judged, _ = judge_locations(*simulated(2, 120, 700), fitted.certainty)
    levels = fitted.certainty.levels
    assert float((judged.mass <= levels[1]).mean()) == pytest.approx(0.95, abs=0.03)
    assert float((judged.mass <= levels[0]).mean()) == pytest.approx(0.50, abs=0.07)
    assert calibration_error(judged.confidence, judged.right) < 0.06
    assert float(judged.none_without.mean()) > 1.15 * float(judged.none.mean())


def test_an_overconfident_temperature_would_not_cover() -> None:
    """The test above can fail: so it does without calibration."""
    truth, images = simulated(2, 120, 700, sharp=6.0)
    judged, _ = judge_locations(truth, images, Certainty({"words": Sharpness(0.5, 0.01, 1.0)}))
    assert float((judged.mass <= 0.95).mean()) < 0.9


@pytest.mark.parametrize(("copies", "low", "high"), [(False, 0.0, 0.25), (True, 0.8, 1.0)])
def test_repeated_descriptions_are_worth_one(copies: bool, low: float, high: float) -> None:
    truth, images = simulated(8, 40, 600)
    if copies:  # every description said again word for word
        right = [np.flatnonzero(truth.lat == lat)[0] for lat in np.unique(truth.lat)]
        rows = np.tile(right, 3)
        kinds: list[Kind] = ["words"] * len(rows)
        truth = Pairing(truth.lat[rows], truth.lon[rows], truth.metres[rows], tuple(kinds))
        images = replace(images, scores=images.scores[rows])
    fitted = calibrate_pairs(truth, images).certainty
    assert low <= fitted.correlation <= high
    assert fitted.worth(1) == 1
    assert fitted.worth(3) == pytest.approx(1 / (1 + 2 * fitted.correlation))


def test_kinds_are_fitted_apart() -> None:
    truth, images = simulated(3)
    scores = images.scores.copy()
    scores[200:] *= 5
    truth = replace(truth, kinds=("words",) * 200 + ("image",) * 200)
    found = calibrate_pairs(truth, replace(images, scores=scores)).certainty
    ratio = found.of("image").temperature / found.of("words").temperature
    assert ratio == pytest.approx(5, rel=0.35)


def test_pairs_without_a_place_are_left_out_and_counted() -> None:
    truth, images = simulated(4)
    lost = truth.lat.copy()
    lost[:7] = -30
    fitted = calibrate_pairs(replace(truth, lat=lost), images)
    assert fitted.report["without_a_place"] == 7
    assert fitted.report["queries"] == 393
    assert any("7 pairs left out" in line for line in fitted.lines())
    with pytest.raises(InputError, match="none of the 400 pairs"):
        calibrate_pairs(replace(truth, lat=-truth.lat), images)


def test_places_are_never_split_between_folds(monkeypatch: pytest.MonkeyPatch) -> None:
    truth, images = simulated(7, 30, 200)
    fit, fitted_on = calibrate._fit, list[set[float]]()

    def watched(table: PairTable, *arguments: Any) -> Certainty:
        fitted_on.append(set(truth.lat[arguments[1]].tolist()))
        return fit(table, *arguments)

    monkeypatch.setattr(calibrate, "_fit", watched)
    calibrate_pairs(truth, images)
    *folds, last = fitted_on
    assert last == set(truth.lat.tolist())
    left_out = [last - fold for fold in folds]
    assert len(folds) == 5
    # A split place would be fitted on in every fold, and be left out of none.
    assert set().union(*left_out) == last
    assert sum(map(len, left_out)) == len(last)


def test_too_few_pairs_are_refused() -> None:
    truth, images = simulated(5, asked=12)
    with pytest.raises(InputError, match="too few to fit and to check"):
        calibrate_pairs(truth, images)


def test_the_file_is_read_back_and_bound(tmp_path: Path) -> None:
    fitted = calibrate_pairs(*simulated(6))
    uri = str(tmp_path / "index")
    assert load_certainty(uri, BOUND) is None
    path = save_certainty(uri, fitted.certainty, BOUND, fitted.report)
    assert path == calibration_path(uri) == tmp_path / "index.calibration.json"
    assert load_certainty(uri, BOUND) == fitted.certainty
    for other in (
        replace(BOUND, expert_hash="c" * 64),
        replace(BOUND, fusion_hash="c" * 64),
        replace(BOUND, root="/elsewhere"),
    ):
        with pytest.raises(InputError, match="belongs to other experts, fusion or images"):
            load_certainty(uri, other)


@pytest.mark.parametrize(
    "damage",
    [
        {"format": "x"},
        {"error_m": [1, 2, 3]},
        {"error_m": [1, 2, 3, -4]},
        {"error_m": [1, 2, 3, float("nan")]},
        {"residuals": "many"},
        {"kinds": {"words": {"temperature": 0, "stray": 0.1, "none_offset": 1}}},
        {"kinds": {"words": {"temperature": 1}}},
        {"kinds": []},
        {"none_share": 1},
        {"levels": None},
        {"correlation": 2},
    ],
)
def test_a_damaged_file_is_refused(tmp_path: Path, damage: dict[str, object]) -> None:
    uri = str(tmp_path / "index")
    fitted = Certainty({"words": Sharpness(1.0, 0.1, 1.0)})
    path = save_certainty(uri, fitted, BOUND, {})
    assert load_certainty(uri, BOUND) == fitted
    path.write_text(json.dumps(json.loads(path.read_text()) | damage))
    with pytest.raises(InputError, match="saywhere calibrate"):
        load_certainty(uri, BOUND)
    path.write_text("{")
    with pytest.raises(InputError, match="cannot be read"):
        load_certainty(uri, BOUND)


def test_calibration_error_is_the_mean_gap() -> None:
    confidence = np.repeat([0.2, 0.9], 50)
    right = np.concatenate([np.arange(50) % 5 < 1, np.arange(50) % 5 < 3])
    assert calibration_error(confidence, right) == pytest.approx((0 + 0.3) / 2)


def pairs_file(folder: Path, text: str) -> Path:
    (folder / "a.jpg").write_bytes(b"")
    path = folder / "pairs.csv"
    path.write_text(text)
    return path


def test_pairs_are_words_or_photos(tmp_path: Path) -> None:
    text = 'Query,image,lat,lon,metres,who\n"a, b",,48.1,11.2,,x\n\n,a.jpg,-3,+4,25,y\n'
    words, photo = read_pairs(pairs_file(tmp_path, text), 100)
    assert (words.query, words.image, words.lat, words.lon, words.metres) == (
        "a, b", None, 48.1, 11.2, 100,
    )  # fmt: skip
    assert (photo.query, photo.image, photo.metres) == (None, tmp_path / "a.jpg", 25)


def test_every_bad_pair_is_named(tmp_path: Path) -> None:
    rows = ["x,,91,0,", "x,a.jpg,1,2,", ",,1,2,", ",b.jpg,1,2,", "x,,1,2,-5", "x,,1,nan,"]
    path = pairs_file(tmp_path, "query,image,lat,lon,metres\n" + "\n".join(rows) + "\n")
    with pytest.raises(DatasetError) as caught:
        read_pairs(path, 100)
    assert [problem.split(":")[0] for problem in caught.value.problems] == [
        f"line {n}" for n in range(2, 8)
    ]
    with pytest.raises(InputError, match="header must name"):
        read_pairs(pairs_file(tmp_path, "query,lat\n"), 100)
