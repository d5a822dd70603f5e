"""The two optimiser profiles, and the running average of weights that goes with the quick one."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class Profile:
    """An optimiser with everything that was tuned together."""

    name: Literal["paper", "quick"]
    pretraining_rate: float
    """Maximum learning rate of a pre-training."""
    scratch_rate: float
    """Maximum learning rate of a training from scratch."""
    transfer_rate: float
    """Maximum learning rate of a fine-tuning that starts from trained weights."""
    warm_up_steps: int
    """Linear warm-up where no other warm-up comes first."""
    average_decay: float | None
    """Decay of the averaged weights that become the result; none: the last weights are the result."""


PROFILES = {
    "paper": Profile(
        name="paper",
        pretraining_rate=1e-2,
        scratch_rate=1e-2,
        transfer_rate=1e-3,
        warm_up_steps=0,
        average_decay=None,
    ),
    "quick": Profile(
        name="quick",
        pretraining_rate=2e-3,
        scratch_rate=3e-3,
        transfer_rate=3e-3,
        warm_up_steps=50,
        average_decay=0.99,
    ),
}
"""paper: method.md sections 4 and 6; quick: measured, docs/decisions/optimiser-profiles.md."""


def make_optimizer(profile: Profile, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """SGD 0.99 Nesterov, weight decay 3e-5 (paper), or AdamW 0.9/0.99, 1e-2 (quick). The rate is set per step."""
    if profile.name == "paper":
        return torch.optim.SGD(parameters, lr=0.0, momentum=0.99, nesterov=True, weight_decay=3e-5)
    return torch.optim.AdamW(parameters, lr=0.0, betas=(0.9, 0.99), weight_decay=1e-2)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the rate of every parameter group."""
    for group in optimizer.param_groups:
        group["lr"] = rate


class AveragedWeights:
    """Exponential moving average of a model's parameters; short runs gain from it what a long decay would give."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.values = {name: value.detach().clone() for name, value in model.named_parameters()}
        self._updates = 0

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move towards the model's present weights; the first steps count fully, so that the start is forgotten."""
        self._updates += 1
        decay = min(self.decay, self._updates / (self._updates + 10))
        for name, value in model.named_parameters():
            self.values[name].lerp_(value.detach(), 1 - decay)

    def state(self) -> tuple[dict[str, Tensor], int]:
        """Everything a restart needs."""
        return self.values, self._updates

    def restore(self, values: dict[str, Tensor], updates: int) -> None:
        """Undo state(), in place."""
        for name, value in values.items():
            self.values[name].copy_(value)
        self._updates = updates
