"""Minutes become a number of steps by timing a few; nothing of the trial stays in the network."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from s3d.data.patches import PatchBatch
from s3d.finetuning import time_budget
from s3d.finetuning.time_budget import LONGEST_TRIAL, steps_within
from s3d.training.config import TrainingConfig
from s3d.training.device import choose_device
from s3d.training.optimizers import PROFILES
from s3d.training.state import TrainingState

DEVICE = choose_device("cpu", "fp32")


class Clock:
    """Time that passes only in training steps: slow ones first, as while a machine warms up."""

    def __init__(self, slow: float, usual: float) -> None:
        self.now = 0.0
        self._seconds = iter([slow] * 2 + [usual] * 100)

    def monotonic(self) -> float:
        return self.now

    def loss(self, model: nn.Module, batch: PatchBatch, _step: int) -> Tensor:
        self.now += next(self._seconds)
        loss: Tensor = model(batch.image).square().mean()
        return loss


def batches() -> Iterator[PatchBatch]:
    for number in range(1000):
        yield PatchBatch(torch.ones(1, 1, 4, 4, 4), None, None, (number,), ("a",))


def steps_for(minutes: float, clock: Clock, monkeypatch: pytest.MonkeyPatch, model: nn.Module) -> int:
    monkeypatch.setattr(time_budget, "time", clock)
    state = TrainingState.start(model, PROFILES["quick"], DEVICE)
    return steps_within(minutes, state, batches(), clock.loss, TrainingConfig(), DEVICE)


@pytest.mark.parametrize(("minutes", "seconds_per_step", "steps"), [(5, 0.5, 600), (1, 0.25, 240), (10, 2.0, 300)])
def test_the_steps_fill_the_minutes_and_warming_up_does_not_count(
    minutes: float, seconds_per_step: float, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert steps_for(minutes, Clock(60, seconds_per_step), monkeypatch, nn.Conv3d(1, 1, 1)) == steps


def test_too_little_time_still_gives_some_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    assert steps_for(0.01, Clock(9, 9), monkeypatch, nn.Conv3d(1, 1, 1)) == 50


def test_the_trial_leaves_the_weights_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.Conv3d(1, 1, 1)
    before = {name: value.clone() for name, value in model.named_parameters()}
    steps_for(1, Clock(1, 1), monkeypatch, model)
    assert all(torch.equal(value, before[name]) for name, value in model.named_parameters())


def test_a_trial_uses_as_many_steps_as_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(1, 1)
    steps_for(1, clock, monkeypatch, nn.Conv3d(1, 1, 1))
    assert clock.now == LONGEST_TRIAL
