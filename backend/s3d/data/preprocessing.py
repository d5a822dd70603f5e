"""From a volume as stored to what the network sees: orient, crop, z-score, resample (method.md section 5).

Order and interpolation are those of the official pipeline; docs/decisions/preprocessing.md says where we differ.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from s3d.data.grid import Grid, Volume
from s3d.data.label_resampling import resize_labels
from s3d.data.orientation import AxisOrder, axis_order_to_lps, reorient_grid
from s3d.data.resampling import Triple, axis_orders, resampled_shape, resize
from s3d.errors import ConfigError, GeometryError, ImageError, LabelError

Crop = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
"""Start and stop along each axis."""
_MOST_VOXELS = 2**30
"""Of a working grid: a metre along each axis at 1 mm. More means a spacing in another unit."""


@dataclass(frozen=True, kw_only=True)
class PreprocessingPlan:
    """What is done to every volume; kept in stores and bundles."""

    orientation: Literal["LPS", "as_stored"] = "LPS"
    """Axes turned to LPS, or left as they are."""
    spacing_mm: tuple[float, float, float] | None = (1.0, 1.0, 1.0)
    """Working grid (z, y, x); none keeps the volume's own."""
    normalization: Literal["zscore", "none"] = "zscore"
    """Mean 0 and deviation 1 over the cropped volume, each channel by itself."""

    def __post_init__(self) -> None:
        if self.spacing_mm is not None and not all(0 < value < math.inf for value in self.spacing_mm):
            raise ConfigError(f"spacing_mm is {self.spacing_mm}; each value must be above 0.")


@dataclass(frozen=True)
class Placement:
    """Where the working grid lies within the native one: all that is needed to go back."""

    native_grid: Grid
    axis_order: AxisOrder
    oriented_shape: Triple
    """The whole volume, axes turned."""
    crop: Crop
    """The part that was kept, in oriented voxels."""
    cropped_spacing_mm: tuple[float, float, float]
    """Oriented (z, y, x)."""
    working_shape: Triple
    working_spacing_mm: tuple[float, float, float]

    @property
    def cropped_shape(self) -> Triple:
        """Voxels of the crop (z, y, x)."""
        (z0, z1), (y0, y1), (x0, x1) = self.crop
        return z1 - z0, y1 - y0, x1 - x0


def preprocess_image(volume: Volume, plan: PreprocessingPlan) -> tuple[np.ndarray, Placement]:
    """float32 (channel, z, y, x) on the working grid, and the way back; volume is left as it is.

    Raises GeometryError if the image would be absurdly large on the working grid, ImageError as zscore does.
    """
    order = axis_order_to_lps(volume.grid) if plan.orientation == "LPS" else AxisOrder()
    oriented = order.apply(volume.voxels)
    grid = reorient_grid(volume.grid, order)
    crop = nonzero_box(oriented)
    spacing = plan.spacing_mm or grid.spacing_mm
    # A copy of its own, in one memory order: the 48 ways to store a head then give the same sums to the last bit.
    cropped = np.array(_cut(oriented, crop), dtype=np.float32, order="C")
    depth, height, width = cropped.shape[1:]
    placement = Placement(
        native_grid=volume.grid,
        axis_order=order,
        oriented_shape=grid.shape,
        crop=crop,
        cropped_spacing_mm=grid.spacing_mm,
        working_shape=resampled_shape((depth, height, width), grid.spacing_mm, spacing),
        working_spacing_mm=spacing,
    )
    _check_size(placement)
    if plan.normalization == "zscore":
        zscore(cropped)
    orders = axis_orders(grid.spacing_mm, spacing, order=3)
    resized = resize(torch.from_numpy(cropped), placement.working_shape, orders)
    return np.ascontiguousarray(resized.numpy()), placement


def preprocess_labels(labels_ZYX: np.ndarray, placement: Placement) -> np.ndarray:
    """int32 (z, y, x) on the working grid, the same label values: each label is resampled linearly, the largest wins.

    Raises GeometryError if the labels are not on the image's native grid, LabelError for a value beyond 32 bits.
    """
    cropped = _to_crop(labels_ZYX, placement)
    low, high, limits = int(cropped.min()), int(cropped.max()), np.iinfo(np.int32)
    if low < limits.min or high > limits.max:
        raise LabelError(
            f"The labels hold values from {low} to {high}; only what fits into 32 bits can be stored. Renumber them."
        )
    orders = axis_orders(placement.cropped_spacing_mm, placement.working_spacing_mm, order=1)
    return resize_labels(np.array(cropped, dtype=np.int32, order="C"), placement.working_shape, orders)


def preprocess_mask(mask_ZYX: np.ndarray, placement: Placement) -> np.ndarray:
    """bool (z, y, x) on the working grid, from anything that is true inside (anonymisation, anatomy)."""
    return preprocess_labels((mask_ZYX != 0).astype(np.int32), placement).astype(np.bool_)


def nonzero_box(voxels_CZYX: np.ndarray) -> Crop:
    """The smallest box around the voxels that are not 0 in some channel; the whole volume if there are none."""
    content = (voxels_CZYX != 0).any(axis=0)
    box = []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        places = np.flatnonzero(content.any(axis=others))
        box.append((int(places[0]), int(places[-1]) + 1) if places.size else (0, content.shape[axis]))
    return box[0], box[1], box[2]


def zscore(voxels_CZYX: np.ndarray) -> None:
    """Mean 0 and deviation 1 of each channel over the whole box (the official pipeline masks nothing), in place.

    Raises ImageError naming the channel if it has one value everywhere or values too far apart for single precision.
    """
    for number, channel in enumerate(voxels_CZYX):
        lowest, highest = float(channel.min()), float(channel.max())
        if lowest == highest:
            raise ImageError(
                f"Channel {number} has the value {highest:g} everywhere between the image's empty borders: it shows "
                "nothing. Leave it out."
            )
        with np.errstate(over="ignore"):
            channel -= channel.mean(dtype=np.float64)
        squares = sum(float(np.square(plane, dtype=np.float64).sum()) for plane in channel)
        if not math.isfinite(squares):
            raise ImageError(
                f"Channel {number} holds values from {lowest:g} to {highest:g}, too far apart to compute with. "
                "Export the image again with its true intensities."
            )
        channel /= math.sqrt(squares / channel.size)


def _check_size(placement: Placement) -> None:
    if math.prod(placement.working_shape) > _MOST_VOXELS:
        extent = [n * s for n, s in zip(placement.cropped_shape, placement.cropped_spacing_mm, strict=True)]
        raise GeometryError(
            f"The image is {' x '.join(f'{size:.4g}' for size in extent)} mm large by its header, too large for a grid "
            f"of {placement.working_spacing_mm} mm. Check its spacing: it may be in another unit."
        )


def _to_crop(array_ZYX: np.ndarray, placement: Placement) -> np.ndarray:
    if array_ZYX.shape != placement.native_grid.shape:
        raise GeometryError(
            f"Labels or mask of {array_ZYX.shape} voxels do not fit their image of {placement.native_grid.shape}; "
            "draw or export them on the image's own grid."
        )
    return _cut(placement.axis_order.apply(array_ZYX), placement.crop)


def _cut(array: np.ndarray, crop: Sequence[tuple[int, int]]) -> np.ndarray:
    (z0, z1), (y0, y1), (x0, x1) = crop
    return array[..., z0:z1, y0:y1, x0:x1]
