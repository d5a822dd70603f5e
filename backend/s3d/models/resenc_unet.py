"""The Residual Encoder U-Net of the paper (ResEnc-L) in any width and depth (method.md section 1).

Legend: B batch, C channel, ZYX voxels. Parameter names are those of dynamic-network-architectures without its
duplicates (interop/key_map.py adds them), so nnU-Net and nnssl weights fit.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from s3d.models.blocks import ConvStack, EncoderStage
from s3d.models.presets import Architecture


class ResidualEncoder(nn.Module):
    """Stem, then a stage per resolution; every stage but the first halves the grid."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        features, bias = architecture.features, architecture.conv_bias
        self.stem = ConvStack(architecture.input_channels, features[0], 1, bias)
        self.stages = nn.ModuleList(
            EncoderStage(inputs, outputs, count, 2 if index else 1, bias)
            for index, (inputs, outputs, count) in enumerate(
                zip((features[0], *features), features, architecture.blocks, strict=False)
            )
        )

    def forward(self, volume_BCZYX: Tensor) -> list[Tensor]:
        """One feature map per stage, fine to coarse: (B, features[i], Z/2^i, Y/2^i, X/2^i)."""
        feature = self.stem(volume_BCZYX)
        features = []
        for stage in self.stages:
            feature = stage(feature)
            features.append(feature)
        return features


class UNetDecoder(nn.Module):
    """Coarse to fine: transposed convolution, concatenation with the skip, convolutions; a 1x1x1 head per stage."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        coarse_to_fine, bias = architecture.features[::-1], architecture.conv_bias
        levels = list(zip(coarse_to_fine, coarse_to_fine[1:], architecture.decoder_convs, strict=False))
        self.deep_supervision = architecture.deep_supervision
        self.stages = nn.ModuleList(ConvStack(2 * width, width, count, bias) for _, width, count in levels)
        self.transpconvs = nn.ModuleList(
            nn.ConvTranspose3d(below, width, kernel_size=2, stride=2, bias=bias) for below, width, _ in levels
        )
        self.seg_layers = nn.ModuleList(nn.Conv3d(width, architecture.output_channels, 1) for _, width, _ in levels)
        if not self.deep_supervision:
            # The coarser heads stay in the file format; without a gradient they must not hold up distributed training.
            self.seg_layers[:-1].requires_grad_(False)

    def forward(self, features: Sequence[Tensor]) -> Tensor | list[Tensor]:
        """features: the encoder's maps, fine to coarse. Returns logits on the finest grid, (B, K, Z, Y, X); with deep
        supervision a list of the logits of every decoder stage, finest first."""
        volume = features[-1]
        outputs: list[Tensor] = []
        for level, skip in enumerate(reversed(features[:-1])):
            raised = self.transpconvs[level](volume)
            volume = self.stages[level](torch.cat((raised, skip), dim=1))
            if self.deep_supervision:
                outputs.insert(0, self.seg_layers[level](volume))
        if self.deep_supervision:
            return outputs
        logits: Tensor = self.seg_layers[-1](volume)
        return logits


class ResEncUNet(nn.Module):
    """Encoder and decoder; no activation at the end (logits, or z-scored intensities in pre-training)."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        self.encoder = ResidualEncoder(architecture)
        self.decoder = UNetDecoder(architecture)

    def forward(self, volume_BCZYX: Tensor) -> Tensor | list[Tensor]:
        """volume: (B, input_channels, Z, Y, X), each axis a multiple of the total stride. Returns (B, output_channels,
        Z, Y, X); with deep supervision a list of such maps at halved resolutions, finest first."""
        output: Tensor | list[Tensor] = self.decoder(self.encoder(volume_BCZYX))
        return output
