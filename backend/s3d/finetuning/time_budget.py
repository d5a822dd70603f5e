"""How many steps fit into the minutes a clinician gives."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from s3d.atomic_files import write_json
from s3d.data.patches import PatchBatch
from s3d.errors import CheckpointError
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


@dataclass(frozen=True)
class StepsRecord:
    """Where a run keeps the number of steps its minutes became, so that a resumed run trains as long."""

    path: Path
    minutes: float
    at_most: int
    """Upper limit of the steps."""

    def read(self) -> int | None:
        """The steps decided before, None if there are none. Raises CheckpointError if they were for another budget."""
        if not self.path.exists():
            return None
        saved = json.loads(self.path.read_text(encoding="utf-8"))
        if (saved["minutes"], saved["at_most"]) != (self.minutes, self.at_most):
            raise CheckpointError(
                f"{self.path} was made for minutes {saved['minutes']} and at most {saved['at_most']} steps, now "
                f"{self.minutes} and {self.at_most} are asked for. Choose another output folder, or the old options."
            )
        return int(saved["steps"])

    def write(self, steps: int) -> None:
        """Keep the decision."""
        write_json(self.path, {"steps": steps, "minutes": self.minutes, "at_most": self.at_most})
