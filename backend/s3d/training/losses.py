"""Losses as ratios of sums over all processes (see distributed.py), computed in float32 or better."""

import torch
from torch import Tensor
from torch.nn import functional

from s3d.errors import LabelError
from s3d.training.distributed import sum_over_processes

DICE_SMOOTHING = 1e-5


def masked_squared_error(reconstruction: Tensor, target: Tensor, counted: Tensor) -> Tensor:
    """Mean squared error over the voxels where counted is true, pooled over the batch (paper section 4, method.md 4).

    reconstruction, target: (B, 1, Z, Y, X); counted: bool, same shape. A batch without a counted voxel gives 0.
    """
    squared = (_at_least_float32(reconstruction) - _at_least_float32(target)).square() * counted
    total = sum_over_processes(squared.sum())
    count = sum_over_processes(counted.sum().to(total.dtype))
    return total / count.clamp(min=1)


def dice_and_cross_entropy(logits: Tensor, classes: Tensor, ignored: Tensor | None = None) -> Tensor:
    """Cross-entropy plus soft Dice loss, 1:1 (nnU-Net; method.md section 6.4): the range is 0 upwards.

    logits: (B, K, Z, Y, X); classes: int64 (B, Z, Y, X) with 0..K-1; ignored: bool (B, Z, Y, X), voxels that do not
    count. Dice is pooled over the batch, without background.
    """
    logits = _at_least_float32(logits)
    counted = torch.ones_like(classes, dtype=torch.bool) if ignored is None else ~ignored
    safe_classes = classes.where(counted, 0)
    return _cross_entropy(logits, safe_classes, counted) + _dice_loss(logits, safe_classes, counted)


def _at_least_float32(values: Tensor) -> Tensor:
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _cross_entropy(logits: Tensor, classes: Tensor, counted: Tensor) -> Tensor:
    per_voxel = functional.cross_entropy(logits, classes, reduction="none") * counted
    total = sum_over_processes(per_voxel.sum())
    count = sum_over_processes(counted.sum().to(total.dtype))
    return total / count.clamp(min=1)


def _dice_loss(logits: Tensor, classes: Tensor, counted: Tensor) -> Tensor:
    probability = logits.softmax(dim=1)[:, 1:] * counted[:, None]
    labels = torch.arange(1, logits.shape[1], device=logits.device).view(1, -1, 1, 1, 1)
    truth = (classes[:, None] == labels) & counted[:, None]  # bool: integers would take eight times the memory
    axes = (0, 2, 3, 4)
    overlap = sum_over_processes((probability * truth).sum(axes))
    size = sum_over_processes(probability.sum(axes)) + sum_over_processes(truth.sum(axes).to(probability.dtype))
    return 1 - ((2 * overlap + DICE_SMOOTHING) / (size + DICE_SMOOTHING)).mean()


def to_class_indices(labels: Tensor, label_values: tuple[int, ...]) -> Tensor:
    """Label values as classes 0..K-1; label_values[0] is background. Values not listed become -1.

    labels: any integer shape; label_values: distinct. The ignore value is simply not listed.
    """
    if len(set(label_values)) != len(label_values):
        raise LabelError(f"Label values {label_values} are not distinct; mend dataset.json.")
    classes = torch.full_like(labels, -1, dtype=torch.int64)
    for index, value in enumerate(label_values):
        classes[labels == value] = index
    return classes
