"""What every question needs: the index with its experts, query vectors, the index's calibration."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from saywhere.commands.console import say
from saywhere.errors import InputError

if TYPE_CHECKING:
    from saywhere.certainty import Certainty, Kind
    from saywhere.commands.finding import Asked
    from saywhere.expert_set import ExpertSet
    from saywhere.hardware import Runtime
    from saywhere.store import VectorStore
    from saywhere.types import Embeddings


def open_asked(asked: Asked) -> tuple[VectorStore, ExpertSet]:
    """The index, and its experts with what the flags say about refining words."""
    from saywhere.bundle import load_experts
    from saywhere.store import open_store, require_experts

    store = open_store(asked.uri)
    loaded = load_experts(asked.experts or Path(store.info().experts))
    require_experts(store.info(), loaded.hash)
    reworded = with_refinement(loaded, asked.model, asked.endpoint, asked.budget)
    return store, as_typed(reworded) if asked.as_typed else reworded


def as_typed(experts: ExpertSet) -> ExpertSet:
    """The experts, leaving mistyped words as they are."""
    from dataclasses import replace

    text = experts.config.text.model_copy(update={"spelling": False})
    return replace(experts, config=experts.config.model_copy(update={"text": text}))


def with_refinement(
    experts: ExpertSet, model: str | None, endpoint: str | None, budget: float | None
) -> ExpertSet:
    """The experts with what flags say about query refinement over their own configuration.

    It changes what a query says, not what an image is: the index stays theirs.
    """
    from dataclasses import replace

    from saywhere.config import QueryRefinementConfig

    given = {"model": model, "endpoint": endpoint, "budget_seconds": budget}
    over = {name: value for name, value in given.items() if value is not None}
    if not over:
        return experts
    text = experts.config.text
    known = text.query.model_dump() | over
    query = QueryRefinementConfig(**{**known, "enabled": known["enabled"] or model is not None})
    config = experts.config.model_copy(update={"text": text.model_copy(update={"query": query})})
    return replace(experts, config=config)


def check_asked(texts: Sequence[str], photos: Sequence[Path]) -> None:
    """Refuse an empty question before anything is loaded."""
    if not all(text.strip() for text in texts):
        raise InputError("the description is empty; say what you see, in quotes")
    if not texts and not photos:
        raise InputError("nothing to look for: say what you see, in quotes, or give --image PHOTO")


def embed_asked(
    experts: ExpertSet,
    texts: Sequence[str],
    photos: Sequence[Path],
    runtime: Runtime,
    told: Callable[[str, str], None] | None = None,
) -> tuple[Embeddings, tuple[Kind, ...]]:
    """(q, d) queries, words first, and what each is; ``told`` as for ``embed_queries``."""
    import numpy as np

    from saywhere.embed import embed_image_queries, embed_queries
    from saywhere.types import Embeddings, Query

    parts = []
    if texts:
        queries = [Query(f"q{number}", text) for number, text in enumerate(texts, 1)]
        parts.append(embed_queries(experts, queries, runtime=runtime, told=told))
    if photos:
        parts.append(embed_image_queries(experts, photos, runtime=runtime))
    ids = tuple(name for part in parts for name in part.ids)
    vectors = np.concatenate([part.vectors for part in parts])
    words: list[Kind] = ["words"] * len(texts)
    seen: list[Kind] = ["image"] * len(photos)
    return Embeddings(ids, vectors, experts.hash), (*words, *seen)


def tell_spelling(typed: str, searched: str) -> None:
    """That a text was put right, and how to keep it as it was."""
    say(f"searched for {searched!r}; as it was typed, {typed!r}, with --as-typed")


def certainty_of(uri: str, experts: ExpertSet, store: VectorStore) -> Certainty | None:
    """What `saywhere calibrate` fitted on the index; None where it did not run."""
    from saywhere.certainty import binding, load_certainty

    return load_certainty(uri, binding(experts, store.info()))
