"""What every training has in common. Pre-training and fine-tuning add their own fields. Torch-free."""

import math
from dataclasses import dataclass
from typing import Literal

from s3d.errors import ConfigError

QUICK_BELOW_STEPS = 10_000
"""Under this budget SGD with momentum 0.99 learns next to nothing (docs/decisions/optimiser-profiles.md)."""


def check_positive(name: str, value: float | None) -> None:
    """Raise ConfigError unless value is a finite number above 0, or unset."""
    if value is not None and not 0 < value < math.inf:
        raise ConfigError(f"{name} is {value}; it must be a number above 0.")


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """Options of the one training loop."""

    steps: int = 250_000
    """Optimiser steps (paper: 1000 epochs of 250)."""
    batch_size: int = 2
    """Samples per optimiser step, over all processes and accumulation steps together."""
    accumulate: int = 1
    """Parts a process works through one after the other per step; saves memory. The mean of the parts' losses counts,
    which is the batch's own loss where every part has as many voxels that count, and near to it elsewhere (Dice)."""
    profile: Literal["auto", "paper", "quick"] = "auto"
    """paper: SGD 0.99 Nesterov, weight decay 3e-5, poly. quick: AdamW, 50 steps of warm-up, poly, averaged weights.
    auto: quick below 10,000 steps."""
    learning_rate: float | None = None
    """Maximum learning rate; unset, the profile's (SGD 1e-2; AdamW 2e-3 to pre-train, 3e-3 to fine-tune)."""
    max_gradient_norm: float = 12.0
    """Gradients are clipped to this global norm (method.md section 4)."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to compute."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """auto: bf16 where the hardware has it, fp16 on older GPUs, else fp32."""
    seed: int = 0
    """Every random choice is a function of this number and of the sample's or step's number."""
    cpu_threads: int | None = None
    """Threads torch may use on the CPU; unset, all cores."""
    reader_threads: int = 2
    """Threads that read patches ahead."""
    log_every: int = 10
    """Steps between two metric events."""
    save_every: int = 250
    """Steps between two checkpoints; one more is written at the end and on Ctrl-C."""

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "accumulate", "log_every", "save_every", "reader_threads"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be at least 1.")
        if self.batch_size % self.accumulate:
            raise ConfigError(
                f"batch_size {self.batch_size} cannot be worked through in {self.accumulate} equal parts; "
                "choose an accumulate that divides it."
            )
        for name in ("learning_rate", "max_gradient_norm"):
            check_positive(name, getattr(self, name))
        if self.seed < 0:
            raise ConfigError(f"seed is {self.seed}; it must be 0 or above.")
        if self.cpu_threads is not None and self.cpu_threads < 1:
            raise ConfigError(f"cpu_threads is {self.cpu_threads}; it must be at least 1, or unset for all cores.")

    @property
    def resolved_profile(self) -> Literal["paper", "quick"]:
        """The profile with auto decided."""
        if self.profile == "auto":
            return "quick" if self.steps < QUICK_BELOW_STEPS else "paper"
        return self.profile
