"""The pre-training task: hide blocks of a patch, reconstruct them (paper section 4)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from s3d.data.patches import PatchBatch
from s3d.data.sample_randomness import Stream
from s3d.masking import draw_visible, grow, mask_grid, mask_ratio_at
from s3d.training.losses import masked_squared_error


@dataclass(frozen=True, kw_only=True)
class MaskedAutoencoding:
    """What is hidden at which step; an instance turns a batch into a loss."""

    patch_size: tuple[int, int, int]
    block: int
    mask_ratio: tuple[float, ...]
    seed: int

    def visible(self, step: int, numbers: Sequence[int]) -> Tensor:
        """The mask of these samples, (B, 1, z, y, x) bool, true = visible; a function of seed, step and numbers.

        One ratio per step, so that every process hides as many blocks; the places differ per sample.
        """
        ratio = mask_ratio_at(self.mask_ratio, self.seed, step)
        grid = mask_grid(self.patch_size, self.block)
        return draw_visible(grid, ratio, [(self.seed, number, Stream.MASK) for number in numbers])

    def loss(self, model: nn.Module, batch: PatchBatch, step: int) -> Tensor:
        """Squared error over hidden voxels that are not excluded (anonymised), pooled over batch and processes."""
        visible = self.visible(step, batch.numbers).to(batch.image.device)
        reconstruction = model(batch.image, visible)
        return masked_squared_error(reconstruction, batch.image, self.counted(batch, visible))

    def counted(self, batch: PatchBatch, visible: Tensor) -> Tensor:
        """Voxels the loss runs over, (B, 1, Z, Y, X) bool."""
        hidden = ~grow(visible, batch.image.shape[2:]).bool()
        return hidden if batch.excluded is None else hidden & ~batch.excluded


@torch.no_grad()
def error_of_predicting_zero(task: MaskedAutoencoding, batches: Sequence[PatchBatch]) -> float:
    """Loss of a network that always answers 0, the image mean: the level pre-training must go below."""
    total = count = 0.0
    for batch in batches:
        counted = task.counted(batch, task.visible(0, batch.numbers).to(batch.image.device))
        total += float((batch.image.square() * counted).sum())
        count += float(counted.sum())
    return total / max(count, 1.0)
