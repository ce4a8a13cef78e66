"""A reliability diagram: stated probability against how often it was right."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from saywhere.picture import new_figure, save_figure


def plot_reliability(match: Mapping[str, Any], path: Path) -> Path:
    """Draw the bins of ``match_report``.

    Args:
        path: of the picture, PNG.

    Raises:
        MissingExtraError: matplotlib is not installed.
        InputError: ``path`` cannot be written.
    """
    stated, right, counts = zip(*match["bins"], strict=True)
    figure = new_figure("evaluate --reliability", 5, 5)
    panel = figure.subplots()
    limits = (min(*stated, 0.001) / 1.5, 1)
    # Logarithmic: most of ten hits are improbable, and should be.
    panel.plot(limits, limits, color="#444444", linewidth=0.8, label="as stated")
    spread = [(p * (1 - p) / count) ** 0.5 for p, count in zip(stated, counts, strict=True)]
    panel.errorbar(stated, right, yerr=spread, fmt="o", color="#1b6ca8", capsize=3,
                   label="hits, with the spread that chance gives")  # fmt: skip
    panel.set(xscale="log", yscale="log", xlim=limits, ylim=limits)
    panel.set_xlabel("stated probability of a hit")
    panel.set_ylabel("share that was right")
    panel.set_title(f"expected calibration error {match['expected_calibration_error']:.3f}")
    panel.grid(color="#dddddd", linewidth=0.6)
    panel.legend(loc="upper left", fontsize=9)
    return save_figure(figure, path)
