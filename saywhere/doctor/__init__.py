"""``saywhere doctor``: is everything in place, and what would be slow, and why."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path

from saywhere.doctor.check import Check, Status, failed
from saywhere.errors import SaywhereError
from saywhere.hardware import Runtime

__all__ = ["Check", "Status", "examine"]

_EXPERTS, _INDEX = Path("experts"), "saywhere-index"
# A section of the report and its part; each imports what it looks at, which may be what is broken.
_Look = tuple[str, Callable[[], list[Check]]]


def examine(
    runtime: Runtime, *, index: str | None = None, experts: Path | None = None
) -> list[Check]:
    """Look at everything, changing nothing.

    Args:
        runtime: the threads and the device that would be used.
        index: an index that must be there; None: the default one, if it is there.
        experts: a folder of experts that must be there; None: the default one, if it is there.

    Returns:
        at least one line a section, in the order of the report.
    """
    looks = chain(_installed(runtime), _made(index, experts))
    return [check for section, look in looks for check in _try(section, look)]


def _installed(runtime: Runtime) -> Iterator[_Look]:
    """What the machine has."""

    def machine() -> list[Check]:
        from saywhere.doctor.machine import disk_checks, machine_checks

        return [*machine_checks(runtime), *disk_checks()]

    def packages() -> list[Check]:
        from saywhere.doctor.packages import package_checks

        return package_checks()

    def providers() -> list[Check]:
        from saywhere.doctor.packages import provider_checks

        return provider_checks(runtime)

    yield "machine", machine
    yield "packages", packages
    yield "runtime", providers


def _made(index: str | None, experts: Path | None) -> Iterator[_Look]:
    """What saywhere made on it."""
    folder = experts or _EXPERTS
    present = folder if experts is not None or folder.exists() else None

    def towers() -> list[Check]:
        from saywhere.doctor.artefacts import tower_checks

        return tower_checks(present)

    def caches() -> list[Check]:
        from saywhere.doctor.artefacts import cache_checks

        return cache_checks()

    def trained() -> list[Check]:
        from saywhere.doctor.artefacts import expert_checks

        return expert_checks(folder, required=experts is not None)

    def searched() -> list[Check]:
        from saywhere.doctor.artefacts import index_checks

        return index_checks(index or _INDEX, experts, required=index is not None)

    yield "towers", towers
    yield "caches", caches
    yield "experts", trained
    yield "index", searched


def _try(section: str, look: Callable[[], list[Check]]) -> list[Check]:
    """A part that cannot be looked at is a finding, too."""
    try:
        return look()
    except ImportError as error:
        return [
            Check(
                section,
                error.name or section,
                "problem",
                f"cannot be imported ({error})",
                "pip install --force-reinstall saywhere",
            )
        ]
    except SaywhereError as error:
        return [failed(section, section, error)]
    except OSError as error:
        return [Check(section, section, "problem", str(error), "check its rights and the disk")]
