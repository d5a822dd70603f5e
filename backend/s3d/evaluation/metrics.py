"""How well two masks agree: overlap, surfaces and volume (method.md section 9).

A mask is a bool array (z, y, x); spacing is in mm in the same order. NaN means "nothing to score", never "bad".
"""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch

from s3d.errors import GeometryError

Mask = np.ndarray


def dice(reference: Mask, prediction: Mask) -> float:
    """Overlap 2TP / (2TP + FP + FN), 0 to 1; NaN if both masks are empty, 0 if one is.

    Raises GeometryError if the shapes differ.
    """
    _check_shapes(reference, prediction)
    size = int(np.count_nonzero(reference)) + int(np.count_nonzero(prediction))
    return 2 * int(np.count_nonzero(reference & prediction)) / size if size else float("nan")


def surface_dice(reference: Mask, prediction: Mask, spacing_mm: Sequence[float], tolerance_mm: float = 1.0) -> float:
    """Share of both surfaces, by area, that lies within tolerance_mm of the other (NSD, Nikolov et al. 2021).

    0 to 1; NaN if both masks are empty, 0 if one is. Surface elements and their areas are DeepMind's (MONAI with
    use_subvoxels; a test holds it to 1e-6 against their surface-distance package), so a border voxel in a thick slice
    counts by the surface it carries; counting border voxels gives another number. Raises GeometryError if the shapes
    differ.
    """
    _check_shapes(reference, prediction)
    if not (reference.any() and prediction.any()):
        return 0.0 if reference.any() or prediction.any() else float("nan")
    # MONAI takes seconds to import; whoever only wants overlap, or the configuration, does not pay for it.
    from monai.metrics.surface_dice import compute_surface_dice

    with _quiet_monai():
        value = compute_surface_dice(
            *_as_batches(prediction, reference),
            [float(tolerance_mm)],
            include_background=True,
            spacing=[float(step) for step in spacing_mm],
            use_subvoxels=True,
        )
    return float(value.item())


def hausdorff_95(reference: Mask, prediction: Mask, spacing_mm: Sequence[float]) -> float:
    """95th percentile, in mm, of the distances between the two borders; the larger of the two directions.

    Borders are the outermost voxels of a mask, distances go between voxel centres (MONAI's definition). NaN if both
    masks are empty, infinite if one is. Raises GeometryError if the shapes differ.
    """
    _check_shapes(reference, prediction)
    if not (reference.any() and prediction.any()):
        return float("inf") if reference.any() or prediction.any() else float("nan")
    # As in surface_dice.
    from monai.metrics.hausdorff_distance import compute_hausdorff_distance

    with _quiet_monai():
        value = compute_hausdorff_distance(
            *_as_batches(prediction, reference),
            include_background=True,
            percentile=95,
            spacing=[float(step) for step in spacing_mm],
        )
    return float(value.item())


def volume_ml(mask: Mask, spacing_mm: Sequence[float]) -> float:
    """Volume of the mask in millilitres."""
    return float(np.count_nonzero(mask) * np.prod(spacing_mm, dtype=np.float64) / 1000)


def joint_box(first: Mask, second: Mask) -> tuple[slice, ...]:
    """The smallest box that holds both masks, at least one of them not empty. Outside it nothing is measured."""
    either = first | second
    ranges = []
    for axis in range(either.ndim):
        others = tuple(other for other in range(either.ndim) if other != axis)
        occupied = np.flatnonzero(either.any(axis=others))
        ranges.append(slice(int(occupied[0]), int(occupied[-1]) + 1))
    return tuple(ranges)


def _as_batches(prediction: Mask, reference: Mask) -> tuple[torch.Tensor, torch.Tensor]:
    """Both masks as (1, 1, z, y, x), cropped: MONAI crops too, but only after full-size copies (10-40 times slower)."""
    box = joint_box(prediction, reference)
    cropped = (torch.from_numpy(np.ascontiguousarray(mask[box]))[None, None] for mask in (prediction, reference))
    first, second = cropped
    return first, second


@contextmanager
def _quiet_monai() -> Iterator[None]:
    """MONAI 1.6 warns about an argument that it passes to itself; any other warning still gets through."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*always_return_as_numpy", category=FutureWarning)
        yield


def _check_shapes(reference: Mask, prediction: Mask) -> None:
    if reference.shape != prediction.shape:
        raise GeometryError(
            f"The reference has {reference.shape} voxels, the prediction {prediction.shape}; "
            "only masks on the same grid can be compared."
        )
