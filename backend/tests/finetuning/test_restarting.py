"""A run stopped, finished or measured before goes on from there, or says why it cannot."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from s3d.bundle import Bundle, load_bundle
from s3d.data.case_store import CaseStore
from s3d.errors import CheckpointError, InterruptedRunError
from s3d.finetuning import training
from s3d.finetuning.config import FinetuneConfig
from s3d.finetuning.run import finetune
from s3d.finetuning.segmentation_task import SegmentationTask
from s3d.progress import Progress
from s3d.training.interruption import StopRequest

Options = Callable[..., FinetuneConfig]
StopAfter = Callable[[int], StopRequest]


def run(config: FinetuneConfig, stop: StopRequest | None = None) -> Bundle:
    return load_bundle(finetune(config, Progress(), stop))


def test_minutes_become_steps_that_a_resumed_run_keeps(
    options: Options, monkeypatch: pytest.MonkeyPatch, stop_after: StopAfter
) -> None:
    monkeypatch.setattr(training, "steps_within", lambda *_: 7)
    config = options(minutes=5.0, steps=1000)
    with pytest.raises(InterruptedRunError, match="after step 3 of 7"):
        run(config, stop_after(3))
    assert json.loads((config.output / "final" / "steps.json").read_text()) == {
        "steps": 7,
        "minutes": 5.0,
        "at_most": 1000,
    }
    monkeypatch.setattr(training, "steps_within", lambda *_: pytest.fail("measured again"))
    assert run(config).description.training["steps"] == 7
    for other in ({"minutes": 6.0}, {"steps": 2000}):
        with pytest.raises(CheckpointError, match=r"minutes 5\.0 and at most 1000 steps, now .* another output folder"):
            run(dataclasses.replace(config, **other))


def test_measured_steps_never_exceed_the_limit(options: Options) -> None:
    config = options(minutes=60.0, steps=4)
    assert run(config).description.training["steps"] == 4


def test_the_trial_needs_no_more_memory_than_the_run(options: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = set()
    loss = SegmentationTask.loss

    def watched(task: SegmentationTask, model: torch.nn.Module, batch: Any, step: int) -> Tensor:
        sizes.add(len(batch.image))
        return loss(task, model, batch, step)

    monkeypatch.setattr(SegmentationTask, "loss", watched)
    run(options(minutes=60.0, steps=1, batch_size=4, accumulate=2))
    assert sizes == {2}


def test_a_stopped_run_goes_on_and_ends_as_an_unbroken_one(options: Options, stop_after: StopAfter) -> None:
    changes = {"folds": 2, "cases": ("case_0", "case_1"), "steps": 3, "augmentation": "quick"}
    unbroken = run(options(**changes, output=options().output / "unbroken")).description
    config = options(**changes, output=options().output / "broken")
    for steps_until_stop in (2, 3, 3):  # in each of the three trainings once
        with pytest.raises(InterruptedRunError, match="after step 2 of 3"):
            run(config, stop_after(steps_until_stop))
        assert (config.output / "folds.json").exists()
    resumed = run(config).description
    assert resumed.id == unbroken.id
    assert resumed.training["scores"] == unbroken.training["scores"]


def test_a_finished_run_is_read_back_without_training(options: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    config = options(hold_out=1)
    first = run(config)
    monkeypatch.setattr(training, "train", lambda *_: pytest.fail("trained again"))
    again = run(config)
    assert again.description.id == first.description.id
    assert again.description.training["scores"] == first.description.training["scores"]


def test_a_score_can_be_added_to_a_finished_run(options: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run(options())
    titles = []
    train = training.train

    def watched(*arguments: Any) -> None:
        titles.append(arguments[-1].title)
        train(*arguments)

    monkeypatch.setattr(training, "train", watched)
    again = run(options(folds=3))
    assert again.description.id == first.description.id
    assert again.description.training["scores"]["how"] == "k-fold"
    assert titles == ["Train fold 0", "Train fold 1", "Train fold 2"]


def test_an_unfinished_run_with_other_options_is_not_mixed_up(
    options: Options, make_dataset: Callable[..., Path], stop_after: StopAfter
) -> None:
    config = options(dataset=make_dataset())
    with pytest.raises(InterruptedRunError):
        run(config, stop_after(1))
    with pytest.raises(CheckpointError, match=r"learning_rate was None, now 0\.001\. Choose another output folder"):
        run(dataclasses.replace(config, learning_rate=1e-3))
    with pytest.raises(CheckpointError, match="final other cases"):
        run(dataclasses.replace(config, cases=("case_0", "case_1")))
    make_dataset(labels={"Neck": 3, "Tail": 300})  # only a name: the voxels stay
    with pytest.raises(CheckpointError, match=r"labels was \{'Head': 3, .*\}, now \{'Neck': 3, .*\}"):
        run(config)


def test_other_cases_of_the_store_do_not_stand_in_the_way(options: Options) -> None:
    config = options(cases=("case_0", "case_1"))
    first = run(config)
    some = CaseStore.open(config.output / "store")
    some.write("stranger", some.read_image("case_0"), some.read_labels("case_0"))
    assert run(config).description == first.description
