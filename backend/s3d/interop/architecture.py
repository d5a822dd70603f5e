"""The shape of a ResEnc U-Net, read off the shapes of its weights."""

import itertools
from collections.abc import Mapping

import torch
from torch import Tensor

from s3d.errors import CheckpointError
from s3d.models.presets import Architecture
from s3d.models.resenc_unet import ResEncUNet

_STEM = "encoder.stem.convs.0.conv"


def infer_architecture(state: Mapping[str, Tensor], deep_supervision: bool = False) -> Architecture:
    """The network whose state (names of this package, see key_map) this is.

    A state without decoder gives one convolution per decoder stage and a single output channel. Whether everything
    fits is for the caller to compare (expected_shapes). Raises CheckpointError if this is no ResEnc U-Net.
    """
    if f"{_STEM}.weight" not in state:
        raise CheckpointError(
            f"These weights have no {_STEM}.weight, so they are not those of a ResEnc U-Net; other networks (Primus, "
            "plain or transformer ones) are not supported. Choose a ResEnc-L checkpoint."
        )
    depth = _count(state, "encoder.stages.{}.blocks.0.conv1.conv.weight")
    if depth < 2:
        raise CheckpointError(
            f"These weights have {depth} encoder stages with residual blocks of two convolutions, at least 2 are "
            "needed; other networks are not supported. Choose a ResEnc-L checkpoint."
        )
    levels = range(depth)
    has_decoder = f"decoder.seg_layers.{depth - 2}.weight" in state
    convs = [_count(state, f"decoder.stages.{level}.convs.{{}}.conv.weight") for level in levels[:-1]]
    return Architecture(
        features=tuple(state[f"encoder.stages.{level}.blocks.0.conv1.conv.weight"].shape[0] for level in levels),
        blocks=tuple(_count(state, f"encoder.stages.{level}.blocks.{{}}.conv1.conv.weight") for level in levels),
        decoder_convs=tuple(max(count, 1) for count in convs),
        input_channels=state[f"{_STEM}.weight"].shape[1],
        output_channels=state[f"decoder.seg_layers.{depth - 2}.weight"].shape[0] if has_decoder else 1,
        deep_supervision=deep_supervision,
        conv_bias=f"{_STEM}.bias" in state,
    )


def expected_shapes(architecture: Architecture) -> dict[str, tuple[int, ...]]:
    """Every parameter name of a ResEncUNet with its shape, in order; nothing is allocated."""
    with torch.device("meta"):
        network = ResEncUNet(architecture)
    return {name: tuple(value.shape) for name, value in network.state_dict().items()}


def _count(state: Mapping[str, Tensor], pattern: str) -> int:
    """How many of pattern's names exist, counted from 0 without a gap."""
    return next(number for number in itertools.count() if pattern.format(number) not in state)
