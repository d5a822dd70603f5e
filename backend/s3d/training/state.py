"""Everything that changes during a training, as one value that can be written and read back."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from s3d.training.device import Device
from s3d.training.optimizers import AveragedWeights, Profile, make_optimizer
from s3d.training.schedules import Stage


@dataclass
class TrainingState:
    """Model, optimiser, averaged weights, loss scaler, and how far the run is."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    average: AveragedWeights | None
    scaler: torch.amp.GradScaler
    step: int = 0
    """Steps done."""
    skipped_in_a_row: int = 0
    """Steps without a finite loss and gradient since the last good one."""
    best_score: float | None = None
    """Best validation score so far, where the run validates."""
    best_weights: dict[str, Tensor] | None = None
    """Weights of that moment."""

    @classmethod
    def start(cls, model: nn.Module, profile: Profile, device: Device) -> "TrainingState":
        """A run at step 0; the model is moved to the device."""
        model.to(device.torch_device)
        return cls(
            model=model,
            optimizer=make_optimizer(profile, model.parameters()),
            average=None if profile.average_decay is None else AveragedWeights(model, profile.average_decay),
            scaler=torch.amp.GradScaler(device.torch_device.type, enabled=device.needs_scaler),
        )

    def enter(self, stage: Stage) -> None:
        """Freeze and free parameters as the stage says."""
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(stage.trains(name))
            parameter.grad = None
        if stage.fresh_optimizer:
            self.optimizer.state.clear()

    def result(self) -> dict[str, Tensor]:
        """The weights the run stands for: the best if it validates, else the average if there is one, else the last."""
        if self.best_weights is not None:
            return self.best_weights
        return self.current_weights()

    def current_weights(self) -> dict[str, Tensor]:
        """Averaged weights if the profile keeps them, else the model's; on the CPU, detached copies."""
        values = self.average.values if self.average is not None else dict(self.model.named_parameters())
        return {name: value.detach().cpu().clone() for name, value in values.items()}
