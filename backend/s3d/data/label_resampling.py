"""Resizing label maps: each label's share of every new voxel is interpolated, the largest share wins.

A label with few voxels touches few new ones, so the shares are computed in its bounding box alone: a hundred labels
cost little more than one.
"""

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from s3d.data.resampling import Triple, axis_matrix

_Box = tuple[slice, slice, slice]


def resize_labels(labels_ZYX: np.ndarray, shape: Triple, orders: Triple) -> np.ndarray:
    """Labels on a grid of that shape, edges aligned, same values and type; orders: 1 or 0 along each axis.

    Of equal shares the larger value wins, background (0) loses to any: the official pipeline's rule for a voxel that is
    half one, half the other.
    """
    if labels_ZYX.shape == shape:
        return labels_ZYX
    values, numbers = _numbered(labels_ZYX)
    matrices = [axis_matrix(old, new, order) for old, new, order in zip(labels_ZYX.shape, shape, orders, strict=True)]
    largest, covered = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    result = np.zeros(shape, labels_ZYX.dtype)
    for number, old_box in enumerate(ndimage.find_objects(numbers), start=1):
        share, new_box = _share(numbers[old_box] == number, old_box, matrices)
        covered[new_box] += share
        wins = share >= np.maximum(largest[new_box], np.float32(np.finfo(np.float32).tiny))
        result[new_box][wins] = values[number]
        largest[new_box][wins] = share[wins]
    result[1 - covered > largest] = 0
    return result


def _numbered(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The values that occur, 0 first, the others ascending; and for each voxel the index of its value."""
    drawn = labels != 0
    foreground = labels[drawn]
    occurring = np.unique(foreground)
    numbers = np.zeros(labels.shape, np.int32)
    numbers[drawn] = np.searchsorted(occurring, foreground) + 1
    return np.concatenate([np.zeros(1, labels.dtype), occurring]), numbers


def _share(mask: np.ndarray, box: _Box, matrices: Sequence[np.ndarray]) -> tuple[np.ndarray, _Box]:
    """Share of the mask (which fills box) in each new voxel that it touches, and the box of these."""
    share = mask.astype(np.float32)
    new_box = []
    for axis, (matrix, place) in enumerate(zip(matrices, box, strict=True)):
        part = matrix[:, place]
        touched = np.flatnonzero(part.any(axis=1))
        rows = slice(int(touched[0]), int(touched[-1]) + 1) if touched.size else slice(0, 0)
        share = np.moveaxis(np.tensordot(part[rows].astype(np.float32), share, axes=(1, axis)), 0, axis)
        new_box.append(rows)
    return share, (new_box[0], new_box[1], new_box[2])
