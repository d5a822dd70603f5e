"""Scores of cases and what they amount to (method.md section 9).

A score that is NaN (the label is in neither mask) is left out of every mean. An infinite HD95 (the label is in only one
mask) stays in the table, is left out of the mean, and its count is shown beside it.
"""

import csv
import dataclasses
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from s3d.atomic_files import write_text
from s3d.errors import DatasetError
from s3d.evaluation.metrics import dice, hausdorff_95, surface_dice, volume_ml

Metric = Literal["dice", "nsd", "hd95_mm"]
METRICS: tuple[Metric, ...] = ("dice", "nsd", "hd95_mm")


@dataclass(frozen=True)
class CaseScore:
    """One label of one case."""

    case: str
    label: str
    dice: float
    """0 to 1; NaN if the label is in neither mask."""
    nsd: float
    """Surface Dice, 0 to 1; NaN if the label is in neither mask."""
    hd95_mm: float
    """NaN if the label is in neither mask, infinite if in only one."""
    reference_ml: float
    prediction_ml: float


@dataclass(frozen=True)
class MetricSummary:
    """One metric of one label over cases."""

    mean: float
    """Over the counted cases; NaN if there are none."""
    counted: int
    undefined: int
    """Cases with NaN: the label is in neither mask."""
    infinite: int
    """Cases with an infinite HD95: the label is in only one mask."""


@dataclass(frozen=True)
class LabelSummary:
    """One label over cases."""

    label: str
    dice: MetricSummary
    nsd: MetricSummary
    hd95_mm: MetricSummary
    mean_reference_ml: float
    mean_prediction_ml: float


@dataclass(frozen=True)
class Summary:
    """All labels over all cases."""

    cases: int
    labels: tuple[LabelSummary, ...]
    foreground_mean: dict[Metric, float]
    """Mean over labels of the label means; a label that no case has is left out."""


def score_case(
    reference_ZYX: np.ndarray,
    prediction_ZYX: np.ndarray,
    spacing_mm: Sequence[float],
    labels: Mapping[str, int],
    tolerance_mm: float = 1.0,
    label_tolerances_mm: Mapping[str, float] | None = None,
    ignore_value: int | None = None,
    *,
    case: str,
) -> list[CaseScore]:
    """Score every label (name -> voxel value) of one case, in the order of labels.

    reference, prediction: integers (z, y, x) on the same grid. Voxels where the reference is ignore_value count as
    background in both. Raises GeometryError if the shapes differ.
    """
    if ignore_value is not None and reference_ZYX.shape == prediction_ZYX.shape:
        prediction_ZYX = np.where(reference_ZYX == ignore_value, ignore_value, prediction_ZYX)
    rows = []
    for name, value in labels.items():
        reference, prediction = reference_ZYX == value, prediction_ZYX == value
        tolerance = (label_tolerances_mm or {}).get(name, tolerance_mm)
        rows.append(
            CaseScore(
                case=case,
                label=name,
                dice=dice(reference, prediction),
                nsd=surface_dice(reference, prediction, spacing_mm, tolerance),
                hd95_mm=hausdorff_95(reference, prediction, spacing_mm),
                reference_ml=volume_ml(reference, spacing_mm),
                prediction_ml=volume_ml(prediction, spacing_mm),
            )
        )
    return rows


def summarize(rows: Sequence[CaseScore]) -> Summary:
    """Means per label and over the foreground. Raises DatasetError if there are no rows."""
    if not rows:
        raise DatasetError("There are no scores to summarize; score at least one case with at least one label.")
    labels = tuple(_summarize_label(name, [row for row in rows if row.label == name]) for name in _labels(rows))
    foreground = {metric: _finite_mean(getattr(label, metric).mean for label in labels) for metric in METRICS}
    return Summary(len({row.case for row in rows}), labels, foreground)


def score_table(rows: Sequence[CaseScore], metric: Metric) -> tuple[tuple[str, ...], np.ndarray]:
    """Case names, sorted, and values (case, label), labels in the order of the rows; NaN where a pair has no row."""
    lines = {case: line for line, case in enumerate(sorted({row.case for row in rows}))}
    columns = {label: column for column, label in enumerate(_labels(rows))}
    table = np.full((len(lines), len(columns)), np.nan)
    for row in rows:
        table[lines[row.case], columns[row.label]] = getattr(row, metric)
    return tuple(lines), table


def case_means(rows: Sequence[CaseScore], metric: Metric) -> dict[str, float]:
    """Mean over the labels of each case, cases sorted; NaN for a case without any finite value."""
    cases, table = score_table(rows, metric)
    return {case: _finite_mean(values) for case, values in zip(cases, table, strict=True)}


def write_csv(path: Path, rows: Sequence[CaseScore]) -> None:
    """Write a line per case and label, atomically: columns as the fields of CaseScore, full precision, nan and inf."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(field.name for field in dataclasses.fields(CaseScore))
    writer.writerows(dataclasses.astuple(row) for row in rows)
    write_text(path, text.getvalue())


def summary_to_json(summary: Summary) -> dict[str, Any]:
    """Plain JSON values; null for NaN."""
    values: dict[str, Any] = _without_nan(dataclasses.asdict(summary))
    return values


def _summarize_label(name: str, rows: Sequence[CaseScore]) -> LabelSummary:
    return LabelSummary(
        label=name,
        dice=_summarize_metric([row.dice for row in rows]),
        nsd=_summarize_metric([row.nsd for row in rows]),
        hd95_mm=_summarize_metric([row.hd95_mm for row in rows]),
        mean_reference_ml=_finite_mean(row.reference_ml for row in rows),
        mean_prediction_ml=_finite_mean(row.prediction_ml for row in rows),
    )


def _summarize_metric(values: Sequence[float]) -> MetricSummary:
    return MetricSummary(
        mean=_finite_mean(values),
        counted=sum(map(math.isfinite, values)),
        undefined=sum(map(math.isnan, values)),
        infinite=sum(map(math.isinf, values)),
    )


def _finite_mean(values: Iterable[float]) -> float:
    finite = [float(value) for value in values if math.isfinite(value)]
    return math.fsum(finite) / len(finite) if finite else float("nan")


def _labels(rows: Sequence[CaseScore]) -> list[str]:
    """Label names in the order of their first row."""
    return list(dict.fromkeys(row.label for row in rows))


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
