"""Turning arrays to LPS and back by permuting and flipping axes: no resampling, nothing lost."""

from dataclasses import dataclass
from itertools import permutations
from typing import TypeVar

import numpy as np
from torch import Tensor

from s3d.data.grid import Grid

Array = TypeVar("Array", np.ndarray, Tensor)

_Z, _Y, _X = 0, 1, 2
_DIGITS = 4
"""Cosines that differ less count as equal; headers keep about six."""


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

    An oblique grid takes the assignment whose axes lie nearest, all three together. Where two are equally near (turned
    by exactly 45 degrees) the axes' places in the patient decide, never their places in the file: however a head is
    stored, it is turned to the same array.
    """
    orders = (_facing_lps(grid, permutation) for permutation in permutations((_Z, _Y, _X)))
    return max(orders, key=lambda order: _nearness(grid, order))


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


def _facing_lps(grid: Grid, permutation: tuple[int, ...]) -> AxisOrder:
    """permutation with the flips that turn each axis the nearer way."""
    columns = np.reshape(grid.direction, (3, 3))
    z, y, x = permutation
    flips = [bool(columns[2 - new, 2 - old] < 0) for new, old in enumerate(permutation)]
    return AxisOrder((z, y, x), (flips[0], flips[1], flips[2]))


def _nearness(grid: Grid, order: AxisOrder) -> tuple[float, ...]:
    """Sum of the cosines between the turned axes and LPS; then the turned axes themselves, to decide between equals."""
    turned = np.reshape(reorient_grid(grid, order).direction, (3, 3))
    return tuple(np.round([np.trace(turned), *turned.flat], _DIGITS).tolist())


def _permute(array: Array, permutation: tuple[int, int, int]) -> Array:
    leading = tuple(range(array.ndim - 3))
    axes = leading + tuple(array.ndim - 3 + axis for axis in permutation)
    return array.permute(axes) if isinstance(array, Tensor) else array.transpose(axes)


def _flip(array: Array, flips: tuple[bool, bool, bool]) -> Array:
    axes = tuple(array.ndim - 3 + axis for axis, flipped in enumerate(flips) if flipped)
    if not axes:
        return array
    return array.flip(axes) if isinstance(array, Tensor) else np.flip(array, axes)
