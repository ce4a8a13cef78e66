"""An ablation's differences as a picture: points with intervals, what could be shown shaded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from saywhere.ablation.compare import Outcome
from saywhere.ablation.tables import Ablation, Line
from saywhere.picture import new_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_ROW_INCHES, _PANEL_INCHES, _LABEL_INCHES = 0.3, 3.6, 3.0
_COLOURS = {"ladder": "#1b6ca8", "leave one out": "#b0472b", "controls": "#4f7a28"}


def plot_ablation(found: Ablation, path: Path) -> Path:
    """Draw every row that is compared with another; one panel a task.

    Args:
        path: of the picture, PNG.

    Raises:
        MissingExtraError: matplotlib is not installed.
        InputError: ``path`` cannot be written.
    """
    lines = [line for line in found.lines() if line.step.against]
    tasks = list(found.tasks)
    size = _LABEL_INCHES + _PANEL_INCHES * len(tasks), 1.2 + _ROW_INCHES * len(lines)
    figure = new_figure("ablate --plot", *size)
    panels = figure.subplots(1, len(tasks), sharey=True, squeeze=False)[0]
    for panel, task in zip(panels, tasks, strict=True):
        _panel(panel, task, lines)
    panels[0].set_yticks(range(len(lines)), [_label(line) for line in lines])
    panels[0].invert_yaxis()
    return save_figure(figure, path)


def _panel(panel: Axes, task: str, lines: Sequence[Line]) -> None:
    panel.axvline(0, color="#444444", linewidth=0.8)
    for row, line in enumerate(lines):
        _point(panel, row, line.outcomes[task], _COLOURS[line.step.section])
    panel.set_title(task, fontsize=10)
    panel.set_xlabel("difference in mean recall, points", fontsize=9)
    panel.grid(axis="x", color="#dddddd", linewidth=0.6)
    panel.set_axisbelow(True)
    panel.tick_params(labelsize=9)


def _point(panel: Axes, row: int, outcome: Outcome, colour: str) -> None:
    gap = outcome.difference
    if gap is None:
        return
    reach = gap.minimum_detectable
    panel.barh(row, 2 * reach, left=-reach, height=0.7, color="#eeeeee")
    panel.plot([gap.low, gap.high], [row, row], color=colour, linewidth=2)
    panel.plot(gap.value, row, "o", color=colour, markersize=5)


def _label(line: Line) -> str:
    """What the zero line stands for is said where it is not the row above."""
    if line.step.section == "ladder":
        return line.step.name
    return f"{line.step.name}  (to {line.step.against})"
