"""Options of `s3d segment`. Torch-free."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from s3d.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class SegmentConfig:
    """Segment one case or a folder of cases with a model bundle."""

    model: Path
    """Model bundle (folder NAME.s3dmodel, or the same zipped)."""
    input: tuple[Path, ...]
    """One case: its file, or a file per channel in the model's order, or one 4-D file with all channels.
    Many cases: one folder, with CASE_0000.nii.gz, CASE_0001.nii.gz, ... per channel (nnU-Net) or a file per case."""
    output: Path
    """One case: the result's file (.nii.gz, .nii, .nrrd, .mha), or a folder. Many cases: a folder."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to compute; auto takes a GPU if there is one."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """auto: bf16 where the hardware has it, fp16 on older GPUs, else fp32."""
    step: float = 0.5
    """Distance of neighbouring windows as a share of the window, above 0 up to 1; smaller is slower and smoother."""
    mirror: bool = False
    """Average over mirrored copies along the axes the model allows: up to 8 times slower, seldom better."""
    probabilities: bool = False
    """Also write probabilities/CASE, one channel per label with background first."""
    allow_smaller_window: bool = False
    """Where memory is short, use a smaller window in the end. It changes the result; the result says so."""
    batch_size: int | None = None
    """Windows at a time; unset, one on the CPU and more where a GPU would be idle. It does not change the result."""

    def __post_init__(self) -> None:
        if not self.input:
            raise ConfigError("input is empty; give the image files of one case, or a folder.")
        if not 0 < self.step <= 1:
            raise ConfigError(f"step is {self.step}; it must be above 0 and at most 1 (0.5 is usual).")
        if self.batch_size is not None and self.batch_size < 1:
            raise ConfigError(f"batch_size is {self.batch_size}; it must be at least 1.")
