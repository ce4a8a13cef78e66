"""What is to be rewritten: a dataset's captions times styles times variants; and the judgement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from saywhere.errors import InputError
from saywhere.files import hash_text
from saywhere.refine.answers import Answer, read_text
from saywhere.refine.lines import RefinedLine
from saywhere.refine.prompts import Messages, Prompt
from saywhere.text.guards import Verdict, check
from saywhere.text.orientation import remove_orientation
from saywhere.text.variants import operator_variant
from saywhere.types import Dataset

StyleChoice = Literal["platform", "operator", "both"]
OPERATOR = "operator"
_JOB_HASH = 20


@dataclass(frozen=True, slots=True)
class Settings:
    """What shapes an answer, besides the caption and the prompt.

    Attributes:
        model: as the endpoint names it; empty: rules only, nobody is asked.
        seed: of variant 0; variant k has ``seed + k``.
        max_tokens: of a platform's rewrite; an operator's query gets half.
        frequency_penalty: keeps small models from running in circles.
    """

    model: str = ""
    temperature: float = 0.3
    seed: int = 0
    max_tokens: int = 128
    frequency_penalty: float = 0.6


@dataclass(frozen=True, slots=True)
class Job:
    """One rewrite that is wanted.

    Attributes:
        source: the caption without orientation words: what is sent, and judged against.
        rule: the rule-based text that stays where the rewrite is refused.
    """

    image_id: str
    style: str
    variant: int
    original: str
    source: str
    rule: str

    @property
    def key(self) -> str:
        """Identifies the line: image, caption, style and variant."""
        named = f"{self.image_id}\n{self.original}\n{self.style}\n{self.variant}"
        return hash_text(named)[:_JOB_HASH]


@dataclass(frozen=True, slots=True)
class Order:
    """Jobs with all that shapes their answers."""

    jobs: tuple[Job, ...]
    prompts: Mapping[str, Prompt]
    settings: Settings

    def messages(self, job: Job) -> Messages:
        """What is sent for a job."""
        return self.prompts[job.style].messages(job.source)

    def parameters(self, job: Job) -> dict[str, float | int]:
        """Sampling parameters, by their names in the API."""
        settings = self.settings
        halved = job.style == OPERATOR
        return {
            "temperature": settings.temperature,
            "seed": settings.seed + job.variant,
            "max_tokens": settings.max_tokens // 2 if halved else settings.max_tokens,
            "frequency_penalty": settings.frequency_penalty,
        }

    def origin(self, job: Job) -> str:
        """Model and prompt hash, as an accepted line carries them."""
        return f"{self.settings.model}@{self.prompts[job.style].hash}"


def plan(
    dataset: Dataset, choice: StyleChoice, variants: int, limit: int | None = None
) -> tuple[Job, ...]:
    """Jobs of a dataset in its order: each distinct caption of an image, each style, each variant.

    Args:
        limit: only the first captions.

    Raises:
        InputError: no captions, or no platform to write for.
    """
    if not dataset.captions:
        raise InputError(f"{dataset.source}: has no captions to refine; name a captioned dataset")
    platforms = {record.image_id: record.platform for record in dataset.records}
    bare = sum(platform is None for platform in platforms.values())
    if bare and choice != OPERATOR:
        raise InputError(
            f"{dataset.source}: {bare} images have no platform to write for; use --style operator"
        )
    distinct = dict.fromkeys((caption.image_id, caption.original) for caption in dataset.captions)
    jobs: list[Job] = []
    for image_id, original in list(distinct)[:limit]:
        source = remove_orientation(original)
        for style in _styles(choice, str(platforms[image_id])):
            for variant in range(variants):
                rule = operator_variant(original, variant) if style == OPERATOR else source
                jobs.append(Job(image_id, style, variant, original, source, rule))
    return tuple(jobs)


def _styles(choice: StyleChoice, platform: str) -> tuple[str, ...]:
    styles = {"platform": (platform,), "operator": (OPERATOR,), "both": (platform, OPERATOR)}
    return styles[choice]


def judge(order: Order, job: Job, answer: Answer | None, siblings: Sequence[str]) -> RefinedLine:
    """The line of a job: the rewrite if it passes every guard, else the rule-based text.

    Args:
        answer: None where the endpoint gave none.
        siblings: accepted texts of the same caption and style.
    """
    text = ""
    if answer is None:
        verdict = Verdict.UNANSWERED if order.settings.model else Verdict.RULE
    else:
        text, early = read_text(answer)
        verdict = early or check(text, job.source, job.style)
        if verdict is Verdict.ACCEPTED and text in siblings:
            verdict = Verdict.DUPLICATE
    accepted = verdict is Verdict.ACCEPTED
    parameters = order.parameters(job)
    return RefinedLine(
        key=job.key,
        image_id=job.image_id,
        style=job.style,
        variant=job.variant,
        original=job.original,
        text=text if accepted else job.rule,
        origin=order.origin(job) if accepted else "rule",
        verdict=verdict,
        refused="" if accepted else text,
        model=order.settings.model,
        prompt=order.prompts[job.style].hash if order.settings.model else "",
        temperature=float(parameters["temperature"]),
        seed=int(parameters["seed"]),
        tokens_in=answer.tokens_in if answer else 0,
        tokens_out=answer.tokens_out if answer else 0,
    )
