"""The building blocks of the ResEnc U-Net (method.md section 1): 3x3x3 convolution units and ResNet-D blocks.

Legend: B batch, C channel, ZYX voxels. Names of members are names of parameters, and so a file format.
"""

import itertools

from torch import Tensor, nn
from torch.nn import functional

LEAK = 0.01
"""Slope of the leaky ReLU below zero."""


def activate(volume_BCZYX: Tensor) -> Tensor:
    """Leaky ReLU, in place: a norm or a sum precedes it, and neither needs its own output for the gradient."""
    return functional.leaky_relu(volume_BCZYX, LEAK, inplace=True)


class ConvNorm(nn.Module):
    """Convolution, then instance norm (affine, over the voxels of each sample and channel); same padding."""

    def __init__(self, inputs: int, outputs: int, *, kernel: int = 3, stride: int = 1, bias: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv3d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=bias)
        self.norm = nn.InstanceNorm3d(outputs, affine=True)

    def forward(self, volume_BCZYX: Tensor) -> Tensor:
        """(B, inputs, Z, Y, X) -> (B, outputs, Z/stride, Y/stride, X/stride)."""
        normalized: Tensor = self.norm(self.conv(volume_BCZYX))
        return normalized


class ConvNormActivation(ConvNorm):
    """The same, then leaky ReLU."""

    def forward(self, volume_BCZYX: Tensor) -> Tensor:
        """(B, inputs, Z, Y, X) -> (B, outputs, Z/stride, Y/stride, X/stride)."""
        return activate(super().forward(volume_BCZYX))


class ConvStack(nn.Module):
    """Convolution units one after the other: the stem, and a decoder stage."""

    def __init__(self, inputs: int, outputs: int, count: int, bias: bool) -> None:
        super().__init__()
        widths = [inputs] + [outputs] * count
        self.convs = nn.Sequential(*(ConvNormActivation(i, o, bias=bias) for i, o in itertools.pairwise(widths)))

    def forward(self, volume_BCZYX: Tensor) -> Tensor:
        """(B, inputs, Z, Y, X) -> (B, outputs, Z, Y, X)."""
        result: Tensor = self.convs(volume_BCZYX)
        return result


class ResidualBlock(nn.Module):
    """Two units and a way around them (ResNet-D): average pooling where strided, 1x1x1 unit where channels change."""

    def __init__(self, inputs: int, outputs: int, stride: int, bias: bool) -> None:
        super().__init__()
        self.conv1 = ConvNormActivation(inputs, outputs, stride=stride, bias=bias)
        self.conv2 = ConvNorm(outputs, outputs, bias=bias)
        pooling = [nn.AvgPool3d(stride)] if stride > 1 else []
        projection = [ConvNorm(inputs, outputs, kernel=1, bias=False)] if inputs != outputs else []
        self.skip = nn.Sequential(*pooling, *projection)

    def forward(self, volume_BCZYX: Tensor) -> Tensor:
        """(B, inputs, Z, Y, X) -> (B, outputs, Z/stride, Y/stride, X/stride)."""
        return activate(self.conv2(self.conv1(volume_BCZYX)) + self.skip(volume_BCZYX))


class EncoderStage(nn.Module):
    """Residual blocks at one resolution; the first one strides."""

    def __init__(self, inputs: int, outputs: int, count: int, stride: int, bias: bool) -> None:
        super().__init__()
        first = ResidualBlock(inputs, outputs, stride, bias)
        self.blocks = nn.Sequential(first, *(ResidualBlock(outputs, outputs, 1, bias) for _ in range(count - 1)))

    def forward(self, volume_BCZYX: Tensor) -> Tensor:
        """(B, inputs, Z, Y, X) -> (B, outputs, Z/stride, Y/stride, X/stride)."""
        result: Tensor = self.blocks(volume_BCZYX)
        return result
