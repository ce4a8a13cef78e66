"""Ranked images to places on the map, each with a probability and a radius in metres.

    scored = store.scores(queries.vectors)
    locate(scored, ("words",), Certainty())

Every image of the index is scored, because a probability needs all the alternatives. See
``hypotheses`` for places, ``posterior`` for probabilities and regions, ``certainty`` for what is
fitted.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np

from saywhere.area import Area, Circle
from saywhere.certainty import LEVELS, Certainty, Kind
from saywhere.errors import InputError
from saywhere.hypotheses import Floats, Places, answers, group_images, points
from saywhere.period import Period
from saywhere.posterior import Spread, mass_by_distance, near_prior, posterior, radius_of
from saywhere.scored_images import ScoredImages
from saywhere.types import BoolArray, Hit, Location, Place, Platform

_EVIDENCE = 3  # images a platform
_FEW = 10  # places; fewer say little about what a score means


@dataclass(frozen=True, slots=True)
class Where:
    """What is known of the place besides its descriptions.

    Attributes:
        platforms: only images of these count; None for all.
        area: the place lies in it, for certain.
        period: only images known to be taken in it count.
        near: a last known position and the metres it may be off, with 95 % probability.
    """

    platforms: Collection[Platform] | None = None
    area: Area | None = None
    near: Circle | None = None
    period: Period | None = None


def locate(
    images: ScoredImages,
    kinds: tuple[Kind, ...],
    certainty: Certainty,
    where: Where | None = None,
    count: int = 5,
) -> Location:
    """Where the descriptions are of, all taken to be of one place.

    Args:
        images: all images of the index, scored by q descriptions.
        kinds: (q,) what each description is.
        count: how many places to list.

    Raises:
        InputError: no description, or no image with a position that qualifies.
    """
    if not kinds or len(kinds) != len(images.scores):
        raise InputError(f"{len(kinds)} descriptions: nothing to locate; say what you see")
    where = where or Where()
    places = group_images(_chosen(images, where), certainty.diameter_m)
    if not places.count:
        raise InputError(
            "no image of the index that qualifies has a position; index images with coordinates, "
            "or ask for other platforms"
        )
    lat, lon, error = points(places, np.asarray(certainty.error_m))
    spread = Spread(lat, lon, error, certainty.residuals)
    log_prior, notes = _prior(spread, where)
    likelihood = np.concatenate([
        answers(places, images.scores[row : row + 1], *certainty.of(kind).evidence,
                photos=kind == "image")
        for row, kind in enumerate(kinds)
    ])  # fmt: skip
    likelihood *= certainty.worth(len(kinds))
    found = posterior(likelihood, log_prior, certainty.none(kinds))
    return _location(images, places, spread, certainty, (found.places, found.none, kinds, count),
                     notes)  # fmt: skip


def _chosen(images: ScoredImages, where: Where) -> ScoredImages:
    """Images that don't count lose their position and place, so that no place shows them."""
    if where.platforms is None and where.period is None:
        return images
    other = np.zeros(len(images.image_ids), bool)
    if where.platforms is not None:
        other |= [platform not in where.platforms for platform in images.platforms]
    if where.period is not None:
        inside = images.taken is not None and where.period.contains(images.taken)
        other |= np.logical_not(inside)
    return replace(
        images,
        place_ids=tuple(
            None if gone else name for name, gone in zip(images.place_ids, other, strict=True)
        ),
        lat=np.where(other, np.nan, images.lat),
        lon=np.where(other, np.nan, images.lon),
    )


def _prior(spread: Spread, where: Where) -> tuple[Floats, list[str]]:
    inside: BoolArray = np.ones(len(spread.lat), bool)
    if where.area is not None:
        inside = where.area.contains(spread.lat, spread.lon)
        if not inside.any():
            raise InputError("no place of the index lies in the given area; widen it")
    log_prior = np.full(len(inside), -np.inf)
    notes = [] if inside.sum() >= _FEW else [f"only {inside.sum()} places to choose from"]
    if where.near is None:
        log_prior[inside] = -np.log(inside.sum())
        return log_prior, notes
    near = where.near
    at = spread.lat[inside], spread.lon[inside]
    log_prior[inside] = near_prior(*at, (near.lat, near.lon), near.metres)
    if np.ptp(log_prior[inside]) == 0 and inside.sum() > 1:
        notes.append("no place of the index is near the last known position, which is ignored")
    return log_prior, notes


def _location(
    images: ScoredImages,
    places: Places,
    spread: Spread,
    certainty: Certainty,
    found: tuple[Floats, float, tuple[Kind, ...], int],
    notes: list[str],
) -> Location:
    probability, none, kinds, count = found
    best = np.argsort(-probability, kind="stable")[:count]
    best = best[probability[best] > 0]
    calibrated = all(kind in certainty.kinds for kind in kinds)
    listed = tuple(
        _place(images, places, spread, (rank, int(at), float(probability[at])))
        for rank, at in enumerate(best, 1)
    )
    if not calibrated:
        notes = [*notes, "uncalibrated: run `saywhere calibrate` on known pairs of this index"]
    first = float(probability[best[0]]) if len(best) else 0.0
    radii = (
        [radius_of(*mass_by_distance(probability, spread, int(best[0])), level)
         for level in certainty.levels_of(len(kinds))]
        if len(best) else [None, None]
    )  # fmt: skip
    return Location(
        places=listed,
        none_probability=none if calibrated else None,
        elsewhere_probability=max(0.0, 1 - none - sum(place.probability for place in listed)),
        radius_50_m=radii[0],
        radius_95_m=radii[1],
        calibrated=calibrated,
        confident=first > 0.5,
        notes=tuple(notes),
    )


def _place(
    images: ScoredImages,
    places: Places,
    spread: Spread,
    which: tuple[int, int, float],
) -> Place:
    rank, at, probability = which
    rows = places.images_of(at)
    radius = spread.error_m[at] * spread.quantile(np.asarray(LEVELS))
    names = {images.place_ids[row] for row in rows} - {None}
    return Place(
        rank=rank,
        probability=probability,
        lat=float(spread.lat[at]),
        lon=float(spread.lon[at]),
        radius_50_m=float(radius[0]),
        radius_95_m=float(radius[1]),
        place_id=next(iter(names)) if names else None,
        images=len(rows),
        evidence=_evidence(images, rows),
    )


def _evidence(images: ScoredImages, rows: np.ndarray) -> tuple[Hit, ...]:
    """The best images of a place, by their mean score over the descriptions."""
    mean = images.scores[:, rows].mean(0)
    taken: dict[Platform | None, int] = {}
    hits: list[Hit] = []
    for at in np.argsort(-mean, kind="stable"):
        row = int(rows[at])
        platform = images.platforms[row]
        taken[platform] = taken.get(platform, 0) + 1
        if taken[platform] > _EVIDENCE:
            continue
        hits.append(images.hit(row, len(hits) + 1, float(mean[at])))
    return tuple(hits)
