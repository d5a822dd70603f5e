"""The way back: from logits on the working grid to labels and probabilities on the volume's native grid.

Logits are resampled, then the largest wins, then the crop is pasted into the full grid and the axes are turned back
(architecture.md, Geometry; method.md section 6.4).
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from s3d.data.preprocessing import Placement
from s3d.data.resampling import axis_orders, resize
from s3d.errors import GeometryError, LabelError


def restore_labels(logits_KZYX: Tensor, placement: Placement, label_values: Sequence[int]) -> np.ndarray:
    """Label values on the native grid; 0 outside the crop.

    logits: float (K, z, y, x) on the working grid; label_values: voxel value of each class, background (0) first.
    Returns uint8 where the values allow, else int32. One class at a time is on the native grid, so that many labels on
    a fine grid need little memory. Raises LabelError, GeometryError if values or shape do not fit.
    """
    if len(label_values) != len(logits_KZYX):
        raise LabelError(f"{len(logits_KZYX)} classes were computed, but {len(label_values)} label values are given.")
    _check_shape(logits_KZYX, placement)
    largest = _to_native_crop(logits_KZYX[:1], placement)[0].clone()
    classes = torch.zeros(largest.shape, dtype=torch.int32, device=largest.device)
    for number in range(1, len(logits_KZYX)):
        candidate = _to_native_crop(logits_KZYX[number : number + 1], placement)[0]
        classes[candidate > largest] = number
        torch.maximum(largest, candidate, out=largest)
    kind = np.uint8 if min(label_values) >= 0 and max(label_values) <= 255 else np.int32
    native = np.zeros(placement.native_grid.shape, dtype=kind)
    _crop_of(native, placement)[...] = np.asarray(label_values, dtype=kind)[classes.cpu().numpy()]
    return native


def restore_probabilities(logits_KZYX: Tensor, placement: Placement) -> np.ndarray:
    """float32 (K, z, y, x) on the native grid: softmax after resampling; outside the crop background has 1."""
    _check_shape(logits_KZYX, placement)
    native = np.zeros((len(logits_KZYX), *placement.native_grid.shape), dtype=np.float32)
    native[0] = 1
    _crop_of(native, placement)[...] = _to_native_crop(logits_KZYX, placement).softmax(dim=0).cpu().numpy()
    return native


def _check_shape(logits_KZYX: Tensor, placement: Placement) -> None:
    if tuple(logits_KZYX.shape[1:]) != placement.working_shape:
        raise GeometryError(
            f"Logits of {tuple(logits_KZYX.shape[1:])} voxels do not fit the working grid of {placement.working_shape}."
        )


def _to_native_crop(logits_KZYX: Tensor, placement: Placement) -> Tensor:
    """Linear, but nearest across a strongly anisotropic axis."""
    orders = axis_orders(placement.cropped_spacing_mm, placement.working_spacing_mm, order=1)
    return resize(logits_KZYX.float(), placement.cropped_shape, orders)


def _crop_of(native: np.ndarray, placement: Placement) -> np.ndarray:
    """The crop, its axes turned, as a view into a native array: what is written there needs no turning back."""
    (z0, z1), (y0, y1), (x0, x1) = placement.crop
    return placement.axis_order.apply(native)[..., z0:z1, y0:y1, x0:x1]
