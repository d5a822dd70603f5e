"""`s3d evaluate`: score a folder of segmentations, write cases.csv, summary.json and report.html."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from s3d.atomic_files import write_json
from s3d.bundle import NOT_A_DEVICE
from s3d.config import to_dict
from s3d.data.dataset_json import read_description
from s3d.errors import ConfigError, DatasetError, LabelError
from s3d.evaluation.config import EvaluateConfig
from s3d.evaluation.pairs import Pair, find_pairs, read_pair, shorten
from s3d.evaluation.score_report import ScoredRun, score_page
from s3d.evaluation.scores import CaseScore, score_case, score_table, summarize, summary_to_json, write_csv
from s3d.evaluation.statistics import Interval, bootstrap_interval
from s3d.progress import Progress


@dataclass(frozen=True)
class _Labels:
    """What the voxel values mean, and which file says so."""

    values: dict[str, int]
    ignore_value: int | None
    source: Path | None
    """None if the config names the labels; then other values are background."""


def evaluate(config: EvaluateConfig, progress: Progress) -> Path:
    """Score every reference and return the path of the HTML report.

    A reference without a prediction ends the run before anything is scored, or with allow_missing counts as an empty
    prediction: leaving failures out would flatter. Raises DatasetError, LabelError, GeometryError, ImageError.
    """
    labels = _find_labels(config)
    pairs, unmatched = find_pairs(config.references, config.predictions, config.images)
    missing = [pair.case for pair in pairs if pair.prediction is None]
    _report_unpaired(config, progress, missing, unmatched)
    rows: list[CaseScore] = []
    with progress.stage("Scoring", total=len(pairs)) as stage:
        for pair in pairs:
            rows += _score_pair(pair, labels, config)
            stage.advance()
    run = ScoredRun(config, tuple(rows), summarize(rows), _intervals(rows), tuple(missing), tuple(unmatched))
    page = score_page(run, pairs)  # may still refuse an image: nothing is written before
    write_csv(config.output / "cases.csv", rows)
    write_json(config.output / "summary.json", _to_json(run, labels))
    return page.write(config.output / "report.html")


def _find_labels(config: EvaluateConfig) -> _Labels:
    """Names and values from the config or dataset.json. Raises ConfigError or DatasetError."""
    places = (config.references / "dataset.json", config.references.resolve().parent / "dataset.json")
    source = next((place for place in places if place.is_file()), None)
    if config.labels is not None:
        labels = _Labels(config.labels, config.ignore_value, None)
    elif source is not None:
        description = read_description(source)
        ignore_value = description.ignore_value if config.ignore_value is None else config.ignore_value
        labels = _Labels(description.labels, ignore_value, source)
    else:
        raise DatasetError(
            f"There is no dataset.json in {config.references} or above it to name the labels. "
            'Put one there, or give the labels, for example --labels hippocampus 1 (JSON: {"hippocampus": 1}).'
        )
    for name in config.label_tolerances_mm:
        if name not in labels.values:
            raise ConfigError(f"label_tolerances_mm names {name!r}; the labels are {', '.join(labels.values)}.")
    return labels


def _report_unpaired(config: EvaluateConfig, progress: Progress, missing: list[str], unmatched: list[str]) -> None:
    if missing and not config.allow_missing:
        raise DatasetError(
            f"{config.predictions} holds no prediction for {shorten(missing)}. "
            "Segment these cases, or count them as failures with allow_missing."
        )
    if missing:
        progress.warning(
            "W_MISSING_PREDICTION",
            f"Without a prediction, counted as failures: {shorten(missing)}.",
        )
    if unmatched:
        progress.note(f"Without a reference, not scored: {shorten(unmatched)}.")


def _score_pair(pair: Pair, labels: _Labels, config: EvaluateConfig) -> list[CaseScore]:
    reference, prediction, grid = read_pair(pair)
    if labels.source is not None:
        known = [0, *labels.values.values(), *([] if labels.ignore_value is None else [labels.ignore_value])]
        _check_values(reference, known, pair.reference, labels.source)
        _check_values(prediction, known, pair.prediction or pair.reference, labels.source)
    return score_case(
        reference,
        prediction,
        grid.spacing_mm,
        labels.values,
        config.tolerance_mm,
        config.label_tolerances_mm,
        labels.ignore_value,
        case=pair.case,
    )


def _check_values(labels_ZYX: np.ndarray, known: Sequence[int], path: Path, source: Path) -> None:
    unknown = np.setdiff1d(np.unique(labels_ZYX), known)
    if unknown.size:
        raise LabelError(
            f"{path} holds the label value {shorten([str(value) for value in unknown])}, which {source} does not name. "
            "Add it there, or give the labels to score (others are then background)."
        )


def _intervals(rows: Sequence[CaseScore]) -> dict[str, Interval]:
    """Foreground Dice and NSD with their intervals over cases."""
    return {metric: bootstrap_interval(score_table(rows, metric)[1]) for metric in ("dice", "nsd")}


def _to_json(run: ScoredRun, labels: _Labels) -> dict[str, Any]:
    return {
        "schema_version": 1,
        "config": to_dict(run.config),
        "label_values": labels.values,
        "ignore_value": labels.ignore_value,
        "missing_predictions": list(run.missing),
        "predictions_without_reference": list(run.unmatched),
        **summary_to_json(run.summary),
        "foreground_interval": {
            metric: {key: None if value != value else value for key, value in interval._asdict().items()}
            for metric, interval in run.intervals.items()
        },
        "disclaimer": NOT_A_DEVICE,
    }
