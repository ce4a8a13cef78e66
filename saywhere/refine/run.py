"""A refinement from jobs to lines: ask what is missing, judge, write, count."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import groupby

from saywhere.errors import InputError
from saywhere.refine.answers import Answer
from saywhere.refine.cache import AnswerCache, answer_key
from saywhere.refine.endpoint import Access, Endpoint, Tally
from saywhere.refine.lines import RefinedFile, RefinedLine
from saywhere.refine.plan import Job, Order, judge
from saywhere.refine.report import Prices, Report, Session, make_report
from saywhere.text.guards import Verdict

Progress = Callable[[int, int], None]  # (done, total)


@dataclass(slots=True)
class _Run:
    """One run's state."""

    order: Order
    out: RefinedFile
    cache: AnswerCache | None
    progress: Progress | None
    session: Session = field(default_factory=Session)


def refine(
    order: Order,
    out: RefinedFile,
    access: Access,
    *,
    cache: AnswerCache | None = None,
    concurrency: int = 4,
    progress: Progress | None = None,
) -> Session:
    """Write the missing lines of an order, asking an endpoint; then sort the file.

    Args:
        concurrency: requests at a time.

    Raises:
        InputError: the file was written with other settings, or as ``Endpoint.ask``; what was
            written before it stays, and the same call goes on from there.
        MissingExtraError: the ``openai`` client is not installed.
    """
    check_settings(order, out)
    run = _Run(order, out, cache, progress)
    started = time.perf_counter()
    tally = asyncio.run(_ask_all(run, access, concurrency)) if _groups(run) else None
    finish(order, out)
    session = replace(run.session, seconds=time.perf_counter() - started)
    if tally is None:
        return session
    return replace(
        session, calls=tally.calls, retries=dict(tally.retries), failures=dict(tally.failures)
    )


def write_known(order: Order, out: RefinedFile, answers: Mapping[str, Answer | None]) -> Session:
    """Write the missing lines whose answers are at hand, by job key; then sort the file.

    With an empty model every missing line is written, as the rules have it.

    Raises:
        InputError: the file was written with other settings.
    """
    check_settings(order, out)
    run = _Run(order, out, None, None)
    started = time.perf_counter()
    rules_only = not order.settings.model
    for group in _groups(run):
        for job in group:
            if rules_only or job.key in answers:
                _write(run, job, answers.get(job.key))
    finish(order, out)
    return replace(run.session, seconds=time.perf_counter() - started)


def report(order: Order, out: RefinedFile, session: Session, prices: Prices) -> Report:
    """Counts over the order's lines."""
    lines = [line for job in order.jobs if (line := out.get(job.key))]
    return make_report(lines, len(order.jobs), session, prices)


def check_settings(order: Order, out: RefinedFile) -> None:
    """Refuse to mix settings in one file.

    Raises:
        InputError: a line was written by another model, prompt, temperature or seed.
    """
    settings = order.settings
    for line in out.lines:
        prompt = order.prompts.get(line.style)
        if prompt is None:
            continue
        hashed = prompt.hash if settings.model else ""
        if line.settings != (settings.model, hashed, settings.temperature, settings.seed):
            raise InputError(
                f"{out.path}: was written with another model, prompt, temperature or seed "
                f"({line.model or 'rules only'}, {line.prompt or 'no prompt'}, "
                f"{line.temperature:g}, {line.seed - line.variant}); choose another --out"
            )


def finish(order: Order, out: RefinedFile) -> None:
    """Put the file into the dataset's order; nothing is appended afterwards."""
    out.sort([job.key for job in order.jobs])


def _groups(run: _Run) -> list[list[Job]]:
    """Missing jobs, variants of one caption and style together: they are compared in order."""
    missing = [job for job in run.order.jobs if run.out.get(job.key) is None]
    grouped = groupby(missing, key=lambda job: (job.image_id, job.original, job.style))
    return [list(jobs) for _, jobs in grouped]


async def _ask_all(run: _Run, access: Access, concurrency: int) -> Tally:
    groups = iter(_groups(run))
    async with Endpoint(access, run.order.settings.model, run.order.settings.seed) as endpoint:
        try:
            async with asyncio.TaskGroup() as tasks:
                for _ in range(concurrency):
                    tasks.create_task(_work(run, endpoint, groups))
        except* InputError as errors:
            raise errors.exceptions[0] from None
    return endpoint.tally


async def _work(run: _Run, endpoint: Endpoint, groups: Iterator[list[Job]]) -> None:
    """Take groups until none is left; the iterator is shared by all workers."""
    for group in groups:
        for job in group:
            _write(run, job, await _answer(run, endpoint, job))


async def _answer(run: _Run, endpoint: Endpoint, job: Job) -> Answer | None:
    order = run.order
    parameters = order.parameters(job)
    key = answer_key(order.settings.model, order.prompts[job.style].hash, job.source, parameters)
    if run.cache is not None and (known := run.cache.get(key)):
        run.session = replace(run.session, cached=run.session.cached + 1)
        return known
    answer = await endpoint.ask(order.messages(job), parameters)
    if answer is not None:
        run.session = replace(
            run.session,
            tokens_in=run.session.tokens_in + answer.tokens_in,
            tokens_out=run.session.tokens_out + answer.tokens_out,
        )
        if run.cache is not None:
            run.cache.put(key, answer)
    return answer


def _write(run: _Run, job: Job, answer: Answer | None) -> None:
    line: RefinedLine = judge(run.order, job, answer, _siblings(run, job))
    run.out.append(line)
    run.session = replace(run.session, written=run.session.written + 1)
    if run.progress is not None:
        run.progress(len(run.out.lines), len(run.order.jobs))


def _siblings(run: _Run, job: Job) -> list[str]:
    """Accepted texts of the variants before this one."""
    earlier = (run.out.get(replace(job, variant=k).key) for k in range(job.variant))
    return [line.text for line in earlier if line and line.verdict is Verdict.ACCEPTED]
