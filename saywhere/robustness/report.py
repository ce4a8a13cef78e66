"""What was retained: a Markdown table, and curves over the severities."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from saywhere.picture import new_figure, save_figure
from saywhere.robustness.images import SEVERITIES
from saywhere.robustness.run import HEADLINE_SEVERITY, Robustness, Trial

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def robustness_markdown(found: Robustness) -> str:
    """The table, a row a corruption and severity, with the means above it."""
    context = found.context
    lines = [
        f"{context['queries']} queries, {context['images']} images; platforms known for "
        f"{context['platforms_known']}; experts {', '.join(context['experts'])} "
        f"(`{context['expert_hash'][:12]}`), fusion `{context['fusion']}`, {len(context['views'])} "
        "test views. Clean R@10 "
        f"{found.clean:.1f}. Retained: R@10 under the corruption in percent of that; loss in "
        "points, paired by query; 95 % intervals bootstrapped by place.",
        "",
    ]
    for kind, shown in (("image", "the common corruptions of images"), ("words", "those of words")):
        mean = found.mean_retained(kind)
        if mean is not None:
            lines.append(
                f"- Retained at severity {HEADLINE_SEVERITY}, mean over {shown}: {mean:.1f} %"
            )
    lines += _curve_table(found)
    lines += [
        "",
        "| group | corruption | severity | R@10 | retained, % | loss | changed, % |",
        "|---|---|--:|--:|--:|--:|--:|",
    ]
    lines += [_row(trial) for own in _by_name(found.trials).values() for trial in own]
    return "\n".join(lines) + "\n"


def _by_name(trials: Iterable[Trial]) -> dict[str, list[Trial]]:
    """Trials of each corruption by severity; corruptions in the order they were tried."""
    out: dict[str, list[Trial]] = {}
    for trial in trials:
        out.setdefault(trial.name, []).append(trial)
    return {name: sorted(own, key=lambda trial: trial.severity) for name, own in out.items()}


def _curve_table(found: Robustness) -> list[str]:
    """What is retained, a row a corruption and a column a severity; nothing without a curve."""
    curves = {name: own for name, own in _by_name(found.trials).items() if len(own) > 1}
    if not curves:
        return []
    heads = " | ".join(map(str, SEVERITIES))
    lines = ["", f"| retained, % | {heads} |", "|---|" + "--:|" * len(SEVERITIES)]
    for name, own in curves.items():
        by_severity = {trial.severity: trial.retained for trial in own}
        lines.append(_percents(name.replace("_", " "), by_severity))
    for kind, shown in (("image", "mean of the common ones"), ("words", "mean of words")):
        # Means of all severities are of the same corruptions, or they would make no curve.
        whole = [
            own
            for name, own in curves.items()
            if own[0].kind == kind and len(own) == len(SEVERITIES) and name != "occlusion"
        ]
        if whole:
            columns = zip(*whole, strict=True)
            means = {own[0].severity: _mean(t.retained for t in own) for own in columns}
            lines.append(_percents(f"**{shown}**", means))
    return lines


def _mean(values: Iterable[float]) -> float:
    held = list(values)
    return sum(held) / len(held)


def _percents(name: str, by_severity: Mapping[int, float]) -> str:
    values = [by_severity.get(severity) for severity in SEVERITIES]
    return f"| {name} | " + " | ".join("" if v is None else f"{v:.0f}" for v in values) + " |"


_PANELS = ("noise", "blur", "weather", "digital", "occlusion", "words")
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#666666")  # Okabe and Ito's: also for the
_MARKS = "osD^v"  # colour-blind, and by shape in print


def plot_robustness(found: Robustness, path: Path) -> Path:
    """Curves of what is retained, a panel a group.

    Args:
        path: of the picture, PNG.

    Raises:
        MissingExtraError: matplotlib is not installed.
        InputError: ``path`` cannot be written.
    """
    groups = [name for name in _PANELS if any(trial.group == name for trial in found.trials)]
    columns = min(3, len(groups))
    rows = -(-len(groups) // columns)
    figure = new_figure("robustness --plot", 1 + 3.7 * columns, 0.6 + 3.1 * rows)
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for panel, group in zip(panels.flat, groups, strict=False):
        _draw_panel(panel, group, [trial for trial in found.trials if trial.group == group])
    for panel in panels.flat[len(groups) :]:
        panel.set_visible(False)
    panels[0][0].set_ylim(0, max(105, *(trial.retained + 5 for trial in found.trials)))
    panels[0][0].set_xlim(SEVERITIES[0] - 0.25, SEVERITIES[-1] + 0.25)
    figure.supxlabel("severity", fontsize=10)
    figure.supylabel("R@10 retained, % of clean", fontsize=10)
    return save_figure(figure, path)


def _draw_panel(panel: Axes, group: str, trials: list[Trial]) -> None:
    for (name, own), colour, mark in zip(_by_name(trials).items(), _COLOURS, _MARKS, strict=False):
        panel.plot(
            [trial.severity for trial in own],
            [trial.retained for trial in own],
            color=colour,
            marker=mark,
            markersize=5,
            label=name.replace("_", " "),
        )
    panel.axhline(100, color="#444444", linewidth=0.8)
    panel.set_title(group, fontsize=11, loc="left")
    panel.set_xticks(SEVERITIES)
    panel.tick_params(labelbottom=True)  # shared axes would number the last row alone
    panel.grid(color="#e5e5e5", linewidth=0.6)
    panel.spines[["top", "right"]].set_visible(False)
    panel.legend(fontsize=8, loc="lower left", frameon=False)


def _row(trial: Trial) -> str:
    value, low, high = trial.recall
    loss, least, most = trial.loss
    cells = [
        trial.group,
        trial.name.replace("_", " "),
        str(trial.severity),
        f"{value:.1f} [{low:.0f}–{high:.0f}]",
        f"{trial.retained:.0f}",
        f"{loss:+.1f} [{least:+.1f}, {most:+.1f}]",
        f"{trial.changed:.0f}",
    ]
    return "| " + " | ".join(cells) + " |"
