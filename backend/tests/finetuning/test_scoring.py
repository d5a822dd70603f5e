"""Scores come from segmentations on the cases' own grids, and the card says how they were obtained."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from s3d.data.dataset import load_case
from s3d.data.image_files import Volume
from s3d.evaluation.scores import CaseScore
from s3d.finetuning import scoring
from s3d.finetuning.config import FinetuneConfig
from s3d.finetuning.material import Material
from s3d.finetuning.run import describe
from s3d.finetuning.scoring import judge, pooled
from s3d.finetuning.training import Workplace
from s3d.inference.predictor import Segmentation
from s3d.models.resenc_unet import ResEncUNet
from s3d.progress import Progress
from s3d.training.device import choose_device
from s3d.training.distributed import Processes
from s3d.training.interruption import StopRequest


@pytest.fixture
def scored(
    gathered: Callable[[FinetuneConfig], Material], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., list[CaseScore]]:
    """Scores of a segmenter that answers with `answer(truth)` for the case it is shown."""

    def score(config: FinetuneConfig, cases: tuple[str, ...], answer: Callable[..., np.ndarray]) -> list[CaseScore]:
        material = gathered(config)
        workplace = Workplace(
            device=choose_device("cpu", "fp32"), processes=Processes(), progress=Progress(), stop=StopRequest()
        )

        class Answering(scoring.Predictor):
            def segment(self, volume: Volume, **_: object) -> Segmentation:
                for case in material.dataset.cases:
                    shown, truth = load_case(material.dataset, case)
                    if np.array_equal(shown.voxels, volume.voxels):
                        return Segmentation(answer(truth), volume.grid, None, ())
                raise LookupError("an unknown volume")

        monkeypatch.setattr(scoring, "Predictor", Answering)
        model = ResEncUNet(material.architecture)
        weights = {name: value.detach() for name, value in model.named_parameters()}
        return judge(weights, describe(material, config.name), cases, material, config, workplace)

    return score


def test_a_perfect_answer_scores_one_for_every_case_and_label(
    options: Callable[..., FinetuneConfig], scored: Callable[..., list[CaseScore]]
) -> None:
    rows = scored(options(), ("case_1", "case_3"), lambda truth: truth)
    assert [(row.case, row.label) for row in rows] == [
        ("case_1", "Head"),
        ("case_1", "Tail"),
        ("case_3", "Head"),
        ("case_3", "Tail"),
    ]
    assert all(row.dice == row.nsd == 1 and row.hd95_mm == 0 for row in rows)


def test_swapped_labels_score_nothing(
    options: Callable[..., FinetuneConfig], scored: Callable[..., list[CaseScore]]
) -> None:
    rows = scored(options(), ("case_1",), lambda truth: np.where(truth == 3, 300, np.where(truth == 300, 3, 0)))
    assert all(row.dice < 0.2 for row in rows)


def test_the_tolerance_of_the_options_is_used(
    options: Callable[..., FinetuneConfig], scored: Callable[..., list[CaseScore]]
) -> None:
    def shifted(truth: np.ndarray) -> np.ndarray:
        return np.roll(truth, 2, axis=2)

    strict = scored(options(tolerance_mm=1.0), ("case_1",), shifted)
    lenient = scored(options(tolerance_mm=2.5), ("case_1",), shifted)
    assert all(row.nsd == 1 for row in lenient)
    assert all(row.nsd < 1 for row in strict)


def test_what_nobody_annotated_is_not_scored(
    options: Callable[..., FinetuneConfig],
    scored: Callable[..., list[CaseScore]],
    make_dataset: Callable[..., Path],
) -> None:
    folder = make_dataset(labels={"Head": 3, "Tail": 300, "ignore": 301}, annotated_slices=9)

    def wild(truth: np.ndarray) -> np.ndarray:
        return np.where(truth == 301, 3, truth)

    assert all(row.dice == 1 for row in scored(options(dataset=folder), ("case_1",), wild))


def test_weights_of_a_bundle_reach_the_predictor(
    options: Callable[..., FinetuneConfig],
    gathered: Callable[[FinetuneConfig], Material],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The scored network is the one whose weights are given, not a fresh one."""
    config = options()
    material = gathered(config)
    weights = {name: torch.randn_like(value) for name, value in ResEncUNet(material.architecture).named_parameters()}
    used = []

    class Watched(scoring.Predictor):
        def segment(self, volume: Volume, **_: object) -> Segmentation:
            used.append(dict(self._network.named_parameters()))
            return super().segment(volume)

    monkeypatch.setattr(scoring, "Predictor", Watched)
    workplace = Workplace(
        device=choose_device("cpu", "fp32"), processes=Processes(), progress=Progress(), stop=StopRequest()
    )
    judge(weights, describe(material, config.name), ("case_0",), material, config, workplace)
    assert all(torch.equal(value, weights[name]) for name, value in used[0].items())


def rows_of(dice: dict[str, float]) -> list[CaseScore]:
    return [CaseScore(case, "Head", value, value / 2, 1.0, 1.0, 1.0) for case, value in dice.items()]


def test_the_card_gets_means_with_intervals_and_how_they_came_about() -> None:
    record = pooled(rows_of({"a": 0.8, "b": 0.6, "c": 0.7}), "k-fold")
    assert (record["how"], record["cases"]) == ("k-fold", 3)
    assert record["dice"]["mean"] == pytest.approx(0.7)
    low, high = record["dice"]["interval_95"]
    assert 0.599 < low < 0.7 < high < 0.801
    assert record["nsd"]["mean"] == pytest.approx(0.35)


@pytest.mark.parametrize(("dice", "mean"), [({"a": 0.8}, 0.8), ({"a": float("nan"), "b": float("nan")}, None)])
def test_without_enough_cases_there_is_no_interval_and_the_record_stays_json(
    dice: dict[str, float], mean: float | None
) -> None:
    record = pooled(rows_of(dice), "locked hold-out")
    assert record["dice"] == {"mean": mean, "interval_95": None}
    json.dumps(record, allow_nan=False)
