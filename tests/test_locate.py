"""Images to places, to probabilities, to regions; each against a plain oracle."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saywhere.area import Area, Box, Circle
from saywhere.certainty import RESIDUALS, Certainty
from saywhere.errors import InputError
from saywhere.geodesy import distances_m, moved
from saywhere.hypotheses import Places, answers, group_images, points
from saywhere.locate import Where, locate
from saywhere.posterior import (
    Spread,
    mass_by_distance,
    mass_within,
    near_prior,
    posterior,
    radius_of,
)
from saywhere.scored_images import ScoredImages
from saywhere.sharpness import Sharpness
from saywhere.types import Platform

S, D, G = Platform.SATELLITE, Platform.DRONE, Platform.GROUND
ORIGIN = (48.0, 11.0)


def images_at(
    offsets: list[tuple[float, float]],
    scores: list[list[float]] | None = None,
    platforms: list[Platform | None] | None = None,
    place_ids: list[str | None] | None = None,
    origin: tuple[float, float] = ORIGIN,
) -> ScoredImages:
    """Images at (east, north) metres from an origin; NaN for no position."""
    count = len(offsets)
    east, north = np.asarray(offsets, float).T
    lat, lon = moved(*origin, np.degrees(np.arctan2(east, north)), np.hypot(east, north))
    return ScoredImages(
        tuple(f"i{n:03d}" for n in range(count)),
        tuple(f"/p/i{n:03d}.jpg" for n in range(count)),
        tuple(platforms or [S] * count),
        tuple(place_ids or [None] * count),
        lat,
        lon,
        np.asarray(scores or [[0.0] * count], np.float32),
    )


def groups_of(places: Places) -> set[frozenset[int]]:
    return {frozenset(places.images_of(at).tolist()) for at in range(places.count)}


def test_place_ids_hold_together_whatever_the_distance() -> None:
    images = images_at([(0, 0), (900, 0), (5, 0), (2000, 0)], place_ids=["a", "a", "b", None])
    assert groups_of(group_images(images, 100)) == {
        frozenset({0, 1}),
        frozenset({2}),
        frozenset({3}),
    }


def test_loose_images_join_a_known_place_within_half_a_diameter() -> None:
    images = images_at([(0, 0), (49, 0), (51, 0)], place_ids=["a", None, None])
    assert groups_of(group_images(images, 100)) == {frozenset({0, 1}), frozenset({2})}


def test_complete_linkage_never_chains_a_street() -> None:
    street = images_at([(40.0 * n, 0) for n in range(12)])
    places = group_images(street, 100)
    for members in groups_of(places):
        apart = [
            float(distances_m(street.lat[a], street.lon[a], street.lat[b], street.lon[b]))
            for a, b in itertools.combinations(members, 2)
        ]
        assert max(apart, default=0) <= 100
    assert 4 <= places.count <= 6


@pytest.mark.parametrize("origin", [(0.0, 180.0), (90.0, 0.0), (-89.9999, 50.0)])
def test_grouping_knows_no_antimeridian_and_no_pole(origin: tuple[float, float]) -> None:
    images = images_at([(-30, 0), (30, 0), (0, 500)], origin=origin)
    places = group_images(images, 100)
    assert groups_of(places) == {frozenset({0, 1}), frozenset({2})}
    lat, lon, _ = points(places, np.full(4, 10.0))
    at = next(n for n in range(2) if len(places.images_of(n)) == 2)
    assert float(distances_m(lat[at], lon[at], *origin)) < 1


def test_images_without_a_position_count_with_their_place_only() -> None:
    images = images_at([(0, 0), (0, 0), (0, 0)], place_ids=["a", "a", "b"])
    images.lat[1:], images.lon[1:] = np.nan, np.nan
    assert groups_of(group_images(images, 100)) == {frozenset({0, 1})}


def test_of_many_loose_images_the_best_are_linked_and_the_rest_stand_alone() -> None:
    images = images_at([(0, 0), (10, 0), (20, 0), (30, 0)], [[0.0, 3.0, 2.0, 1.0]])
    assert groups_of(group_images(images, 100, linked=2)) == {
        frozenset({1, 2}),
        frozenset({0}),
        frozenset({3}),
    }


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.05, 3), st.sampled_from([0.0, 0.1]))
def test_answers_equal_the_formula(seed: int, temperature: float, stray: float) -> None:
    rng = np.random.default_rng(seed)
    count = 12
    names = [f"{n}" for n in rng.integers(0, 4, count)]
    platforms = [[S, D, G, None][n] for n in rng.integers(0, 4, count)]
    scores = rng.normal(size=(2, count))
    images = images_at([(0, 0)] * count, scores.tolist(), platforms, list(names))
    places = group_images(images, 100)
    found = answers(places, images.scores, temperature, stray)
    for row in range(2):
        expected = []
        for at in range(places.count):
            total = 0.0
            for platform in (S, D, G, None):
                own = [
                    np.exp((images.scores[row, n] - images.scores[row].mean()) / temperature)
                    for n in places.images_of(at)
                    if platforms[n] == platform
                ]
                total += float(np.mean(own)) if own else 0.0
            expected.append(total)
        mixed = (1 - stray) * np.asarray(expected) + stray * np.mean(expected)
        assert found[row] == pytest.approx(np.log(mixed), abs=1e-4)


def test_photos_are_compared_within_each_platform() -> None:
    scores = [[0.2, 0.6, 0.1, 0.9, 0.8, 0.9]]  # every drone image is more like a drone photo
    names: list[str | None] = ["a", "b", "c"] * 2
    seen: list[Platform | None] = [S, S, S, D, D, D]
    images = images_at([(300.0 * (n % 3), 0) for n in range(6)], scores, seen, names)
    places = group_images(images, 100)
    found = answers(places, images.scores, 0.1, photos=True)[0]
    centred = np.array([0.2, 0.6, 0.1]) - 0.3, np.array([0.9, 0.8, 0.9]) - 2.6 / 3
    assert found == pytest.approx(np.log(sum(np.exp(part / 0.1) for part in centred)), abs=1e-5)
    assert int(found.argmax()) == 1
    certain = Certainty({"image": Sharpness(0.1, 0.01, 5.0)})
    assert locate(images, ("image",), certain).places[0].place_id == "b"


def test_a_point_is_where_the_precise_platform_says() -> None:
    images = images_at([(0, 0), (60, 0), (60, 0)], platforms=[S, D, D])
    lat, lon, error = points(group_images(images, 100), np.array([10.0, 30.0, 30.0, 30.0]))
    away = float(distances_m(*ORIGIN, lat[0], lon[0]))
    assert away == pytest.approx(
        60 * (1 / 900) / (1 / 100 + 1 / 900), rel=1e-3
    )  # one vote a platform
    assert float(error[0]) == pytest.approx((1 / 100 + 1 / 900) ** -0.5)


def test_probabilities_sum_to_one_and_descriptions_multiply() -> None:
    likelihood = np.log(np.array([[0.5, 0.3, 0.2], [0.1, 0.8, 0.1]]))
    found = posterior(likelihood, np.log(np.full(3, 1 / 3)), none=np.log(0.1))
    weights = np.array([0.05, 0.24, 0.02]) / 3
    assert found.places == pytest.approx(weights / (weights.sum() + 0.1))
    assert found.places.sum() + found.none == pytest.approx(1)
    assert posterior(likelihood, np.log(np.full(3, 1 / 3)), None).none == 0


def test_a_larger_index_makes_every_place_less_probable_and_none_no_more() -> None:
    rng = np.random.default_rng(0)
    certainty = Certainty({"words": Sharpness(1.0, 0.01, 2.0)})
    found = []
    for count in (50, 5000):
        scores = [[4.0, *rng.normal(size=count - 1)]]
        images = images_at([(300.0 * n, 0) for n in range(count)], scores)
        found.append(locate(images, ("words",), certainty))
    small, large = found
    assert small.places[0].lat == large.places[0].lat
    assert small.places[0].probability > 3 * large.places[0].probability
    assert large.none_probability == pytest.approx(small.none_probability, abs=0.15)
    assert large.none_probability is not None
    assert large.none_probability > 0.1


def test_a_last_known_position_is_believed_but_not_for_ever() -> None:
    lat, lon = moved(*ORIGIN, 90.0, np.array([0.0, 50.0, 1000.0]))
    prior = np.exp(near_prior(lat, lon, ORIGIN, 100.0))
    assert prior.sum() == pytest.approx(1)
    assert prior[0] / prior[1] == pytest.approx(np.exp(0.25 * -np.log(0.05)), rel=0.02)
    assert prior[2] == pytest.approx(0.01 / 3, rel=1e-3)
    far = near_prior(lat, lon, (0.0, 0.0), 100.0)
    assert np.ptp(far) == 0


def test_regions_agree_with_simulation() -> None:
    lat, lon = moved(*ORIGIN, 90.0, np.array([0.0, 150.0, 400.0]))
    probability, error = np.array([0.6, 0.3, 0.1]), np.array([20.0, 40.0, 30.0])
    spread = Spread(lat, lon, error, RESIDUALS)
    distance, within = mass_by_distance(probability, spread, 0)
    rng = np.random.default_rng(0)
    pick = rng.choice(3, 200_000, p=probability)
    east = rng.normal(size=len(pick)) * error[pick] + np.array([0.0, 150.0, 400.0])[pick]
    north = rng.normal(size=len(pick)) * error[pick]
    simulated = np.hypot(east, north)
    for level in (0.3, 0.5, 0.8, 0.95):
        radius = radius_of(distance, within, level)
        assert float((simulated <= radius).mean()) == pytest.approx(level, abs=0.015)
        assert mass_within(distance, within, radius) == pytest.approx(level, abs=0.005)
    assert within[-1] == pytest.approx(1)
    assert mass_within(distance, within, 0.0) == 0


def test_locate_lists_places_with_their_evidence() -> None:
    images = images_at(
        [(0, 0), (20, 0), (30, 0), (35, 0), (40, 0), (45, 0), (1000, 0)],
        [[3.0, 1.0, 2.9, 2.8, 2.7, 2.6, 0.0]],
        [S, D, G, G, G, G, S],
    )
    found = locate(images, ("words",), Certainty({"words": Sharpness(0.3, 0.01, 1.0)}))
    first = found.places[0]
    assert (first.rank, first.images, first.place_id) == (1, 6, None)
    assert [hit.image_id for hit in first.evidence] == ["i000", "i002", "i003", "i004", "i001"]
    assert first.radius_50_m < first.radius_95_m
    assert found.confident
    assert found.calibrated
    total = sum(place.probability for place in found.places) + found.elsewhere_probability
    assert total + (found.none_probability or 0) == pytest.approx(1)


def test_without_calibration_it_says_so() -> None:
    images = images_at([(300.0 * n, 0) for n in range(12)], [[0.0] * 12])
    found = locate(images, ("words",), Certainty())
    assert not found.calibrated
    assert found.none_probability is None
    assert not found.confident
    assert any("saywhere calibrate" in note for note in found.notes)
    assert found.radius_95_m is not None
    assert found.radius_95_m > 1500  # it may be anywhere, and says that


def test_several_descriptions_narrow_it_down() -> None:
    scores = [[2.0, 2.0, 0.0, *[0.0] * 20], [0.0, 2.0, 2.0, *[0.0] * 20]]
    images = images_at([(300.0 * n, 0) for n in range(23)], scores)
    certainty = Certainty({"words": Sharpness(0.5, 0.01, 1.0)})
    alone = locate(replace(images, scores=images.scores[:1]), ("words",), certainty)
    both = locate(images, ("words", "words"), certainty)
    assert alone.places[0].probability < 0.5
    assert both.places[0].evidence[0].image_id == "i001"
    assert both.places[0].probability > 0.8


def test_the_same_words_twice_are_no_more_evidence_if_that_was_found() -> None:
    scores = [[1.0, *[0.0] * 14]] * 2
    images = images_at([(300.0 * n, 0) for n in range(15)], scores)
    once = replace(images, scores=images.scores[:1])
    kinds = {"words": Sharpness(0.5, 0.01, 1.0)}
    alone = locate(once, ("words",), Certainty(kinds, correlation=1.0))
    for correlation, more in ((1.0, False), (0.0, True)):
        both = locate(images, ("words", "words"), Certainty(kinds, correlation=correlation))
        assert (both.places[0].probability > alone.places[0].probability + 0.01) == more


def test_filters_and_priors_change_what_is_possible() -> None:
    offsets = [(300.0 * n, 0.0) for n in range(12)]
    images = images_at(offsets, [[float(n == 3) for n in range(12)]], [S, D] * 6)
    certainty = Certainty()
    west = Area((Box(-180, -90, float(images.lon[2]) + 1e-6, 90),))
    assert len(locate(images, ("words",), certainty, Where(area=west), 20).places) == 3
    only = locate(images, ("words",), certainty, Where(frozenset({S})), 20)
    assert {hit.platform for place in only.places for hit in place.evidence} == {S}
    near = Circle(float(images.lat[9]), float(images.lon[9]), 200)
    first = locate(images, ("words",), certainty, Where(near=near)).places[0]
    assert first.evidence[0].image_id == "i009"
    lost = locate(images, ("words",), certainty, Where(near=Circle(0, 0, 200)))
    assert any("last known position" in note for note in lost.notes)
    with pytest.raises(InputError, match="no place of the index lies in"):
        locate(images, ("words",), certainty, Where(area=Area((Box(0, 0, 1, 1),))))
    with pytest.raises(InputError, match="has a position"):
        locate(images, ("words",), certainty, Where(frozenset({G})))
    with pytest.raises(InputError, match="nothing to locate"):
        locate(replace(images, scores=images.scores[:0]), (), certainty)


def test_regions_of_several_descriptions_are_no_narrower_than_stated() -> None:
    """Correlation 1: the same words twice are the same evidence, so only the mass can differ."""
    images = images_at([(300.0 * n, 0) for n in range(15)], [[1.0, *[0.0] * 14]] * 2)
    once = replace(images, scores=images.scores[:1])
    kinds = {"words": Sharpness(0.5, 0.01, 1.0)}
    for levels, wider in (((0.4, 0.8), True), ((0.6, 0.97), False)):
        fitted = Certainty(kinds, levels=levels, correlation=1.0)
        stated = Certainty(kinds, levels=(0.5, 0.95), correlation=1.0)
        alone, both = locate(once, ("words",), fitted), locate(images, ("words",) * 2, fitted)
        assert alone.radius_95_m is not None
        assert both.radius_95_m is not None
        assert (both.radius_95_m > alone.radius_95_m) == wider
        if wider:
            assert both.radius_95_m == locate(once, ("words",), stated).radius_95_m
