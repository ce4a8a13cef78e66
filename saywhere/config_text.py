"""Settings of what is done to words, that ``config`` puts together."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from saywhere.config_stages import Frozen
from saywhere.types import PLATFORMS, Platform


class QueryRefinementConfig(Frozen):
    """A language model between what a user types and the text tower.

    Attributes:
        enabled: off, the model is never asked and its client need not be installed.
        endpoint: base URL of an OpenAI-compatible endpoint.
        model: as the endpoint names it.
        budget_seconds: no query waits longer; then its own words are searched with.
        allow_remote: queries may be sent to another machine.
    """

    enabled: bool = False
    endpoint: str = "http://127.0.0.1:8080/v1"
    model: str = ""
    budget_seconds: float = Field(2.0, gt=0, le=60)
    allow_remote: bool = False


class TextConfig(Frozen):
    """What is done to words before the text tower sees them.

    Attributes:
        remove_orientation: platforms whose captions lose their orientation words.
        keep_full: train on the full caption as well as on the orientation-free one.
        rule_variants: rule-based operator-style variants trained on beside each caption.
        refined: refined captions ``replace`` the captions, or ``add`` to them; ``off``: there are
            none. The file is named by ``saywhere train --refined``.
        clean_queries: remove orientation words from queries, too.
        spelling: put mistyped words of queries right, see ``text.spelling``.
        query: refinement of queries by a language model.
    """

    remove_orientation: tuple[Platform, ...] = PLATFORMS
    keep_full: bool = True
    rule_variants: int = Field(0, ge=0, le=16)
    refined: Literal["off", "replace", "add"] = "off"
    clean_queries: bool = False
    spelling: bool = True
    query: QueryRefinementConfig = QueryRefinementConfig()
