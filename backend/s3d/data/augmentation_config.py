"""How training patches are varied: probabilities and ranges, and the values used by each verb. Torch-free.

Sources: method.md section 4 (pre-training) and 6.4 (fine-tuning: nnU-Net's list), evidence.md section 1 (quick).
"""

import dataclasses
from dataclasses import dataclass
from typing import Literal

from s3d.errors import ConfigError

Range = tuple[float, float]
"""Lowest and highest value."""


@dataclass(frozen=True, kw_only=True)
class AugmentationConfig:
    """All transforms in the order in which they are applied. Defaults: fine-tuning as in nnU-Net (method.md 6.4).

    A probability is per sample. Factors whose range holds 1 are drawn below 1 and above 1 equally often, uniformly on
    either side (as nnU-Net's factors); all other values uniformly over their range.
    """

    rotation_probability: float = 0.2
    """How often a sample is rotated."""
    rotation_degrees: float = 30.0
    """Largest angle; one angle per axis, uniform in +- this, all three at once."""
    scaling_probability: float = 0.2
    """How often a sample is scaled, by the same factor along each axis."""
    scaling_range: Range = (0.7, 1.4)
    """Voxels of the image per voxel of the patch: above 1 zooms out, structures get smaller."""
    anisotropic_scaling_probability: float = 0.0
    """How often each axis gets a factor of its own, on top of the common one (not in nnU-Net; evidence.md)."""
    anisotropic_scaling_range: Range = (0.88, 1.14)
    """As scaling_range, drawn anew for each axis (evidence.md)."""
    mirror_axes: tuple[int, ...] = (0, 1, 2)
    """Axes (0 z, 1 y, 2 x) that may be mirrored; left-right labels forbid theirs (architecture.md, Left and right)."""
    mirror_probability: float = 0.5
    """How often each of these axes is mirrored, independently."""
    interpolation: Literal["linear", "cubic"] = "linear"
    """Of images under rotation and scaling. nnU-Net fine-tunes with linear; pre-training used cubic B-splines."""
    noise_probability: float = 0.1
    """How often Gaussian noise is added, the same field to all channels."""
    noise_deviation: Range = (0.0, 0.1)
    """Standard deviation in units of the z-scored image. nnU-Net calls it variance but uses it as deviation."""
    blur_probability: float = 0.2
    """How often a sample is blurred by a Gaussian."""
    blur_channel_probability: float = 0.5
    """How often each channel of such a sample is."""
    blur_sigma_voxels: Range = (0.5, 1.0)
    """Width of the Gaussian, drawn per channel and axis."""
    brightness_probability: float = 0.15
    """How often intensities are multiplied by a factor."""
    brightness_range: Range = (0.75, 1.25)
    """That factor, drawn per channel."""
    contrast_probability: float = 0.15
    """How often the distance of intensities from their mean is multiplied, kept within the old minimum and maximum."""
    contrast_range: Range = (0.75, 1.25)
    """That factor, drawn per channel."""
    low_resolution_probability: float = 0.25
    """How often a coarser acquisition is imitated: nearest-neighbour down, linear up."""
    low_resolution_channel_probability: float = 0.5
    """How often each channel of such a sample is."""
    low_resolution_range: Range = (0.5, 1.0)
    """Voxels kept along each axis, as a share; drawn per channel."""
    inverted_gamma_probability: float = 0.1
    """How often a gamma curve is applied to the negated image."""
    gamma_probability: float = 0.3
    """How often a gamma curve is applied; mean and deviation are restored afterwards, in both cases."""
    gamma_range: Range = (0.7, 1.5)
    """Exponent, drawn per channel."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name.endswith("probability") and not 0 <= value <= 1:
                raise ConfigError(f"{field.name} is {value}; a probability lies between 0 and 1.")
            if field.name in _LOWEST and not _LOWEST[field.name] <= value[0] <= value[1]:
                raise ConfigError(
                    f"{field.name} is {value}; give the lowest value, at least {_LOWEST[field.name]}, then the highest."
                )
        if not 0 <= self.rotation_degrees <= 180:
            raise ConfigError(f"rotation_degrees is {self.rotation_degrees}; it lies between 0 and 180.")
        if self.low_resolution_range[1] > 1:
            raise ConfigError(f"low_resolution_range is {self.low_resolution_range}; a share is at most 1.")
        if len(set(self.mirror_axes)) != len(self.mirror_axes) or not set(self.mirror_axes) <= {0, 1, 2}:
            raise ConfigError(f"mirror_axes is {self.mirror_axes}; choose among 0 (z), 1 (y) and 2 (x), each once.")


_SMALLEST_FACTOR = 0.05
_LOWEST = {
    "scaling_range": _SMALLEST_FACTOR,
    "anisotropic_scaling_range": _SMALLEST_FACTOR,
    "noise_deviation": 0.0,
    "blur_sigma_voxels": _SMALLEST_FACTOR,
    "brightness_range": _SMALLEST_FACTOR,
    "contrast_range": _SMALLEST_FACTOR,
    "low_resolution_range": _SMALLEST_FACTOR,
    "gamma_range": _SMALLEST_FACTOR,
}

FINETUNING = AugmentationConfig()
"""nnU-Net's list (method.md section 6.4)."""

NONE = AugmentationConfig(
    rotation_probability=0,
    scaling_probability=0,
    mirror_axes=(),
    noise_probability=0,
    blur_probability=0,
    brightness_probability=0,
    contrast_probability=0,
    low_resolution_probability=0,
    inverted_gamma_probability=0,
    gamma_probability=0,
)
"""Patches as they are."""

PRETRAINING = dataclasses.replace(
    NONE, rotation_probability=0.2, scaling_probability=0.2, mirror_axes=(0, 1, 2), interpolation="cubic"
)
"""Rotation, scaling and mirroring, no intensities (method.md section 4)."""

QUICK = AugmentationConfig(
    rotation_probability=0.3,
    scaling_probability=0.3,
    scaling_range=(0.75, 1.3),
    anisotropic_scaling_probability=0.3,
    mirror_axes=(2,),
    blur_probability=0.18,
    blur_channel_probability=1.0,
    low_resolution_probability=0.18,
    low_resolution_channel_probability=1.0,
)
"""The recipe measured on two CPU cores for runs of minutes (evidence.md section 1); mirrors left-right only."""
