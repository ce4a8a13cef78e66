"""What was retained: a Markdown table, and curves over the severities."""

from __future__ import annotations

from pathlib import Path

from saywhere.picture import new_figure, save_figure
from saywhere.robustness.images import SEVERITIES
from saywhere.robustness.run import HEADLINE_SEVERITY, Robustness, Trial


def robustness_markdown(found: Robustness) -> str:
    """The table, a row a corruption and severity, with the means above it."""
    context = found.context
    lines = [
        f"{context['queries']} queries, {context['images']} images; platforms known for "
        f"{context['platforms_known']}; experts {', '.join(context['experts'])} "
        f"(`{context['expert_hash'][:12]}`), fusion `{context['fusion']}`. Clean R@10 "
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
    lines += [
        "",
        "| group | corruption | severity | R@10 | retained, % | loss | changed, % |",
        "|---|---|--:|--:|--:|--:|--:|",
    ]
    names = list(dict.fromkeys(trial.name for trial in found.trials))
    ordered = sorted(found.trials, key=lambda trial: (names.index(trial.name), trial.severity))
    return "\n".join([*lines, *(_row(trial) for trial in ordered)]) + "\n"


def plot_robustness(found: Robustness, path: Path) -> Path:
    """Curves of what is retained: a panel of images, one of words.

    Args:
        path: of the picture, PNG.

    Raises:
        MissingExtraError: matplotlib is not installed.
        InputError: ``path`` cannot be written.
    """
    figure = new_figure("robustness --plot", 12, 5)
    panels = figure.subplots(1, 2, sharey=True)
    for panel, kind in zip(panels, ("image", "words"), strict=True):
        trials = [trial for trial in found.trials if trial.kind == kind]
        for number, name in enumerate(dict.fromkeys(trial.name for trial in trials)):
            own = sorted((t for t in trials if t.name == name), key=lambda t: t.severity)
            panel.plot(
                [trial.severity for trial in own],
                [trial.retained for trial in own],
                marker="osD^v"[number // 10 % 5],
                color=f"C{number % 10}",
                label=name.replace("_", " "),
            )
        panel.axhline(100, color="#444444", linewidth=0.8)
        panel.set_title("corrupted images" if kind == "image" else "corrupted queries")
        panel.set_xlabel("severity")
        panel.set_xticks(SEVERITIES)
        panel.grid(color="#dddddd", linewidth=0.6)
        if trials:
            panel.legend(fontsize=8, ncols=2, loc="lower left")
    panels[0].set_ylabel("R@10 retained, % of clean")
    panels[0].set_ylim(bottom=0)
    return save_figure(figure, path)


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
