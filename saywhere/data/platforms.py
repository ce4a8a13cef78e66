"""Platforms as the user says they are, over what the files and folders say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from saywhere.data.source import shown
from saywhere.errors import InputError
from saywhere.types import Platform, Record


@dataclass(frozen=True, slots=True)
class PlatformRule:
    """All images whose id matches the glob are of the platform; ``*`` matches ``/`` as well."""

    platform: Platform
    glob: str = "*"


def parse_platform_rule(text: str) -> PlatformRule:
    """``drone``, of all images, or ``drone=flights/*``, of those whose id matches.

    Raises:
        InputError: no platform, or an empty glob.
    """
    name, equals, glob = text.partition("=")
    if name.strip().lower() not in tuple(Platform) or (equals and not glob):
        raise InputError(
            f"--platform {shown(text)}: is no rule; give satellite, drone or ground, or one of "
            "them for some images, as in 'drone=flights/*'"
        )
    return PlatformRule(Platform(name.strip().lower()), glob if equals else "*")


def override_platforms(
    records: Sequence[Record], rules: Sequence[PlatformRule]
) -> tuple[Record, ...]:
    """The records with the platform of the last rule that matches; the others as they are.

    Raises:
        InputError: a rule that matches no image, which is a slip in its glob.
    """
    for rule in rules:
        if records and not any(fnmatchcase(record.image_id, rule.glob) for record in records):
            raise InputError(
                f"--platform {rule.platform}={rule.glob}: matches none of {len(records):,} images; "
                f"globs are of paths within the folder, such as {shown(records[0].image_id)}"
            )
    return tuple(_overridden(record, rules) for record in records)


def _overridden(record: Record, rules: Sequence[PlatformRule]) -> Record:
    for rule in reversed(rules):
        if fnmatchcase(record.image_id, rule.glob):
            return replace(record, platform=rule.platform)
    return record
