"""Noise, blur, brightness, contrast, low resolution and gamma, in nnU-Net's order (method.md section 6.4).

A transform whose parameter is neutral is skipped, so those voxels stay bit-equal. Channels are worked on one by one:
most get one or two of the seven transforms, and the sums (mean, deviation) of a channel then never depend on what else
is in the batch, so any share of a batch sees the same bits.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

from s3d.data.augmentation import ChannelParameters, IntensityParameters

_BLUR_REACH_SIGMAS = 3
_SMALLEST_SPAN = 1e-7


def apply_intensity(image_CZYX: Tensor, parameters: IntensityParameters) -> Tensor:
    """The image with its intensities changed, float32 (channel, z, y, x); the input is left as it is.

    The noise field is drawn on the CPU, so that it does not depend on the device.
    """
    if parameters.noise_deviation:
        random = torch.Generator().manual_seed(parameters.noise_seed)
        field_ZYX = torch.randn(image_CZYX.shape[1:], generator=random).to(image_CZYX.device)
        image_CZYX = image_CZYX + parameters.noise_deviation * field_ZYX
    untouched = ChannelParameters()
    if all(channel == untouched for channel in parameters.channels):
        return image_CZYX
    changed = [_change_channel(*pair) for pair in zip(image_CZYX, parameters.channels, strict=True)]
    return torch.stack(changed)


def _change_channel(volume_ZYX: Tensor, parameters: ChannelParameters) -> Tensor:
    if any(parameters.blur_sigma_voxels):
        volume_ZYX = blur(volume_ZYX, parameters.blur_sigma_voxels)
    if parameters.brightness != 1:
        volume_ZYX = volume_ZYX * parameters.brightness
    if parameters.contrast != 1:
        volume_ZYX = change_contrast(volume_ZYX, parameters.contrast)
    if parameters.resolution != 1:
        volume_ZYX = lower_resolution(volume_ZYX, parameters.resolution)
    if parameters.inverted_gamma != 1:
        volume_ZYX = -bend(-volume_ZYX, parameters.inverted_gamma)
    if parameters.gamma != 1:
        volume_ZYX = bend(volume_ZYX, parameters.gamma)
    return volume_ZYX


def blur(volume_ZYX: Tensor, sigma_voxels: tuple[float, float, float]) -> Tensor:
    """Gaussian blur, cut off at three sigma, edge voxels repeated outside.

    Sums of shifted copies: at 96^3 on one CPU thread 6 ms, against 16 ms of a convolution per axis.
    """
    for axis, sigma in enumerate(sigma_voxels):
        if sigma > 0:
            volume_ZYX = _blur_along(volume_ZYX, axis, sigma)
    return volume_ZYX


def _blur_along(volume_ZYX: Tensor, axis: int, sigma: float) -> Tensor:
    radius = math.ceil(_BLUR_REACH_SIGMAS * sigma)
    weights = [math.exp(-0.5 * (offset / sigma) ** 2) for offset in range(-radius, radius + 1)]
    total, size = sum(weights), volume_ZYX.shape[axis]
    margins = [0] * 6
    margins[4 - 2 * axis] = margins[5 - 2 * axis] = radius
    padded = functional.pad(volume_ZYX[None], margins, mode="replicate")[0]
    blurred = padded.narrow(axis, 0, size) * (weights[0] / total)
    for offset, weight in enumerate(weights[1:], start=1):
        blurred.add_(padded.narrow(axis, offset, size), alpha=weight / total)
    return blurred


def change_contrast(volume_ZYX: Tensor, factor: float) -> Tensor:
    """Distances from the mean times factor, cut off at the old minimum and maximum."""
    lowest, highest = volume_ZYX.aminmax()
    return torch.lerp(volume_ZYX.mean(), volume_ZYX, factor).clamp(lowest, highest)


def lower_resolution(volume_ZYX: Tensor, share: float) -> Tensor:
    """Keep a share of the voxels along each axis (nearest), then interpolate linearly back to the old shape."""
    coarse = [max(1, round(size * share)) for size in volume_ZYX.shape]
    kept = functional.interpolate(volume_ZYX[None, None], size=coarse, mode="nearest-exact")
    return functional.interpolate(kept, size=volume_ZYX.shape, mode="trilinear", align_corners=False)[0, 0]


def bend(volume_ZYX: Tensor, exponent: float) -> Tensor:
    """Gamma curve over the volume's own range; mean and deviation are restored."""
    lowest, highest = volume_ZYX.aminmax()
    mean, deviation = volume_ZYX.mean(), volume_ZYX.std()
    bent = ((volume_ZYX - lowest) / (highest - lowest).clamp(min=_SMALLEST_SPAN)) ** exponent
    return (bent - bent.mean()) * (deviation / bent.std().clamp(min=_SMALLEST_SPAN)) + mean
