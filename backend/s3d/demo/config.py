"""Options of the verb `demo`. Torch-free."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from s3d.errors import ConfigError
from s3d.models.presets import Architecture, PresetName, preset


def data_from_environment() -> Path | None:
    """The folder named by S3D_DATA, if any."""
    named = os.environ.get("S3D_DATA")
    return Path(named) if named else None


@dataclass(frozen=True, kw_only=True)
class DemoConfig:
    """The whole job in minutes: pre-train, fine-tune beside training from scratch, segment, score, report."""

    data: Path | None = field(default_factory=data_from_environment)
    """Labelled dataset (MSD or nnU-Net raw layout); unset, S3D_DATA, else virtual subjects."""
    output: Path = Path("demo-output")
    """Folder for everything; the report is report.html in it. What is already finished there is not done again."""
    training_cases: int = 8
    """Labelled cases both networks train on."""
    test_cases: int = 12
    """Cases neither network ever sees, pre-training included; they give the scores."""
    unlabelled_cases: int = 60
    """At most so many cases, their labels unread, for pre-training; the training cases are among them."""
    pretraining_steps: int = 150
    """Optimiser steps of the pre-training; far fewer than the paper's 250,000."""
    finetuning_steps: int = 200
    """Optimiser steps of the fine-tuning, and as many from scratch."""
    preset: PresetName = "small"
    """Network by name."""
    patch_size: tuple[int, int, int] = (32, 48, 32)
    """Training patch (z, y, x) in voxels."""
    seed: int = 0
    """Decides the cases and everything random."""

    def __post_init__(self) -> None:
        for name in ("training_cases", "test_cases", "pretraining_steps", "finetuning_steps"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be at least 1.")
        if self.seed < 0:
            raise ConfigError(f"seed is {self.seed}; it must be 0 or above.")
        stride = self.network.total_stride
        if any(size < 2 * stride or size % stride for size in self.patch_size):
            raise ConfigError(
                f"patch_size {self.patch_size} does not suit this network: each axis must be a multiple of {stride}, "
                f"at least {2 * stride}."
            )
        if self.unlabelled_cases < self.training_cases:
            raise ConfigError(
                f"unlabelled_cases is {self.unlabelled_cases}; it must be at least training_cases "
                f"({self.training_cases})."
            )

    @property
    def network(self) -> Architecture:
        """The network's shape."""
        return preset(self.preset)
