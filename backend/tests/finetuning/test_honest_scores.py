"""No network is scored on a case that taught it, chose its checkpoint or taught its parent."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from safetensors import safe_open
from torch import Tensor

from s3d.bundle import Bundle, load_bundle
from s3d.evaluation.scores import CaseScore
from s3d.finetuning import run as running
from s3d.finetuning.config import FinetuneConfig
from s3d.finetuning.run import finetune
from s3d.progress import Progress, read_events
from s3d.training.interruption import StopRequest

Options = Callable[..., FinetuneConfig]


def run(config: FinetuneConfig, stop: StopRequest | None = None) -> Bundle:
    return load_bundle(finetune(config, Progress(), stop))


def plan_of(config: FinetuneConfig) -> dict[str, dict[str, list[str]]]:
    plan: dict[str, dict[str, list[str]]] = json.loads((config.output / "folds.json").read_text())
    return plan


def scored_cases(config: FinetuneConfig) -> list[str]:
    lines = (config.output / "scores.csv").read_text().splitlines()[1:]
    return [line.split(",")[0] for line in lines]


def trained_on(config: FinetuneConfig, name: str) -> list[str]:
    """The cases a training's own checkpoint says it was trained on."""
    with safe_open(config.output / name / "checkpoint.safetensors", framework="pt") as file:
        cases: list[str] = json.loads(file.metadata()["s3d"])["identity"]["cases"]
    return cases


@pytest.mark.parametrize(("cases", "folds", "made"), [((), 3, 3), (("case_0", "case_1", "case_2", "case_3"), 2, 4)])
@pytest.mark.parametrize("selection", ["last", "best"])
def test_every_case_is_scored_once_by_a_network_it_neither_taught_nor_chose(
    cases: tuple[str, ...], folds: int, made: int, selection: str, options: Options
) -> None:
    config = options(cases=cases, folds=folds, selection=selection, steps=2)
    card = run(config).description
    expected = list(cases) or [f"case_{number}" for number in range(6)]
    plan = plan_of(config)
    assert list(plan) == [f"fold_{number}" for number in range(made)] + ["final"]
    for name, fold in plan.items():
        assert trained_on(config, name) == fold["training"]
        assert not set(fold["judging"]) & {*fold["training"], *fold["choosing"]}
        assert not set(fold["choosing"]) & set(fold["training"])
        assert bool(fold["choosing"]) == (selection == "best")
    assert sorted(case for fold in plan.values() for case in fold["judging"]) == expected
    assert sorted(scored_cases(config)) == sorted(expected * 2)  # two labels each
    scores = json.loads((config.output / "scores.json").read_text())
    assert (scores["how"], scores["cases"]) == ("k-fold", len(expected))
    assert card.training["scores"] == scores
    assert card.training["checkpoint"] == selection
    assert card.training["cases"] + card.training["choosing_cases"] == len(expected)


def test_cases_of_one_patient_stay_on_one_side(options: Options, tmp_path: Path) -> None:
    table = tmp_path / "patients.csv"
    table.write_text("case,patient\n" + "".join(f"case_{i},P{i // 2}\n" for i in range(6)))
    config = options(folds=2, patients=table, steps=1)
    card = run(config).description
    plan = plan_of(config)
    assert sorted(fold["judging"] for fold in plan.values()) == [
        [],
        ["case_0", "case_1"],
        ["case_2", "case_3"],
        ["case_4", "case_5"],
    ]
    assert (card.training["cases"], card.training["patients"]) == (6, 3)


@pytest.mark.parametrize("selection", ["last", "best"])
def test_locked_cases_alone_give_the_score(selection: str, options: Options) -> None:
    config = options(hold_out=2, selection=selection)
    card = run(config).description
    plan = plan_of(config)
    assert list(plan) == ["final"]
    judging = plan["final"]["judging"]
    assert len(judging) == 2
    assert sorted(set(scored_cases(config))) == judging
    assert not set(trained_on(config, "final")) & {*judging, *plan["final"]["choosing"]}
    assert (card.training["scores"]["how"], card.training["scores"]["cases"]) == ("locked hold-out", 2)
    assert len(card.training["learnt_images"]) == 4


def test_without_folds_or_hold_out_nothing_is_claimed(options: Options) -> None:
    config = options()
    assert config.selection == "last"
    assert run(config).description.training["scores"] == {"how": "none"}
    assert not (config.output / "scores.csv").exists()


@pytest.mark.parametrize(("count", "warns"), [(4, True), (5, False)])
def test_choosing_the_best_checkpoint_of_few_cases_warns(count: int, warns: bool, options: Options) -> None:
    config = options(cases=tuple(f"case_{number}" for number in range(count)), selection="best", steps=1)
    progress = Progress(config.output / "events.jsonl")
    finetune(config, progress)
    progress.close()
    codes = [e["code"] for e in read_events(config.output / "events.jsonl") if e["kind"] == "warning"]
    assert ("W_FEW_CASES" in codes) is warns


@pytest.mark.parametrize(
    ("dice", "best"), [((0.1, 0.9, 0.5), 2), ((float("nan"), 0.2, 0.4), 3), ((float("nan"),) * 3, 3)]
)
def test_the_checkpoint_with_the_best_score_is_the_result(
    dice: tuple[float, ...], best: int, options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NaN (nothing to score) is neither best nor a bar to later ones; the last weights stand where no score does."""
    seen: list[dict[str, Tensor]] = []
    answers = iter(dice)

    def scripted(weights: dict[str, Tensor], *_: object) -> list[CaseScore]:
        seen.append(weights)
        return [CaseScore("x", "Head", next(answers), 0.0, 0.0, 0.0, 0.0)]

    monkeypatch.setattr(running, "judge", scripted)
    bundle = run(options(selection="best", steps=3))
    assert len(seen) == 3
    for name, value in seen[best - 1].items():
        np.testing.assert_array_equal(bundle.weights[name], value.numpy())


def test_scoring_within_a_training_shows_both_bars(options: Options) -> None:
    shown = io.StringIO()
    config = options(selection="best", steps=1)
    finetune(config, Progress(console=Console(file=shown, force_terminal=True, width=100)))
    assert "Train" in shown.getvalue()
    assert "Score" in shown.getvalue()
