"""Honest scores: networks judge only cases that neither trained them nor chose their checkpoint."""

from collections.abc import Sequence
from math import isfinite
from typing import Any

from torch import Tensor

from s3d.bundle import Bundle, BundleDescription
from s3d.data.dataset import LabelledCase, load_case
from s3d.evaluation.scores import CaseScore, Metric, score_case, score_table
from s3d.evaluation.statistics import bootstrap_interval
from s3d.finetuning.config import FinetuneConfig
from s3d.finetuning.material import Material
from s3d.finetuning.training import Workplace
from s3d.inference.predictor import Predictor

_ON_THE_CARD: tuple[Metric, ...] = ("dice", "nsd")


def judge(
    weights: dict[str, Tensor],
    description: BundleDescription,
    cases: Sequence[str],
    material: Material,
    config: FinetuneConfig,
    workplace: Workplace,
) -> list[CaseScore]:
    """Segment the named cases in their native grids and score them: a row per case and label."""
    bundle = Bundle(description, {name: value.numpy() for name, value in weights.items()})
    predictor = Predictor(bundle, workplace.device)
    by_name: dict[str, LabelledCase] = {case.name: case for case in material.dataset.cases}
    rows: list[CaseScore] = []
    with workplace.progress.stage("Score", len(cases)) as bar:
        for name in cases:
            volume, truth = load_case(material.dataset, by_name[name])
            rows += score_case(
                truth,
                predictor.segment(volume).labels,
                volume.grid.spacing_mm,
                material.dataset.labels,
                tolerance_mm=config.tolerance_mm,
                ignore_value=material.dataset.ignore_value,
                case=name,
            )
            bar.advance()
    return rows


def pooled(rows: Sequence[CaseScore], how: str) -> dict[str, Any]:
    """What the model card says: how the score came about, mean Dice and NSD with 95 % intervals over cases."""
    record: dict[str, Any] = {"how": how, "cases": len({row.case for row in rows})}
    for metric in _ON_THE_CARD:
        interval = bootstrap_interval(score_table(rows, metric)[1])
        ends = [interval.low, interval.high] if isfinite(interval.low) else None
        record[metric] = {"mean": interval.mean if isfinite(interval.mean) else None, "interval_95": ends}
    return record
