"""How many steps fit into the minutes a clinician gives."""

import time
from collections.abc import Iterator

from s3d.data.patches import PatchBatch
from s3d.training.config import TrainingConfig
from s3d.training.device import Device
from s3d.training.loop import LossOf, optimise
from s3d.training.state import TrainingState

_WARMING_STEPS = 2
_TIMED_STEPS = 6
_FEWEST_STEPS = 50
LONGEST_TRIAL = _WARMING_STEPS + _TIMED_STEPS
"""Batches a measurement uses up."""


def steps_within(
    minutes: float,
    state: TrainingState,
    batches: Iterator[PatchBatch],
    loss_of: LossOf,
    config: TrainingConfig,
    device: Device,
) -> int:
    """Time a few steps on a state made for the purpose; returns the steps that fit, at least 50."""
    for _ in range(_WARMING_STEPS):
        optimise(state, batches, loss_of, 0.0, config, device)
    started = time.monotonic()
    for _ in range(_TIMED_STEPS):
        optimise(state, batches, loss_of, 0.0, config, device)
    seconds_per_step = (time.monotonic() - started) / _TIMED_STEPS
    return max(_FEWEST_STEPS, int(minutes * 60 / seconds_per_step))
