"""A reliability diagram: stated probability against how often it was right."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saywhere.picture import new_figure, save_figure

_Z = 1.959964  # 95 %, two-sided
# Bins, legend, colour, marker; colours that the colour-blind tell apart (Okabe and Ito).
_SERIES = (
    ("bins", "first ten hits, 95 % intervals", "#0072b2", "o"),
    ("bins_first", "first hit alone", "#d55e00", "s"),
)


def plot_reliability(match: Mapping[str, Any], path: Path) -> Path:
    """Draw the bins of ``match_report`` with Wilson's 95 % intervals.

    Args:
        path: of the picture, PNG.

    Raises:
        MissingExtraError: matplotlib is not installed.
        InputError: ``path`` cannot be written.
    """
    figure = new_figure("evaluate --reliability", 5.2, 5)
    panel = figure.subplots()
    drawn = []
    for name, label, colour, marker in _SERIES:
        stated, right, counts = (np.asarray(column) for column in zip(*match[name], strict=True))
        low, high = _wilson(right, counts)
        # A share of zero has no place on a logarithmic axis: its interval alone is drawn.
        panel.vlines(stated, low, high, color=colour, linewidth=1.2, alpha=0.6)
        seen = right > 0
        panel.plot(stated[seen], right[seen], marker, color=colour, markersize=5, label=label)
        drawn += [stated, high, low[seen]]
    values = np.concatenate(drawn)
    # Logarithmic: most of ten hits are improbable, and should be.
    limits = (max(values[values > 0].min() / 1.3, 1e-6), min(values.max() * 1.3, 1))
    panel.plot(limits, limits, color="#444444", linewidth=0.8, label="as stated", zorder=0)
    panel.set(xscale="log", yscale="log", xlim=limits, ylim=limits, aspect="equal")
    for axis in (panel.xaxis, panel.yaxis):
        ticks = [tick for tick in _TICKS if limits[0] <= tick <= limits[1]]
        axis.set_ticks(ticks, [f"{100 * tick:g} %" for tick in ticks])
        axis.set_ticks([], minor=True)
    panel.tick_params(axis="x", rotation=45)  # side by side they would touch
    panel.set_xlabel("stated probability that a hit is the image meant")
    panel.set_ylabel("share that was")
    panel.set_title(
        f"{match['queries']} queries, calibration error "
        f"{match['expected_calibration_error']:.3f} (first ten), "
        f"{match['expected_calibration_error_first']:.3f} (first)",
        fontsize=9,
    )
    panel.grid(color="#dddddd", linewidth=0.6)
    panel.legend(loc="upper left", fontsize=9)
    return save_figure(figure, path)


_TICKS = tuple(digit * 10.0**power for power in range(-6, 1) for digit in (1, 2, 5))


def _wilson(
    share: NDArray[np.float64], count: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Score interval of a binomial share (Wilson 1927): never empty, never beyond 0 and 1."""
    square = _Z**2 / count
    centre = (share + square / 2) / (1 + square)
    reach = _Z * np.sqrt(share * (1 - share) / count + square / (4 * count)) / (1 + square)
    return centre - reach, centre + reach
