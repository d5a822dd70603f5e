"""The encoder as it sees a masked volume (paper section 4a, method.md section 3): the dense-masked form.

Each function walks a module of blocks.py, with that module's own parameters, and looks at visible voxels only: the
result of every convolution is masked, and every norm takes its statistics from visible voxels.
Simple and dense on purpose: faster forms are compared with this one.

Legend: B batch, C channel, ZYX voxels, zyx mask cells. visible_B1ZYX: bool, the mask at the resolution of the result.
"""

from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor

from s3d.masking import grow
from s3d.models.blocks import ConvNorm, EncoderStage, ResidualBlock, activate
from s3d.models.resenc_unet import ResidualEncoder

EPSILON = 1e-5
"""Added to the variance, as nn.InstanceNorm3d does."""


def encode_sparsely(encoder: ResidualEncoder, volume_BCZYX: Tensor, visible_B1zyx: Tensor) -> list[Tensor]:
    """The encoder's feature maps, fine to coarse, computed from visible places only; zero at hidden ones.

    volume: (B, C, Z, Y, X), read as it is: mask it first if hidden voxels must not reach the rim of visible blocks
    through the stem. visible: (B, 1, z, y, x) bool, True = visible; samples may differ in number.
    """
    visible_B1ZYX = grow(visible_B1zyx, volume_BCZYX.shape)
    feature = volume_BCZYX
    for unit in cast(Iterable[ConvNorm], encoder.stem.convs):
        feature = activate(_conv_norm(unit, feature, visible_B1ZYX))
    features = []
    for level, stage in enumerate(cast(Iterable[EncoderStage], encoder.stages)):
        visible_B1ZYX = grow(visible_B1zyx, [size >> level for size in volume_BCZYX.shape[-3:]])
        for block in cast(Iterable[ResidualBlock], stage.blocks):
            feature = _residual_block(block, feature, visible_B1ZYX)
        features.append(feature)
    return features


def normalize_visible(
    feature_BCZYX: Tensor, visible_B1ZYX: Tensor, weight_C: Tensor | None = None, bias_C: Tensor | None = None
) -> Tensor:
    """Instance norm with mean and biased variance over the visible voxels of each sample and channel; zero elsewhere.

    Statistics are float32 at least; the result has the feature's type. A sample without visible voxels gives zeros.
    """
    feature = feature_BCZYX.to(torch.promote_types(feature_BCZYX.dtype, torch.float32))
    space = (2, 3, 4)
    count = visible_B1ZYX.sum(space, keepdim=True).clamp(min=1)
    mean = (feature * visible_B1ZYX).sum(space, keepdim=True) / count
    centered = (feature - mean) * visible_B1ZYX
    variance = centered.square().sum(space, keepdim=True) / count
    normalized = centered * torch.rsqrt(variance + EPSILON)
    if weight_C is not None:
        normalized = normalized * weight_C.view(1, -1, 1, 1, 1)
    if bias_C is not None:
        normalized = normalized + bias_C.view(1, -1, 1, 1, 1) * visible_B1ZYX
    return normalized.to(feature_BCZYX.dtype)


def _residual_block(block: ResidualBlock, feature_BCZYX: Tensor, visible_B1ZYX: Tensor) -> Tensor:
    main = activate(_conv_norm(block.conv1, feature_BCZYX, visible_B1ZYX))
    main = _conv_norm(block.conv2, main, visible_B1ZYX)
    skip = feature_BCZYX
    for part in block.skip:  # pooling needs no mask: its windows lie within mask cells, so hidden zeros stay zeros
        skip = _conv_norm(part, skip, visible_B1ZYX) if isinstance(part, ConvNorm) else part(skip)
    return activate(main + skip)


def _conv_norm(unit: ConvNorm, feature_BCZYX: Tensor, visible_B1ZYX: Tensor) -> Tensor:
    # What the convolution writes to hidden places the norm leaves out, so one multiplication by the mask serves both.
    return normalize_visible(unit.conv(feature_BCZYX), visible_B1ZYX, unit.norm.weight, unit.norm.bias)
