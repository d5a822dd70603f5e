"""Network shapes by name. Torch-free, so that configs and the server may import it."""

from dataclasses import dataclass
from typing import Literal

from s3d.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """A Residual Encoder U-Net: 3x3x3 kernels, every stage but the first halves the grid (method.md section 1)."""

    features: tuple[int, ...] = (32, 64, 128, 256, 320, 320)
    """Channels of each stage, fine to coarse (paper: ResEnc-L)."""
    blocks: tuple[int, ...] = (1, 3, 4, 6, 6, 6)
    """Residual blocks of each encoder stage."""
    decoder_convs: tuple[int, ...] = (1, 1, 1, 1, 1)
    """Convolutions of each decoder stage, coarse to fine; one fewer than encoder stages."""
    input_channels: int = 1
    """Image channels; pre-training uses 1."""
    output_channels: int = 1
    """Classes including background, or 1 for reconstruction."""
    deep_supervision: bool = False
    """Whether the forward gives an output per decoder stage, finest first."""
    conv_bias: bool = True
    """Whether 3x3x3 and transposed convolutions have a bias; the paper's do."""

    def __post_init__(self) -> None:
        if len(self.features) < 2 or len(self.blocks) != len(self.features):
            raise ConfigError(
                f"An architecture needs at least 2 stages and one number of blocks each; got features {self.features} "
                f"and blocks {self.blocks}."
            )
        if len(self.decoder_convs) != len(self.features) - 1:
            raise ConfigError(
                f"decoder_convs needs {len(self.features) - 1} numbers for {len(self.features)} stages, "
                f"got {self.decoder_convs}."
            )
        if min(*self.features, *self.blocks, *self.decoder_convs, self.input_channels, self.output_channels) < 1:
            raise ConfigError("Features, blocks, decoder convolutions and channels must all be at least 1.")

    @property
    def total_stride(self) -> int:
        """Voxels of the input per voxel of the bottleneck, the same along each axis."""
        return int(2 ** (len(self.features) - 1))


PresetName = Literal["resenc_l", "medium", "small", "tiny"]

PRESETS: dict[str, Architecture] = {
    "resenc_l": Architecture(),
    "small": Architecture(features=(16, 32, 64, 128), blocks=(1, 1, 1, 1), decoder_convs=(1, 1, 1)),
    "medium": Architecture(features=(16, 32, 64, 128, 160), blocks=(1, 2, 2, 2, 2), decoder_convs=(1, 1, 1, 1)),
    "tiny": Architecture(features=(8, 16, 32), blocks=(1, 1, 1), decoder_convs=(1, 1)),
}
"""resenc_l: the paper's; small: the recipe measured on two CPU cores; medium: five stages for a workstation;
tiny: tests and first tries."""


def preset(name: str) -> Architecture:
    """The architecture of that name. Raises ConfigError listing the names."""
    if name not in PRESETS:
        raise ConfigError(f"There is no preset {name!r}; choose one of {', '.join(PRESETS)}.")
    return PRESETS[name]
