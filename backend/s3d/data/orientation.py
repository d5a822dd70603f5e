"""Turning arrays to LPS and back by permuting and flipping axes: no resampling, nothing lost."""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from s3d.data.image_files import Grid

Array = TypeVar("Array", np.ndarray, Tensor)

_Z, _Y, _X = 0, 1, 2


@dataclass(frozen=True)
class AxisOrder:
    """How (z, y, x) axes are rearranged: permuted first, then flipped."""

    permutation: tuple[int, int, int] = (_Z, _Y, _X)
    """Which old axis each new axis is."""
    flips: tuple[bool, bool, bool] = (False, False, False)
    """Which new axes run the other way."""

    def apply(self, array: Array) -> Array:
        """array: (..., z, y, x), any leading axes. Returns a view (of a tensor: a copy where axes are flipped)."""
        return _flip(_permute(array, self.permutation), self.flips)

    def undo(self, array: Array) -> Array:
        """The inverse of apply."""
        z, y, x = (self.permutation.index(axis) for axis in (_Z, _Y, _X))
        return _permute(_flip(array, self.flips), (z, y, x))


def axis_order_to_lps(grid: Grid) -> AxisOrder:
    """The order that makes x run to the patient's left, y to posterior, z to superior, as nearly as axes can.

    An oblique grid takes the assignment whose axes lie nearest, all three together.
    """
    columns = np.reshape(grid.direction, (3, 3))  # column i is where array axis x, y, z (i = 0, 1, 2) points in LPS
    physical, axis = linear_sum_assignment(-np.abs(columns))
    old_of = {2 - p: 2 - a for p, a in zip(physical.tolist(), axis.tolist(), strict=True)}
    flips = tuple(bool(columns[2 - new, 2 - old_of[new]] < 0) for new in (_Z, _Y, _X))
    return AxisOrder((old_of[_Z], old_of[_Y], old_of[_X]), (flips[0], flips[1], flips[2]))


def reorient_grid(grid: Grid, order: AxisOrder) -> Grid:
    """Where the voxels lie after order.apply: the same places, counted differently."""
    columns = np.reshape(grid.direction, (3, 3))
    shape = [grid.shape[axis] for axis in order.permutation]
    spacing = [grid.spacing_mm[axis] for axis in order.permutation]
    steps = np.stack([columns[:, 2 - axis] for axis in order.permutation])  # (new axis z, y, x; LPS)
    origin = np.array(grid.origin_mm)
    for axis, flipped in enumerate(order.flips):
        if flipped:
            origin = origin + steps[axis] * spacing[axis] * (shape[axis] - 1)
            steps[axis] = -steps[axis]
    direction = tuple(float(value) for value in steps[::-1].T.reshape(-1))
    return Grid(
        shape=(shape[0], shape[1], shape[2]),
        spacing_mm=(spacing[0], spacing[1], spacing[2]),
        origin_mm=(float(origin[0]), float(origin[1]), float(origin[2])),
        direction=direction,
    )


def _permute(array: Array, permutation: tuple[int, int, int]) -> Array:
    leading = tuple(range(array.ndim - 3))
    axes = leading + tuple(array.ndim - 3 + axis for axis in permutation)
    return array.permute(axes) if isinstance(array, Tensor) else array.transpose(axes)


def _flip(array: Array, flips: tuple[bool, bool, bool]) -> Array:
    axes = tuple(array.ndim - 3 + axis for axis, flipped in enumerate(flips) if flipped)
    if not axes:
        return array
    return array.flip(axes) if isinstance(array, Tensor) else np.flip(array, axes)
