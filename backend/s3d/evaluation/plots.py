"""Plots of numbers for reports, as PNG bytes: loss curves, two methods case by case, scores per label.

Colours are Okabe and Ito's, told apart by colour-blind readers; dashes and markers differ as well.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.signal import lfilter

from s3d.evaluation.pictures import png

_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#000000")
_DASHES = ("solid", "dashed", "dashdot", "dotted")
_DOTS_PER_INCH = 130
_MOST_CASE_NAMES = 40  # beyond this many lines names cannot be read


def curves_figure(
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    y_label: str = "Loss",
    x_label: str = "Step",
    smoothing: float = 0.8,
    logarithmic: bool = False,
) -> bytes:
    """Several curves by name, each (steps, values): as measured faint, smoothed in front. PNG bytes.

    smoothing: 0 (none) to below 1, see smooth. logarithmic: of the value axis.
    """
    figure, panel = _one_panel(9, 3.6)
    for index, (name, (steps, values)) in enumerate(curves.items()):
        color, dash = _COLORS[index % len(_COLORS)], _DASHES[index % len(_DASHES)]
        if smoothing > 0:
            panel.plot(steps, values, color=color, alpha=0.2, linewidth=0.8)
        panel.plot(steps, smooth(values, smoothing), color=color, linestyle=dash, linewidth=1.8, label=name)
    panel.set_yscale("log" if logarithmic else "linear")
    panel.set_xlabel(x_label)
    panel.set_ylabel(y_label)
    if smoothing > 0:
        panel.set_title(f"faint: as measured; line: smoothed ({smoothing:g})", loc="left", fontsize=8, color="#555555")
    if curves:
        panel.legend(frameon=False)
    return png(figure)


def smooth(values: Sequence[float], smoothing: float) -> np.ndarray:
    """Mean of all values, one that lies d places away weighing smoothing^d: an exponential average without its lag."""
    both = np.stack([np.asarray(values, dtype=np.float64), np.ones(len(values))])
    forward = lfilter([1.0], [1.0, -smoothing], both)
    backward = lfilter([1.0], [1.0, -smoothing], both[:, ::-1])[:, ::-1]
    totals = forward + backward - both  # both directions count a value itself
    smoothed: np.ndarray = totals[0] / totals[1]
    return smoothed


def paired_scores_figure(
    cases: Sequence[str],
    first: Sequence[float],
    second: Sequence[float],
    names: tuple[str, str],
    *,
    metric: str = "Dice",
) -> bytes:
    """The score of each case by two methods, a line per case from the best to the worst, and both means. PNG bytes.

    first, second: in the order of cases; NaN leaves a dot out. names: of the two methods.
    """
    table = np.array([first, second], dtype=np.float64)
    order = np.argsort(np.nan_to_num(table, nan=-math.inf).sum(axis=0), kind="stable")
    rows = np.arange(len(cases))
    size = 30 if len(cases) <= _MOST_CASE_NAMES else 12
    figure, panel = _one_panel(9, 1.2 + 0.24 * len(cases) if len(cases) <= _MOST_CASE_NAMES else 6)
    low, high = table[:, order].min(axis=0), table[:, order].max(axis=0)
    panel.hlines(rows, low, high, color="#BBBBBB", linewidth=1.5, zorder=1)
    for values, name, color, marker in zip(table, names, _COLORS, "oD", strict=False):
        mean = float(np.nanmean(values)) if np.isfinite(values).any() else math.nan
        panel.scatter(
            values[order], rows, color=color, marker=marker, s=size, zorder=3, label=f"{name}: mean {mean:.3f}"
        )
        panel.axvline(mean, color=color, linestyle="dashed", linewidth=1.2, zorder=2)
    _name_rows(panel, [cases[index] for index in order])
    panel.set_xlabel(f"{metric} of each case (dashed: mean)")
    figure.legend(frameon=False, loc="outside upper center", ncols=2)
    return png(figure)


def scores_figure(scores: Mapping[str, Sequence[float] | np.ndarray], *, metric: str = "Dice") -> bytes:
    """Every case's score for each label by name as a dot, the median as a bar. PNG bytes.

    Values that are not finite are left out.
    """
    figure, panel = _one_panel(9, 1.0 + 0.45 * len(scores))
    for row, values in enumerate(reversed(list(scores.values()))):
        finite = np.array([value for value in values if math.isfinite(value)])
        if not finite.size:
            continue
        # Spread by rank within the line, so that equal scores stay visible; nothing is random.
        heights = row + 0.28 * np.sin(2.4 * np.arange(finite.size))
        panel.scatter(np.sort(finite), heights, color=_COLORS[0], alpha=0.6, s=18, linewidths=0)
        panel.vlines(np.median(finite), row - 0.38, row + 0.38, color=_COLORS[1], linewidth=2.5)
    _name_rows(panel, list(reversed(list(scores))))
    panel.set_xlabel(f"{metric} of each case (bar: median)")
    return png(figure)


def _one_panel(width: float, height: float) -> tuple[Figure, Axes]:
    """An empty panel of that size in inches with a light grid and no box."""
    figure = Figure(figsize=(width, height), dpi=_DOTS_PER_INCH, layout="constrained")
    panel = figure.subplots()
    panel.grid(color="#E4E4E4", linewidth=0.8)
    panel.set_axisbelow(True)
    for side in ("top", "right"):
        panel.spines[side].set_visible(False)
    return figure, panel


def _name_rows(panel: Axes, names: Sequence[str]) -> None:
    """Names beside the lines of a plot, or only how many there are when they would not fit."""
    panel.set_ylim(-0.6, len(names) - 0.4)
    if len(names) <= _MOST_CASE_NAMES:
        panel.set_yticks(range(len(names)), labels=names)
    else:
        panel.set_yticks([])
        panel.set_ylabel(f"{len(names)} cases")
