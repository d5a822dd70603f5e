"""Resizing volumes axis by axis: cubic by matrices, linear by torch, nearest by picking.

A spline resize along an axis is linear in its input, so it is a matrix: what scipy.ndimage.zoom makes of the identity.
Three matrix products give the official pipeline's result (cubic, edge-aligned, clipped) several times faster than
scipy does, on any device (docs/evidence.md section 4).
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

Triple = tuple[int, int, int]
STRONG_ANISOTROPY = 3.0
"""Largest over smallest spacing above which the coarse axis is resized by nearest neighbour (method.md section 5)."""
_CUBIC, _LINEAR, _NEAREST = 3, 1, 0


def resize(array_CZYX: Tensor, shape: Triple, orders: Triple, clip: bool = True) -> Tensor:
    """Resize to shape (z, y, x), voxel edges aligned; orders: spline order of each axis, 3 cubic, 1 linear, 0 nearest.

    array: (C, Z, Y, X), computed in its floating type; may itself be returned. clip: keep each channel within its own
    old range, which cubic splines overshoot; within that of each slice where slices are not mixed (order 0), as the
    official pipeline does.
    """
    sizes = array_CZYX.shape[1:]
    changed = [axis for axis in range(3) if sizes[axis] != shape[axis]]
    cubic = [axis for axis in changed if orders[axis] == _CUBIC]
    linear = [axis for axis in changed if orders[axis] == _LINEAR]
    resized = _resize_cubic(array_CZYX, shape, cubic) if cubic else array_CZYX
    if cubic and clip:
        mixed = [axis + 1 for axis in range(3) if orders[axis] == _CUBIC]
        resized.clamp_(array_CZYX.amin(dim=mixed, keepdim=True), array_CZYX.amax(dim=mixed, keepdim=True))
    if linear:
        target = [shape[axis] if axis in linear else resized.shape[axis + 1] for axis in range(3)]
        resized = functional.interpolate(resized[None], size=target, mode="trilinear", align_corners=False)[0]
    for axis in changed:
        if orders[axis] == _NEAREST:
            picked = torch.from_numpy(_nearest(sizes[axis], shape[axis])).to(resized.device)
            resized = resized.index_select(axis + 1, picked)
    return resized


def resampled_shape(shape: Triple, spacing_mm: Sequence[float], new_spacing_mm: Sequence[float]) -> Triple:
    """Voxels on the new grid, at least 1 per axis (method.md section 5)."""
    z, y, x = (
        max(1, round(size * old / new)) for size, old, new in zip(shape, spacing_mm, new_spacing_mm, strict=True)
    )
    return z, y, x


def axis_orders(spacing_mm: Sequence[float], new_spacing_mm: Sequence[float], order: int) -> Triple:
    """order for every axis, but 0 along the coarsest where the old grid (else the new one) is strongly anisotropic.

    Two equally coarse axes (thin in one direction only) are both resized with order, as in the official pipeline.
    """
    for spacing in (spacing_mm, new_spacing_mm):
        if max(spacing) / min(spacing) > STRONG_ANISOTROPY:
            coarse = [axis for axis in range(3) if spacing[axis] == max(spacing)]
            z, y, x = (_NEAREST if coarse == [axis] else order for axis in range(3))
            return z, y, x
    return order, order, order


@lru_cache(maxsize=64)
def axis_matrix(old: int, new: int, order: int) -> np.ndarray:
    """float64 (new, old): the resize of a line of `old` values to `new`. Shared: not to be written to."""
    if old == 1:
        return np.ones((new, 1))
    matrix: np.ndarray = ndimage.zoom(np.eye(old), (new / old, 1), order=order, mode="nearest", grid_mode=True)
    matrix.flags.writeable = False
    return matrix


def _resize_cubic(array_CZYX: Tensor, shape: Triple, axes: Sequence[int]) -> Tensor:
    """The axis that shrinks most (or grows least) comes first: less work for the others."""
    resized = array_CZYX
    for axis in sorted(axes, key=lambda axis: shape[axis] / array_CZYX.shape[axis + 1]):
        matrix = axis_matrix(array_CZYX.shape[axis + 1], shape[axis], _CUBIC)
        resized = _multiply(torch.tensor(matrix, dtype=resized.dtype, device=resized.device), resized, axis + 1)
    return resized


def _multiply(matrix: Tensor, array: Tensor, axis: int) -> Tensor:
    """matrix applied along an axis, the result contiguous."""
    if axis == array.ndim - 1:
        return array @ matrix.T
    before, after = array.shape[:axis], array.shape[axis + 1 :]
    lines = array.reshape(before.numel(), array.shape[axis], after.numel())
    return (matrix @ lines).reshape(*before, len(matrix), *after)


@lru_cache(maxsize=64)
def _nearest(old: int, new: int) -> np.ndarray:
    """int64 (new,): the old voxel whose centre is nearest to each new one's, the later of two equally near."""
    centres = (np.arange(new) + 0.5) * old / new - 0.5
    return np.clip(np.floor(centres + 0.5), 0, old - 1).astype(np.int64)
