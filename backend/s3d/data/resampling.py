"""Resizing volumes by one matrix per axis.

A spline resize along an axis is linear in its input, so it is a matrix: what scipy.ndimage.zoom makes of the identity.
Three matrix products give the official pipeline's result (cubic, edge-aligned, clipped) several times faster than
scipy does, on any device (performance notes, section 4).
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

Triple = tuple[int, int, int]
STRONG_ANISOTROPY = 3.0
"""Largest over smallest spacing above which the coarse axis is resized by nearest neighbour (method.md section 5)."""


def resize(array_CZYX: Tensor, shape: Triple, orders: Triple, clip: bool = True) -> Tensor:
    """Resize to shape (z, y, x), voxel edges aligned; orders: spline order of each axis, 3 cubic, 1 linear, 0 nearest.

    array: (C, Z, Y, X), computed in its floating type. clip: keep each channel within its own old range, which cubic
    splines overshoot.
    """
    if tuple(array_CZYX.shape[1:]) == tuple(shape):
        return array_CZYX
    resized = array_CZYX
    for axis in range(3):
        resized = _resize_axis(resized, axis + 1, shape[axis], orders[axis])
    if clip and 3 in orders:
        low = array_CZYX.amin(dim=(1, 2, 3), keepdim=True)
        high = array_CZYX.amax(dim=(1, 2, 3), keepdim=True)
        resized = resized.clamp(low, high)
    return resized


def resampled_shape(shape: Triple, spacing_mm: Sequence[float], new_spacing_mm: Sequence[float]) -> Triple:
    """Voxels on the new grid, at least 1 per axis (method.md section 5)."""
    z, y, x = (
        max(1, round(size * old / new)) for size, old, new in zip(shape, spacing_mm, new_spacing_mm, strict=True)
    )
    return z, y, x


def axis_orders(spacing_mm: Sequence[float], new_spacing_mm: Sequence[float], order: int) -> Triple:
    """order for every axis, but 0 along the coarsest where the old grid (else the new one) is strongly anisotropic."""
    for spacing in (spacing_mm, new_spacing_mm):
        if max(spacing) / min(spacing) > STRONG_ANISOTROPY:
            coarse = int(np.argmax(spacing))
            z, y, x = (0 if axis == coarse else order for axis in range(3))
            return z, y, x
    return order, order, order


def _resize_axis(array: Tensor, axis: int, size: int, order: int) -> Tensor:
    old = array.shape[axis]
    if old == size:
        return array
    if order == 0:
        return array.index_select(axis, torch.from_numpy(_nearest(old, size)).to(array.device))
    matrix = torch.from_numpy(_spline_matrix(old, size, order)).to(array.device, array.dtype)
    if axis == 3:
        return array @ matrix.T
    if axis == 2:
        return matrix @ array
    channels, _, height, width = array.shape
    return (matrix @ array.flatten(2)).reshape(channels, size, height, width)


@lru_cache(maxsize=64)
def _spline_matrix(old: int, new: int, order: int) -> np.ndarray:
    """float64 (new, old): the resize of a line of `old` values to `new`."""
    if old == 1:
        return np.ones((new, 1))
    identity = np.eye(old)
    matrix: np.ndarray = ndimage.zoom(identity, (new / old, 1), order=order, mode="nearest", grid_mode=True)
    return matrix


@lru_cache(maxsize=64)
def _nearest(old: int, new: int) -> np.ndarray:
    """int64 (new,): the old voxel whose centre is nearest to each new one's."""
    centres = (np.arange(new) + 0.5) * old / new - 0.5
    return np.clip(np.rint(centres), 0, old - 1).astype(np.int64)
