"""For whoever shares experts: push them to a hub, pull them from one."""

from __future__ import annotations

from pathlib import Path

import click

from saywhere.commands.console import PATH, say


@click.group()
def hub() -> None:
    """Share trained experts through a Hugging Face hub (HF_ENDPOINT, HF_TOKEN)."""


@hub.command("push")
@click.argument("folder", type=PATH)
@click.argument("repo")
@click.option("--license", "licence", required=True, help="Of the trained heads: apache-2.0, …")
@click.option("--data-terms", required=True, help="Training data and its terms, for the card.")
@click.option("--report", "reports", type=PATH, multiple=True, help="JSON of evaluate --out.")
@click.option("--private", is_flag=True, help="Make the repository private if it is made.")
@click.option("--without-towers", is_flag=True, help="Leave the exported towers out.")
def hub_push(
    folder: Path,
    repo: str,
    licence: str,
    data_terms: str,
    reports: tuple[Path, ...],
    private: bool,
    without_towers: bool,
) -> None:
    """Push the experts in FOLDER to REPO (owner/name) with a generated model card."""
    from saywhere.card import CardFacts
    from saywhere.hub import push_experts

    facts = CardFacts(licence, data_terms, reports)
    click.echo(push_experts(folder, repo, facts, private=private, towers=not without_towers))
    say(f"{folder} pushed to {repo}")


@hub.command("pull")
@click.argument("repo")
@click.argument("out", type=PATH)
@click.option("--revision", help="Branch, tag or commit.")
@click.option("--overwrite", is_flag=True, help="Replace experts that are in OUT.")
def hub_pull(repo: str, out: Path, revision: str | None, overwrite: bool) -> None:
    """Pull the experts of REPO into OUT; they are checked before they are put there."""
    from saywhere.hub import pull_experts

    commit = pull_experts(repo, out, revision=revision, overwrite=overwrite)
    click.echo(out)
    say(f"{repo} at {commit[:12]} is in {out}, every file checked")
