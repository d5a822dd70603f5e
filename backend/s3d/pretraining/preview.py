"""A picture of what the network makes of hidden blocks."""

from pathlib import Path

import torch
from torch import nn

from s3d.atomic_files import write_bytes
from s3d.data.patches import PatchBatch
from s3d.evaluation.pictures import reconstruction_figure
from s3d.masking import grow
from s3d.pretraining.masked_autoencoder import MaskedAutoencoding


@torch.no_grad()
def write_preview(path: Path, model: nn.Module, task: MaskedAutoencoding, batch: PatchBatch) -> None:
    """Write original, masked and reconstructed slices of the batch's first sample as a PNG."""
    device = next(model.parameters()).device
    image = batch.image[:1].to(device)
    visible = task.visible(0, batch.numbers[:1]).to(device)
    reconstruction = model(image, visible)
    shown = grow(visible, image.shape[2:]).bool()
    write_bytes(
        path,
        reconstruction_figure(image[0, 0].cpu().numpy(), shown[0, 0].cpu().numpy(), reconstruction[0, 0].cpu().numpy()),
    )
