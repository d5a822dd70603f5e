"""The supervised task: label values of a patch to classes, Dice and cross-entropy over what is annotated."""

from dataclasses import dataclass

from torch import Tensor, nn

from s3d.data.patches import PatchBatch
from s3d.training.losses import dice_and_cross_entropy, to_class_indices


@dataclass(frozen=True)
class SegmentationTask:
    """label_values: voxel value of each class, background (0) first; anything else in the labels is ignored."""

    label_values: tuple[int, ...]

    def loss(self, model: nn.Module, batch: PatchBatch, step: int) -> Tensor:  # noqa: ARG002 - the loop's signature
        """Cross-entropy plus Dice over annotated voxels (method.md section 6.4)."""
        if batch.labels is None:
            raise TypeError("a supervised task needs a sampler that reads labels")
        classes = to_class_indices(batch.labels, self.label_values)
        return dice_and_cross_entropy(model(batch.image), classes, ignored=classes < 0)
