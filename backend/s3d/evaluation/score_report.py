"""The HTML report of `s3d evaluate`: means, spread, pictures from the worst to the best case, every score."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from s3d.data.image_files import Grid, read_header, read_volume, same_grid
from s3d.data.orientation import axis_order_to_lps, reorient_grid
from s3d.errors import GeometryError
from s3d.evaluation.config import EvaluateConfig
from s3d.evaluation.pairs import Pair, read_pair, shorten
from s3d.evaluation.pictures import overlay_figure
from s3d.evaluation.plots import scores_figure
from s3d.evaluation.report import Page
from s3d.evaluation.scores import CaseScore, MetricSummary, Summary, case_means, score_table
from s3d.evaluation.statistics import Interval

_MOST_ROWS = 400  # more make a page that no one reads; cases.csv has them all


@dataclass(frozen=True)
class ScoredRun:
    """Everything a report says."""

    config: EvaluateConfig
    rows: tuple[CaseScore, ...]
    summary: Summary
    intervals: dict[str, Interval]
    """Foreground mean by metric."""
    missing: tuple[str, ...]
    """Cases without a prediction, counted as failures."""
    unmatched: tuple[str, ...]
    """Predictions without a reference."""


def score_page(run: ScoredRun, pairs: Sequence[Pair]) -> Page:
    """The report of a run over pairs. Reads the volumes of the cases it draws."""
    page = Page("Segmentation scores", f"{run.summary.cases} cases, {len(run.summary.labels)} labels")
    page.section("Result").text(_result_sentence(run))
    if run.missing:
        page.note(f"Without a prediction, counted as failures: {shorten(list(run.missing))}.")
    if run.unmatched:
        page.note(f"Without a reference, not scored: {shorten(list(run.unmatched))}.")
    _add_summary(page, run)
    drawn = _cases_to_draw(run)
    if drawn:
        page.section("From the lowest to the highest Dice").text(
            "Each slice is the one with most of the reference. Radiological convention: the patient's right is on the "
            "left of the picture."
        )
    by_name = {pair.case: pair for pair in pairs}
    for case, mean_dice in drawn.items():
        page.picture(
            overlay_of_pair(by_name[case], f"{case}: Dice {mean_dice:.3f}", run.config.ignore_value),
            alt=f"Three slices of {case} with the outlines of reference and prediction",
        )
    _add_cases(page, run)
    _add_conventions(page, run)
    return page


def overlay_of_pair(pair: Pair, title: str, ignore_value: int | None = None) -> bytes:
    """Outlines of a case on three slices, turned to LPS axes. PNG bytes. Raises GeometryError for an unfit image."""
    reference, prediction, grid = read_pair(pair)
    if ignore_value is not None:
        reference = np.where(reference == ignore_value, 0, reference)
    order = axis_order_to_lps(grid)
    image = None if pair.image is None else order.apply(_first_channel(pair.image, grid))
    return overlay_figure(
        image,
        order.apply(reference),
        {"Prediction": order.apply(prediction)},
        reorient_grid(grid, order).spacing_mm,
        title=title,
    )


def _first_channel(path: Path, grid: Grid) -> np.ndarray:
    """The image's first channel (z, y, x), which must lie on grid."""
    channels = read_header(path).channels
    volume = read_volume(path, channels if channels > 1 else None)
    if not same_grid(grid, volume.grid):
        raise GeometryError(
            f"{path} does not lie on the grid of its labels: {volume.grid} against {grid}. "
            "Give the folder of the images the references were drawn on, or leave images out."
        )
    first: np.ndarray = volume.voxels[0]
    return first


def _result_sentence(run: ScoredRun) -> str:
    dice, nsd = run.intervals["dice"], run.intervals["nsd"]
    return (
        f"Mean Dice {_with_interval(dice)}, mean surface Dice (NSD at {run.config.tolerance_mm:g} mm) "
        f"{_with_interval(nsd)}: means over labels of the means over cases. In brackets the 95 % bootstrap interval "
        "over cases: how much the mean depends on which cases were scored, not how much a new training would differ."
    )


def _with_interval(interval: Interval) -> str:
    if math.isnan(interval.low):
        return f"{interval.mean:.3f}"
    return f"{interval.mean:.3f} [{interval.low:.3f}, {interval.high:.3f}]"


def _add_summary(page: Page, run: ScoredRun) -> None:
    foreground = run.summary.foreground_mean
    page.table(
        ["Label", "Dice", "NSD", "HD95 in mm", "Cases", "Reference in ml", "Prediction in ml"],
        [
            [
                label.label,
                label.dice.mean,
                label.nsd.mean,
                _with_counts(label.hd95_mm),
                label.dice.counted,
                label.mean_reference_ml,
                label.mean_prediction_ml,
            ]
            for label in run.summary.labels
        ],
        caption="Means over cases. Cases: those with the label in the reference or the prediction.",
        last_row=[
            "All labels",
            foreground["dice"],
            foreground["nsd"],
            _millimetres(foreground["hd95_mm"]),
            "",
            "",
            "",
        ],
    )
    cases, table = score_table(run.rows, "dice")
    page.picture(
        scores_figure({label.label: table[:, column] for column, label in enumerate(run.summary.labels)}),
        alt=f"Dice of each of {len(cases)} cases for each label, with the median",
    )


def _with_counts(metric: MetricSummary) -> str:
    """The mean, with the number of infinite values that it leaves out."""
    return _millimetres(metric.mean) + (f" (+ {metric.infinite} infinite)" if metric.infinite else "")


def _millimetres(value: float) -> str:
    return "\N{EN DASH}" if math.isnan(value) else f"{value:.2f}"


def _cases_to_draw(run: ScoredRun) -> dict[str, float]:
    """Mean Dice by case, from the lowest to the highest, evenly spread over the ranks."""
    means = {case: mean for case, mean in case_means(run.rows, "dice").items() if not math.isnan(mean)}
    ranked = sorted(means, key=lambda case: means[case])
    ranks = np.unique(np.linspace(0, len(ranked) - 1, min(run.config.pictures, len(ranked))).round().astype(int))
    return {ranked[rank]: means[ranked[rank]] for rank in ranks}


def _add_cases(page: Page, run: ScoredRun) -> None:
    page.section("Every case")
    rows = sorted(run.rows, key=lambda row: (math.isnan(row.dice), row.dice))[:_MOST_ROWS]
    left_out = len(run.rows) - len(rows)
    page.table(
        ["Case", "Label", "Dice", "NSD", "HD95 in mm", "Reference in ml", "Prediction in ml"],
        [[row.case, row.label, row.dice, row.nsd, row.hd95_mm, row.reference_ml, row.prediction_ml] for row in rows],
        caption="Lowest Dice first." + (f" {left_out} more rows are in cases.csv." if left_out else ""),
    )


def _add_conventions(page: Page, run: ScoredRun) -> None:
    tolerances = "".join(f", {mm:g} mm for {name}" for name, mm in run.config.label_tolerances_mm.items())
    page.section("How the figures are made")
    page.text(
        "Dice: overlap of the two masks, 0 to 1. NSD: share of both surfaces, by area, that lies within "
        f"{run.config.tolerance_mm:g} mm{tolerances} of the other. HD95: 95th percentile of the distances between the "
        "two borders, the larger of both directions.\n\n"
        "A label in neither mask is not scored (a dash). A label in only one of them has Dice 0, NSD 0 and an infinite "
        "HD95, which stays in the table, is left out of the mean and is counted beside it."
    )
    page.text(f"Predictions: {run.config.predictions}. References: {run.config.references}.")
