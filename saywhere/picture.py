"""Figures by matplotlib, which is an extra: made without a display, written whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from saywhere.errors import MissingExtraError
from saywhere.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def new_figure(asked_by: str, width: float, height: float) -> Figure:
    """An empty figure of that size in inches.

    Args:
        asked_by: what needs it, for the message.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError(asked_by, "plots", error.name or "matplotlib") from None
    return Figure(figsize=(width, height), layout="constrained")


def save_figure(figure: Figure, path: Path) -> Path:
    """Write ``figure`` as a PNG.

    Raises:
        InputError: ``path`` cannot be written.
    """
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=150)
    return path
