"""For researchers: rewrite captions before training on them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from saywhere.commands.console import PATH, json_option, print_json, progress_bar, say
from saywhere.errors import InputError

if TYPE_CHECKING:
    from saywhere.refine.endpoint import Access
    from saywhere.refine.lines import RefinedFile
    from saywhere.refine.plan import Order, Settings, StyleChoice
    from saywhere.refine.report import Prices, Report, Session

_STYLES = click.Choice(["platform", "operator", "both"])


@dataclass(frozen=True, slots=True)
class _Ways:
    """What is done with the order: asked live unless one of these is set."""

    rules_only: bool
    dry_run: bool
    write_batch: Path | None
    read_batch: Path | None

    @property
    def asks(self) -> bool:
        """True where an endpoint is asked live."""
        return not (self.rules_only or self.dry_run or self.write_batch or self.read_batch)

    def check(self, model: str) -> None:
        """Refuse flags that exclude one another, and an order to nobody."""
        chosen = [self.rules_only, self.dry_run, bool(self.write_batch), bool(self.read_batch)]
        if sum(chosen) > 1:
            raise InputError(
                "--rules-only, --dry-run, --write-batch and --read-batch exclude one another; "
                "choose one"
            )
        if not model and not (self.rules_only or self.dry_run):
            raise InputError("no model is named; add --model NAME, or --rules-only to ask nobody")


@dataclass(frozen=True, slots=True)
class _Files:
    out: Path
    cache: Path | None
    retry_unanswered: bool


@click.command()
@click.argument("path", type=PATH)
@click.option("--out", type=PATH, default=Path("refined.jsonl"), show_default=True)
@click.option(
    "--style",
    type=_STYLES,
    default="platform",
    show_default=True,
    help="Toward the platform's way of looking, or toward an operator's query.",
)
@click.option("--variants", type=click.IntRange(1, 16), default=1, show_default=True)
@click.option("--limit", type=click.IntRange(1), help="Only the first captions.")
@click.option(
    "--endpoint",
    help="Base URL; this machine only, unless --allow-remote.  [default: http://127.0.0.1:8080/v1]",
)
@click.option("--model", default="", help="As the endpoint names it.")
@click.option("--allow-remote", is_flag=True, help="Send captions to another machine.")
@click.option(
    "--key-env",
    default="OPENAI_API_KEY",
    show_default=True,
    metavar="NAME",
    help="Environment variable that holds the key.",
)
@click.option("--temperature", type=click.FloatRange(0, 2), default=0.3, show_default=True)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option(
    "--max-tokens",
    type=click.IntRange(16),
    default=128,
    show_default=True,
    help="For a platform's rewrite; half of it for an operator's query.",
)
@click.option("--concurrency", type=click.IntRange(1, 256), default=4, show_default=True)
@click.option(
    "--timeout",
    type=click.FloatRange(0.1),
    default=120.0,
    show_default=True,
    help="Seconds for one attempt.",
)
@click.option("--attempts", type=click.IntRange(1, 20), default=5, show_default=True)
@click.option("--prompts", type=PATH, help="Folder of prompts that replace the built-in ones.")
@click.option("--price-in", type=click.FloatRange(0), default=0.0, help="Dollars a million tokens.")
@click.option("--price-out", type=click.FloatRange(0), default=0.0, help="The same, generated.")
@click.option("--cache", type=PATH, help="Answer cache, if not the user's own.")
@click.option("--rules-only", is_flag=True, help="Ask nobody: rule-based texts.")
@click.option("--dry-run", is_flag=True, help="Print the first prompts, send and write nothing.")
@click.option("--write-batch", type=PATH, help="Write what is missing as Batch API requests.")
@click.option("--read-batch", type=PATH, help="Read Batch API results instead of asking.")
@click.option("--retry-unanswered", is_flag=True, help="Ask again where no answer came.")
@json_option
def refine(
    path: Path, out: Path, style: StyleChoice, variants: int, limit: int | None,
    endpoint: str | None, model: str, allow_remote: bool, key_env: str, temperature: float,
    seed: int, max_tokens: int, concurrency: int, timeout: float, attempts: int,
    prompts: Path | None, price_in: float, price_out: float, cache: Path | None,
    rules_only: bool, dry_run: bool, write_batch: Path | None, read_batch: Path | None,
    retry_unanswered: bool, as_json: bool,
) -> None:  # fmt: skip
    """Rewrite the captions of PATH toward how they are looked at, or asked for.

    A rewrite is kept only if it passes every guard; else rule-based text stays, and the reason is
    counted. Run the same command again to go on where it stopped. Train on the result with
    `saywhere train PATH --refined OUT --set text.refined=add`.
    """
    from saywhere.refine.endpoint import DEFAULT_URL, Access, check_url, is_loopback
    from saywhere.refine.plan import Settings
    from saywhere.refine.report import Prices

    ways = _Ways(rules_only, dry_run, write_batch, read_batch)
    ways.check(model)
    settings = Settings("" if rules_only else model, temperature, seed, max_tokens)
    order = _order(path, style, variants, limit, prompts, settings)
    if dry_run:
        _print_prompts(order, as_json)
        return
    access = Access(endpoint or DEFAULT_URL, allow_remote, key_env, timeout, attempts)
    if ways.asks:
        host = check_url(access.url, allow_remote=allow_remote)
        if not is_loopback(host):
            say(f"captions are sent to {host}")
    files = _Files(out, cache, retry_unanswered)
    found = _run(order, files, access, ways, concurrency, Prices(price_in, price_out))
    if found is not None:
        print_json(found.to_dict()) if as_json else click.echo(found.to_text())


def _order(
    path: Path,
    style: StyleChoice,
    variants: int,
    limit: int | None,
    prompts: Path | None,
    settings: Settings,
) -> Order:
    from saywhere.data import read
    from saywhere.refine.plan import Order, plan
    from saywhere.refine.prompts import load_prompts

    jobs = plan(read(path), style, variants, limit)
    return Order(jobs, load_prompts({job.style for job in jobs}, prompts), settings)


def _run(
    order: Order,
    files: _Files,
    access: Access,
    ways: _Ways,
    concurrency: int,
    prices: Prices,
) -> Report | None:
    """Whatever ``ways`` says; None where nothing is reported."""
    from saywhere.refine.batch import read_batch, write_batch
    from saywhere.refine.lines import open_lines
    from saywhere.refine.run import report, write_known

    with open_lines(files.out, drop_unanswered=files.retry_unanswered) as out:
        if ways.write_batch is not None:
            count = write_batch(order, out, ways.write_batch)
            say(f"{count} requests written to {ways.write_batch}; read with --read-batch RESULTS")
            return None
        if ways.rules_only:
            session = write_known(order, out, {})
        elif ways.read_batch is not None:
            session = write_known(order, out, read_batch(ways.read_batch))
        else:
            session = _ask(order, out, access, files.cache, concurrency)
        return report(order, out, session, prices)


def _ask(
    order: Order, out: RefinedFile, access: Access, cache: Path | None, concurrency: int
) -> Session:
    from saywhere.refine.cache import open_cache
    from saywhere.refine.run import refine as run
    from saywhere.towers import cache_folder

    where = cache or cache_folder() / "refine.sqlite"
    with open_cache(where) as answers, progress_bar("captions") as progress:
        return run(order, out, access, cache=answers, concurrency=concurrency, progress=progress)


def _print_prompts(order: Order, as_json: bool) -> None:
    """What would be sent for the first caption of each style, and how much in all."""
    first = {job.style: job for job in reversed(order.jobs)}
    if as_json:
        print_json(
            [
                {
                    "style": style,
                    "prompt": order.prompts[style].hash,
                    "parameters": order.parameters(job),
                    "messages": order.messages(job),
                    "requests": sum(other.style == style for other in order.jobs),
                }
                for style, job in first.items()
            ]
        )
        return
    for style, job in first.items():
        click.echo(f"# {style}, prompt {order.prompts[style].hash}, {order.parameters(job)}")
        for message in order.messages(job):
            click.echo(f"[{message['role']}]\n{message['content']}")
        click.echo()
    characters = sum(len(m["content"]) for job in order.jobs for m in order.messages(job))
    say(f"{len(order.jobs)} requests, about {characters // 4} tokens; nothing was sent or written")
