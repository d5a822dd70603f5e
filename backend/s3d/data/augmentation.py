"""What happens to a sample, drawn before anything is applied: a pure function of (seed, number).

spatial_augmentation.py and intensity_augmentation.py apply it. All numbers are drawn whether they are used or not, so
changing one probability leaves every other draw as it was.
"""

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from scipy.spatial.transform import Rotation

from s3d.data.augmentation_config import AugmentationConfig, Range
from s3d.data.sample_randomness import Stream, derived_seed, generator

Triple = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class SpatialParameters:
    """One affine transform about the patch's centre, then mirroring. The defaults change nothing."""

    rotation_rad: Triple = (0.0, 0.0, 0.0)
    """Angle about each axis (z, y, x), applied in this order."""
    scale: Triple = (1.0, 1.0, 1.0)
    """Image voxels per patch voxel along each axis of the image; above 1 zooms out."""
    mirror_axes: tuple[int, ...] = ()
    """Axes (0 z, 1 y, 2 x) turned round."""
    interpolation: Literal["linear", "cubic"] = "linear"
    """Of the image; labels and masks are always linear."""

    @property
    def interpolates(self) -> bool:
        """Whether voxels fall between voxels; if not, the patch is only cut out and mirrored."""
        return any(self.rotation_rad) or self.scale != (1.0, 1.0, 1.0)

    @property
    def matrix(self) -> np.ndarray:
        """float64 (3, 3): a voxel's offset (z, y, x) from the centre in the patch to that in the image."""
        rotation: np.ndarray = Rotation.from_euler("xyz", self.rotation_rad).as_matrix()
        matrix: np.ndarray = np.diag(self.scale) @ rotation
        return matrix


@dataclass(frozen=True, kw_only=True)
class ChannelParameters:
    """Intensity changes of one channel, in the order of use. The defaults change nothing."""

    blur_sigma_voxels: Triple = (0.0, 0.0, 0.0)
    """Width of the Gaussian along each axis."""
    brightness: float = 1.0
    """Factor of the intensities."""
    contrast: float = 1.0
    """Factor of their distance from the mean."""
    resolution: float = 1.0
    """Share of the voxels kept along each axis."""
    inverted_gamma: float = 1.0
    """Exponent of the curve through the negated image."""
    gamma: float = 1.0
    """Exponent of the curve through the image."""


@dataclass(frozen=True, kw_only=True)
class IntensityParameters:
    """Intensity changes of one sample: noise first, then each channel on its own."""

    channels: tuple[ChannelParameters, ...]
    """One per channel."""
    noise_deviation: float = 0.0
    """Standard deviation of the noise that all channels share."""
    noise_seed: int = 0
    """Of the noise field."""


@dataclass(frozen=True)
class SampleParameters:
    """Everything that is done to one sample."""

    spatial: SpatialParameters
    intensity: IntensityParameters


def draw_parameters(config: AugmentationConfig, seed: int, number: int, channels: int = 1) -> SampleParameters:
    """The parameters of sample `number`; a draw costs about 0.15 ms.

    seed, number: 0 or above; channels: of the image.
    """
    return SampleParameters(_draw_spatial(config, seed, number), _draw_intensity(config, seed, number, channels))


def _draw_spatial(config: AugmentationConfig, seed: int, number: int) -> SpatialParameters:
    random = generator(seed, number, Stream.SPATIAL)
    rotates, scales, stretches = random.random(3) < (
        config.rotation_probability,
        config.scaling_probability,
        config.anisotropic_scaling_probability,
    )
    largest = math.radians(config.rotation_degrees)
    angles = random.uniform(-largest, largest, 3) * rotates
    common = _draw_factor(random, config.scaling_range)
    own = [_draw_factor(random, config.anisotropic_scaling_range) for _ in range(3)]
    factors = np.where(scales, common, 1.0) * np.where(stretches, own, 1.0)
    mirrored = random.random(3) < config.mirror_probability
    return SpatialParameters(
        rotation_rad=_triple(angles),
        scale=_triple(factors),
        mirror_axes=tuple(axis for axis in sorted(config.mirror_axes) if mirrored[axis]),
        interpolation=config.interpolation,
    )


class _Chosen(NamedTuple):
    """Which intensity transforms a sample gets."""

    noise: bool
    blur: bool
    brightness: bool
    contrast: bool
    low_resolution: bool
    inverted_gamma: bool
    gamma: bool


def _draw_intensity(config: AugmentationConfig, seed: int, number: int, channels: int) -> IntensityParameters:
    random = generator(seed, number, Stream.INTENSITY)
    chosen = _Chosen(*(random.random() < getattr(config, f"{name}_probability") for name in _Chosen._fields))
    deviation = random.uniform(*config.noise_deviation)
    return IntensityParameters(
        channels=tuple(_draw_channel(config, chosen, random) for _ in range(channels)),
        noise_deviation=deviation if chosen.noise else 0.0,
        noise_seed=derived_seed(seed, number, Stream.NOISE),
    )


def _draw_channel(config: AugmentationConfig, chosen: _Chosen, random: np.random.Generator) -> ChannelParameters:
    blurs, coarsens = random.random(2) < (config.blur_channel_probability, config.low_resolution_channel_probability)
    sigma = random.uniform(*config.blur_sigma_voxels, size=3)
    brightness = _draw_factor(random, config.brightness_range)
    contrast = _draw_factor(random, config.contrast_range)
    resolution = random.uniform(*config.low_resolution_range)
    inverted_gamma = _draw_factor(random, config.gamma_range)
    gamma = _draw_factor(random, config.gamma_range)
    return ChannelParameters(
        blur_sigma_voxels=_triple(sigma * (chosen.blur and blurs)),
        brightness=brightness if chosen.brightness else 1.0,
        contrast=contrast if chosen.contrast else 1.0,
        resolution=resolution if chosen.low_resolution and coarsens else 1.0,
        inverted_gamma=inverted_gamma if chosen.inverted_gamma else 1.0,
        gamma=gamma if chosen.gamma else 1.0,
    )


def _draw_factor(random: np.random.Generator, span: Range) -> float:
    """Below and above 1 equally often where the range holds 1, uniform on either side."""
    side, place = random.random(2)
    low, high = span
    if low < 1 < high:
        low, high = (low, 1.0) if side < 0.5 else (1.0, high)
    return float(low + place * (high - low))


def _triple(values: np.ndarray) -> Triple:
    z, y, x = (float(value) for value in values)
    return z, y, x
