"""Rotation, scaling and mirroring of whole windows, on the device the voxels lie on.

A sample without rotation and scaling is cut out, never interpolated. The others read only the window their transform
reaches. Each sample is sampled by a call of its own: windows differ in size, and no sample may depend on its batch.
Only trilinear grid_sample is used (cubic is eight of them), because that is all Apple's MPS has in three dimensions.
"""

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import spline_filter1d
from torch import Tensor
from torch.nn import functional

from s3d.data.array_files import Box
from s3d.data.augmentation import SpatialParameters

_MARGIN_VOXELS = {"linear": 0, "cubic": 6}
"""Read beyond the outermost source voxel; a spline coefficient's reach falls by 0.27 per voxel, 4e-4 after six."""
_LABELS_AT_ONCE = 8
_HISTOGRAM_BINS = 2**16


@dataclass(frozen=True)
class Window:
    """The voxels of one sample: as read, or as transformed.

    image: float32 (channel, z, y, x); labels: int32 (z, y, x) or None; counted: bool (z, y, x), false where the loss
    must not look and outside the volume, or None where nothing is left out.
    """

    image: Tensor
    labels: Tensor | None = None
    counted: Tensor | None = None

    def to(self, device: torch.device | str) -> "Window":
        """The same on another device."""
        return self.map(lambda voxels: voxels.to(device))

    def map(self, change: Callable[[Tensor], Tensor]) -> "Window":
        """The same change made to image, labels and counted."""
        return Window(change(self.image), _changed(self.labels, change), _changed(self.counted, change))


def window_box(
    start: Sequence[int], patch_size: Sequence[int], shape: Sequence[int], parameters: SpatialParameters
) -> Box:
    """The box of voxels that a patch needs, (start, stop) along z, y, x; may reach outside the volume.

    start: first voxel of the patch, may be negative; shape: of the volume. Far outside, where all is 0, nothing is
    asked for, so a window is never much larger than the volume.
    """
    if not parameters.interpolates:
        return _box((first, first + size) for first, size in zip(start, patch_size, strict=True))
    margin = _MARGIN_VOXELS[parameters.interpolation]
    half = (np.asarray(patch_size) - 1) / 2
    reach = np.abs(parameters.matrix) @ half
    centre = np.asarray(start) + half
    first = np.floor(centre - reach).astype(int) - margin
    last = np.ceil(centre + reach).astype(int) + margin
    return _box(
        (max(int(low), -margin), min(int(high), size - 1 + margin) + 1)
        for low, high, size in zip(first, last, shape, strict=True)
    )


def apply_spatial(
    window: Window, box: Box, start: Sequence[int], patch_size: Sequence[int], parameters: SpatialParameters
) -> Window:
    """The patch: the window rotated and scaled about the patch's centre, then mirrored.

    window, box: what window_box asked for; start: first voxel of the patch before the transform. Outside the volume:
    image 0, label 0, not counted. Labels take the value with the largest interpolated share (nnU-Net's order 1),
    background where two are equal; every value present survives, ignore too.
    """
    if parameters.interpolates:
        window = _resampled(window, box, start, patch_size, parameters)
    if not parameters.mirror_axes:
        return window
    axes = [axis - 3 for axis in parameters.mirror_axes]
    return window.map(lambda voxels: voxels.flip(axes))


def _resampled(
    window: Window, box: Box, start: Sequence[int], patch_size: Sequence[int], parameters: SpatialParameters
) -> Window:
    points = _source_points(box, start, patch_size, parameters.matrix, window.image.device)
    sample = _sample_cubic if parameters.interpolation == "cubic" else _sample_linear
    return Window(
        image=sample(window.image, points),
        labels=None if window.labels is None else _sample_labels(window.labels, points),
        counted=None if window.counted is None else _sample_linear(window.counted[None].float(), points)[0] > 0.5,
    )


def _source_points(
    box: Box, start: Sequence[int], patch_size: Sequence[int], matrix: np.ndarray, device: torch.device
) -> list[Tensor]:
    """Where each patch voxel lies in the window: coordinates along z, y and x in window voxels, each (Z, Y, X)."""
    half = (np.asarray(patch_size) - 1) / 2
    centre = np.asarray(start) + half - [low for low, _ in box]
    offsets = [torch.arange(size, dtype=torch.float32, device=device) - (size - 1) / 2 for size in patch_size]
    z, y, x = offsets[0][:, None, None], offsets[1][:, None], offsets[2]
    rows = zip(matrix.tolist(), centre.tolist(), strict=True)
    return [row[0] * z + (row[1] * y + (row[2] * x + middle)) for row, middle in rows]


def _sample_linear(volume_CZYX: Tensor, points: Sequence[Tensor]) -> Tensor:
    """Trilinear values at the points; 0 outside the window."""
    grid = torch.empty(*points[0].shape, 3, device=volume_CZYX.device)
    sizes = volume_CZYX.shape[-3:]
    for place, coordinate, size in zip((2, 1, 0), points, sizes, strict=True):  # grid_sample wants x, y, z
        grid[..., place] = coordinate * (2 / size) + (1 - size) / size
    values: Tensor = functional.grid_sample(volume_CZYX[None], grid[None], padding_mode="zeros", align_corners=False)
    return values[0]


def _sample_cubic(volume_CZYX: Tensor, points: Sequence[Tensor]) -> Tensor:
    """Cubic B-spline values at the points (as scipy's order 3), from eight trilinear ones (Sigg and Hadwiger 2005)."""
    coefficients = _spline_coefficients(volume_CZYX)
    total = torch.zeros_like(volume_CZYX[:, :1, :1, :1])
    for corner in itertools.product(*(_linear_pairs(coordinate) for coordinate in points)):
        (z, weight_z), (y, weight_y), (x, weight_x) = corner
        total = total + weight_z * weight_y * weight_x * _sample_linear(coefficients, (z, y, x))
    return total


def _linear_pairs(coordinate: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Two (place, weight) whose weighted linear samples add up to the four taps of the cubic B-spline."""
    floor = coordinate.floor()
    t = coordinate - floor
    far_left = (1 - t) ** 3 / 6
    far_right = t**3 / 6
    left = far_left + (2 / 3 - t**2 + t**3 / 2)
    right = 1 - left
    return [(floor - far_left / left, left), (floor + 1 + far_right / right, right)]


def _spline_coefficients(volume_CZYX: Tensor) -> Tensor:
    """B-spline coefficients whose spline passes through the voxels; one small matrix per axis does it."""
    for axis in (1, 2, 3):
        unit = np.eye(volume_CZYX.shape[axis])
        matrix = torch.from_numpy(spline_filter1d(unit, order=3, axis=0, mode="mirror").astype(np.float32))
        product = torch.tensordot(matrix.to(volume_CZYX.device), volume_CZYX, dims=([1], [axis]))
        volume_CZYX = product.movedim(0, axis)
    return volume_CZYX.contiguous()


def _sample_labels(labels_ZYX: Tensor, points: Sequence[Tensor]) -> Tensor:
    """The label with the largest trilinear share at each point; what is left over to 1 is background's."""
    best = torch.zeros(points[0].shape, dtype=labels_ZYX.dtype, device=labels_ZYX.device)
    best_share = torch.zeros(points[0].shape, device=labels_ZYX.device)
    background = torch.ones_like(best_share)
    present = _present_labels(labels_ZYX)
    for first in range(0, len(present), _LABELS_AT_ONCE):
        values = present[first : first + _LABELS_AT_ONCE]
        shares = _sample_linear((labels_ZYX == values[:, None, None, None]).float(), points)
        background -= shares.sum(0)
        share, index = shares.max(0)
        best = torch.where(share > best_share, values[index], best)
        best_share = torch.maximum(share, best_share)
    return torch.where(best_share > background, best, 0)


def _present_labels(labels: Tensor) -> Tensor:
    """Values in ascending order without 0.

    By a histogram where values are near each other: sorting, as torch.unique does, takes four times as long.
    """
    lowest, highest = (int(value) for value in labels.aminmax())
    if highest - lowest < _HISTOGRAM_BINS:
        values = torch.bincount((labels - lowest).flatten()).nonzero().flatten() + lowest
    else:
        values = torch.unique(labels)
    return values[values != 0].to(labels.dtype)


def _changed(voxels: Tensor | None, change: Callable[[Tensor], Tensor]) -> Tensor | None:
    return None if voxels is None else change(voxels)


def _box(ranges: Iterable[tuple[int, int]]) -> Box:
    z, y, x = ranges
    return z, y, x
