"""How far off, and how honest, positions are in rendered worlds the experts never saw.

Each world is indexed as a user's raw files are: georeferenced tiles and photos, no place ids. The
queries are the world's own, one of each image of a place in operator's words, and the truth is the
centre of the place described, which no drone or ground camera stands on. One world is calibrated
on, the others are scored with that calibration.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from saywhere.calibrate import calibrate_pairs, judge_locations
from saywhere.certainty import Certainty, Kind
from saywhere.data.folder import read_folder
from saywhere.data.track4 import read_queries
from saywhere.embed import embed_images, embed_queries
from saywhere.expert_set import ExpertSet
from saywhere.features import Progress
from saywhere.hardware import Runtime
from saywhere.location_metrics import joined, location_scores
from saywhere.pair_table import Pairing
from saywhere.products import exact_scores
from saywhere.scored_images import ScoredImages
from saywhere.task_location import scored_records
from saywhere.types import Query
from saywhere.world import World, WorldConfig, render_world

TOLERANCE_M = 60.0  # half of what lies between two places


@dataclass(frozen=True, slots=True)
class WorldSizes:
    """(seed, places) of the world to calibrate on and of those to score.

    The seeds are this benchmark's own: train on others. Places that are drawn for the gallery only
    are one a world, so the defaults ask 1044 queries of 348 places.
    """

    fitted: tuple[int, int] = (101, 250)
    scored: tuple[tuple[int, int], ...] = ((102, 175), (103, 175))


def run_world_benchmark(
    experts: ExpertSet,
    cache: Path,
    log: Callable[[str], None],
    sizes: WorldSizes | None = None,
    *,
    runtime: Runtime | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Renders, embeds, calibrates and scores; JSON-able, as ``location_scores``.

    Args:
        cache: worlds are rendered here once, a folder each.
        log: called with one line a step.

    Raises:
        InputError: a cache that cannot be written, or a world too small to calibrate on.
    """
    sizes = sizes or WorldSizes()

    def prepare(seed: int, places: int) -> tuple[Pairing, ScoredImages]:
        log(f"world {seed}: {places} places, rendered and embedded unless they are cached")
        config = WorldConfig(seed=seed, places=places, test_places=places - 1)
        world = render_world(cache / f"seed-{seed}-{places}", config)
        return _scored(experts, world, runtime, progress)

    fitted = calibrate_pairs(*prepare(*sizes.fitted))
    worlds = [prepare(seed, places) for seed, places in sizes.scored]
    scores = _pooled(worlds, fitted.certainty, together=False)
    return {
        "benchmark": "world",
        **scores,
        "several_descriptions": _pooled(worlds, fitted.certainty, together=True),
        "calibration": dict(fitted.report),
        "expert_hash": experts.hash,
        "seeds": {"fitted": sizes.fitted[0], "scored": [seed for seed, _ in sizes.scored]},
    }


def _pooled(
    worlds: Sequence[tuple[Pairing, ScoredImages]], certainty: Certainty, *, together: bool
) -> dict[str, Any]:
    """``location_scores`` over several worlds."""
    found = [judge_locations(*world, certainty, together=together) for world in worlds]
    spots = [spot + 10_000 * world for world, (_, spot) in enumerate(found)]  # none is another's
    places = np.concatenate(spots)
    judged = joined([part for part, _ in found], np.arange(len(places)))
    half, most = certainty.levels_of(2 if together else 1)  # together: three each
    inside = judged.mass <= half, judged.mass <= most
    return location_scores(judged, inside, places)


def _scored(
    experts: ExpertSet, world: World, runtime: Runtime | None, progress: Progress | None
) -> tuple[Pairing, ScoredImages]:
    records = read_folder(world.imagery).records
    images = embed_images(experts, records, runtime=runtime, progress=progress).embeddings
    asked = read_queries(world.track4 / "test_queries.txt")
    texts = embed_queries(experts, asked, runtime=runtime)
    scores = exact_scores(texts.vectors, images.vectors)
    return _truth(world, asked), scored_records(records, (None,) * len(records), scores)


def _truth(world: World, asked: tuple[Query, ...]) -> Pairing:
    answers = json.loads((world.track4 / "ground_truth.json").read_text("utf-8"))["queries"]
    centre = {place.place_id: (place.lat, place.lon) for place in world.places}
    where = np.asarray([centre[answers[query.query_id]["place"]] for query in asked])
    kinds: list[Kind] = ["words"] * len(asked)
    return Pairing(where[:, 0], where[:, 1], np.full(len(asked), TOLERANCE_M), tuple(kinds))
