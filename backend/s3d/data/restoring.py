"""The way back: from logits on the working grid to labels and probabilities on the volume's native grid.

Logits are resampled, then the largest wins, then the crop is pasted into the full grid and the axes are turned back
(architecture, "Geometry"; method.md section 6.4).
"""

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from s3d.data.preprocessing import Placement
from s3d.data.resampling import axis_orders, resize


def restore_labels(logits_KZYX: Tensor, placement: Placement, label_values: Sequence[int]) -> np.ndarray:
    """Label values on the native grid; 0 outside the crop.

    logits: float (K, z, y, x) on the working grid; label_values: voxel value of each class, background (0) first.
    Returns uint8 where the values allow, else int32.
    """
    classes = _to_native_crop(logits_KZYX, placement).cpu().numpy().argmax(axis=0)
    kind = np.uint8 if min(label_values) >= 0 and max(label_values) <= 255 else np.int32
    values = np.asarray(label_values, dtype=kind)
    return _paste(values[classes], placement, np.zeros(placement.oriented_shape, dtype=kind))


def restore_probabilities(logits_KZYX: Tensor, placement: Placement) -> np.ndarray:
    """float32 (K, z, y, x) on the native grid: softmax after resampling; outside the crop background has 1."""
    probabilities = _to_native_crop(logits_KZYX, placement).softmax(dim=0).cpu().numpy()
    whole = np.zeros((len(probabilities), *placement.oriented_shape), dtype=np.float32)
    whole[0] = 1
    return _paste(probabilities, placement, whole)


def _to_native_crop(logits_KZYX: Tensor, placement: Placement) -> Tensor:
    """Linear, but nearest across a strongly anisotropic axis."""
    orders = axis_orders(placement.cropped_spacing_mm, placement.working_spacing_mm, order=1)
    return resize(logits_KZYX.float(), placement.cropped_shape, orders)


def _paste(cropped: np.ndarray, placement: Placement, whole: np.ndarray) -> np.ndarray:
    (z0, z1), (y0, y1), (x0, x1) = placement.crop
    whole[..., z0:z1, y0:y1, x0:x1] = cropped
    return np.ascontiguousarray(placement.axis_order.undo(whole))
