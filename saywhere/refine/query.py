"""The query side: what a user typed, brought into the captions' words by a language model.

The guards are the captions': a rewrite that adds or loses something is not used. No query waits
longer than its budget, and whatever goes wrong, the user's own words are searched with.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from saywhere.config import QueryRefinementConfig
from saywhere.errors import ConfigError, InputError
from saywhere.refine.answers import read_text
from saywhere.refine.endpoint import Access, Endpoint
from saywhere.refine.plan import OPERATOR
from saywhere.refine.prompts import Prompt, load_prompts
from saywhere.text.guards import Verdict, check
from saywhere.text.orientation import remove_orientation

_AT_A_TIME = 4
_PARAMETERS: dict[str, float | int] = {
    "temperature": 0.0, "seed": 0, "max_tokens": 64, "frequency_penalty": 0.6
}  # fmt: skip


def refine_queries(texts: Sequence[str], config: QueryRefinementConfig) -> list[str]:
    """Each query's rewrite, or the query itself without orientation words.

    Args:
        texts: as typed.
        config: with a model; ``budget_seconds`` are each query's own.

    Raises:
        ConfigError: no model is named, or another host than loopback without ``allow_remote``.
        MissingExtraError: the extra is not installed.
    """
    if not config.model:
        raise ConfigError("text.query.enabled needs a model; set text.query.model=NAME")
    cleaned = [remove_orientation(text) for text in texts]
    # A service may have a loop running in this thread; a thread of its own has none.
    with ThreadPoolExecutor(1, "refine") as pool:
        return pool.submit(asyncio.run, _all(cleaned, config)).result()


async def _all(cleaned: Sequence[str], config: QueryRefinementConfig) -> list[str]:
    access = Access(config.endpoint, config.allow_remote, timeout=config.budget_seconds, attempts=1)
    prompt = load_prompts([OPERATOR])[OPERATOR]
    slots = asyncio.Semaphore(_AT_A_TIME)
    try:
        endpoint = Endpoint(access, config.model)
    except InputError as error:
        raise ConfigError(f"text.query.endpoint: {error}") from None
    async with endpoint:
        asked = (_one(text, endpoint, prompt, slots) for text in cleaned)
        return list(await asyncio.gather(*asked))


async def _one(text: str, endpoint: Endpoint, prompt: Prompt, slots: asyncio.Semaphore) -> str:
    async with slots:
        try:
            # One attempt may become two, where an endpoint knows no structured output.
            async with asyncio.timeout(endpoint.access.timeout):
                answer = await endpoint.ask(prompt.messages(text), _PARAMETERS)
        except (InputError, TimeoutError):  # refused for good, silent, slow: the words still serve
            return text
    if answer is None:
        return text
    rewrite, early = read_text(answer)
    return text if early or check(rewrite, text, "query") is not Verdict.ACCEPTED else rewrite
