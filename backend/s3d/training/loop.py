"""The one training loop. A method hands it batches and a loss; all else is the same for all methods."""

import math
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from s3d.data.patches import PatchBatch
from s3d.errors import ConfigError, InterruptedRunError, TrainingDivergedError
from s3d.progress import Progress
from s3d.training.checkpoint import Checkpoint
from s3d.training.config import TrainingConfig
from s3d.training.device import Device, memory_in_use_mb
from s3d.training.distributed import Processes, any_process, sum_gradients, wait_for_all
from s3d.training.interruption import StopRequest, stop_on_signals
from s3d.training.memory_advice import memory_advice
from s3d.training.optimizers import set_learning_rate
from s3d.training.schedules import Schedule
from s3d.training.state import TrainingState

MOST_SKIPPED_IN_A_ROW = 20

LossOf = Callable[[nn.Module, PatchBatch, int], Tensor]
"""(model, batch, step) -> scalar whose value is that of all processes and whose gradient is local (losses.py)."""


BatchesOf = Callable[[Iterator[Sequence[int]]], Generator[PatchBatch, None, None]]
"""Gives the batch of every list of sample numbers, in order, reading ahead if it likes."""


@dataclass(frozen=True, kw_only=True)
class Hook:
    """Something done now and then, after a step: validation, a preview."""

    every: int
    run: Callable[[TrainingState], None]


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What a run has around it; none of it changes the numbers."""

    device: Device
    checkpoint: Checkpoint
    progress: Progress = field(default_factory=Progress)
    processes: Processes = field(default_factory=Processes)
    stop: StopRequest = field(default_factory=StopRequest)
    hooks: tuple[Hook, ...] = ()
    title: str = "Train"


def train(
    state: TrainingState,
    batches_of: BatchesOf,
    loss_of: LossOf,
    schedule: Schedule,
    config: TrainingConfig,
    around: Surroundings,
) -> None:
    """Optimise until the schedule ends; a state that was restored goes on where it stood. Ctrl-C asks it to stop.

    Raises TrainingDivergedError after more than 20 skipped steps in a row, InterruptedRunError when asked to stop (a
    checkpoint has been written), OutOfMemoryError naming what to make smaller.
    """
    if around.processes.is_first:
        around.checkpoint.clean_up()
    numbers = sample_numbers(config, around.processes, state.step, schedule.steps)
    meter = _Meter(config, around, state.step)
    if 0 < state.step < schedule.steps:
        _thaw(state, schedule)
    bar_of = around.progress.stage(around.title, schedule.steps, state.step)
    with stop_on_signals(around.stop), bar_of as bar, closing(batches_of(numbers)) as batches:
        while state.step < schedule.steps:
            stage, within = schedule.stage_at(state.step)
            if within == 0:
                state.enter(stage)
            rate = schedule.rate_at(state.step)
            with memory_advice(config, around.device, around.processes):
                loss = optimise(state, batches, loss_of, rate, config, around.device)
            state.step += 1
            meter.count(loss, rate, state)
            bar.advance(1, **meter.shown(rate))
            _after_step(state, schedule, config, around)
    if around.processes.is_first:
        around.checkpoint.save(state)


def sample_numbers(config: TrainingConfig, processes: Processes, start: int, steps: int) -> Iterator[Sequence[int]]:
    """The global numbers of this process's samples, a list per forward pass, from step `start` on.

    Step s owns numbers s*batch .. (s+1)*batch - 1; accumulation parts and processes take equal, contiguous shares, so
    every number is drawn once whatever the number of processes.
    """
    part = config.batch_size // config.accumulate
    if part % processes.count:
        raise ConfigError(
            f"{part} samples per forward pass cannot be shared equally by {processes.count} processes; "
            "choose a batch_size that is a multiple of processes times accumulate."
        )
    share = part // processes.count
    for step in range(start, steps):
        for piece in range(config.accumulate):
            first = step * config.batch_size + piece * part + processes.rank * share
            yield range(first, first + share)


def optimise(
    state: TrainingState,
    batches: Iterator[PatchBatch],
    loss_of: LossOf,
    rate: float,
    config: TrainingConfig,
    device: Device,
) -> float:
    """One optimiser step; returns the loss. A step whose loss or gradient is not finite is skipped and counted."""
    set_learning_rate(state.optimizer, rate)
    loss = _accumulate_gradients(state, batches, loss_of, config, device)
    sum_gradients(state.model.parameters())
    state.scaler.unscale_(state.optimizer)
    norm = clip_grad_norm_(state.model.parameters(), config.max_gradient_norm)
    finite = math.isfinite(loss) and bool(torch.isfinite(norm))
    if finite:
        state.scaler.step(state.optimizer)
        if state.average is not None:
            state.average.update(state.model)
    state.scaler.update()
    state.optimizer.zero_grad(set_to_none=True)
    state.skipped_in_a_row = 0 if finite else state.skipped_in_a_row + 1
    if state.skipped_in_a_row > MOST_SKIPPED_IN_A_ROW:
        raise TrainingDivergedError(
            f"The last {state.skipped_in_a_row} steps up to step {state.step} gave no finite loss or gradient. "
            "Choose a smaller learning_rate or precision fp32, and check the images for extreme values."
        )
    return loss


def _accumulate_gradients(
    state: TrainingState, batches: Iterator[PatchBatch], loss_of: LossOf, config: TrainingConfig, device: Device
) -> float:
    total = 0.0
    for _ in range(config.accumulate):
        with device.autocast():
            loss = loss_of(state.model, next(batches), state.step) / config.accumulate
        state.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        total += loss.item()
    return total


def _after_step(state: TrainingState, schedule: Schedule, config: TrainingConfig, around: Surroundings) -> None:
    for hook in around.hooks:
        if state.step % hook.every == 0 or state.step == schedule.steps:
            hook.run(state)
    asked = any_process(around.stop.is_set, around.device.torch_device)
    due = state.step % config.save_every == 0 and state.step < schedule.steps
    if around.processes.is_first and (due or asked):
        around.checkpoint.save(state)
    if asked and state.step < schedule.steps:
        wait_for_all()  # torchrun ends the first process soon after another one has left
        around.stop.obeyed()
        raise InterruptedRunError(
            f"Stopped after step {state.step} of {schedule.steps}; the same command goes on from "
            f"{around.checkpoint.path}."
        )


def _thaw(state: TrainingState, schedule: Schedule) -> None:
    """Enter the stage a resumed run is in the middle of, without forgetting its momentum."""
    stage, within = schedule.stage_at(state.step)
    if within:
        for name, parameter in state.model.named_parameters():
            parameter.requires_grad_(stage.trains(name))


class _Meter:
    """Smooths the loss, measures the speed, writes metric events."""

    def __init__(self, config: TrainingConfig, around: Surroundings, step: int) -> None:
        self._config = config
        self._around = around
        self._since = time.monotonic()
        self._steps_since = step
        self._smooth_loss = float("nan")
        self._images_per_second = 0.0

    def shown(self, rate: float) -> dict[str, str]:
        """What stands beside the bar."""
        memory_gb = memory_in_use_mb(self._around.device.torch_device) / 1e3
        speed = {"images/s": f"{self._images_per_second:.1f}"} if self._images_per_second else {}
        return {"loss": f"{self._smooth_loss:.3f}", "rate": f"{rate:.0e}", **speed, "GB": f"{memory_gb:.1f}"}

    def count(self, loss: float, rate: float, state: TrainingState) -> None:
        """Take in one step."""
        first = math.isnan(self._smooth_loss)
        self._smooth_loss = loss if first else 0.95 * self._smooth_loss + 0.05 * loss
        if state.step % self._config.log_every:
            return
        now = time.monotonic()
        images = (state.step - self._steps_since) * self._config.batch_size
        self._images_per_second = images / max(now - self._since, 1e-9)
        self._around.progress.metric(
            state.step,
            loss=loss,
            learning_rate=rate,
            images_per_second=round(self._images_per_second, 3),
            memory_mb=round(memory_in_use_mb(self._around.device.torch_device), 1),
        )
        self._since, self._steps_since = now, state.step
