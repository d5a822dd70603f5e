"""Options of the verb `pretrain`. Torch-free."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from s3d.bundle import check_name
from s3d.errors import ConfigError
from s3d.models.presets import Architecture, PresetName, preset
from s3d.models.spark_options import SparkOptions
from s3d.training.config import TrainingConfig


@dataclass(frozen=True, kw_only=True)
class PretrainConfig(TrainingConfig):
    """One self-supervised pre-training. Defaults: the paper's S3D (section 4; method.md sections 2 to 4)."""

    store: Path
    """Folder of preprocessed images, made by `s3d preprocess`."""
    output: Path
    """Folder of the run: checkpoint, events, previews and the finished bundle. An unfinished run there goes on."""
    name: str = "s3d-pretrained"
    """Name of the bundle, NAME.s3dmodel in the output folder."""
    batch_size: int = 6
    """Samples per step (paper section 4)."""
    preset: PresetName = "resenc_l"
    """Network: resenc_l is the paper's (for a GPU), medium and small suit workstations, tiny is for first tries."""
    architecture: Architecture | None = None
    """Full shape of the network instead of a preset, for other widths and depths (JSON file only)."""
    patch_size: tuple[int, int, int] = (160, 160, 160)
    """Training patch (z, y, x) in voxels (paper section 2)."""
    mask_ratio: tuple[float, ...] = (0.6, 0.9)
    """Share of the blocks hidden: one number, or a range to draw from per step (paper: U[0.6, 0.9])."""
    geometry: Literal["paper", "nnssl_compatible"] = "paper"
    """paper: blocks of one bottleneck voxel, hidden voxels never enter the network. nnssl_compatible: blocks half
    that size and an unmasked input, as in the released code (method.md section 0)."""
    block_size: int | None = None
    """Edge of a mask block in voxels; unset, what the geometry says (32 or 16 for ResEnc-L)."""
    sparse: bool = True
    """Sparse convolution and normalisation (Table 2)."""
    mask_token: bool = True
    """Fill hidden features with a learnt token before decoding (Table 2)."""
    densify: bool = True
    """Normalise and convolve the filled features (Table 2)."""
    augment: bool = True
    """Rotation, scaling and mirroring of the training patches (method.md section 4)."""
    preview_every: int = 1000
    """Steps between two reconstruction pictures."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_name(self.name)
        channels = (self.network.input_channels, self.network.output_channels)
        if channels != (1, 1):
            raise ConfigError(
                f"Pre-training takes and gives one channel; this architecture has {channels[0]} in and {channels[1]} "
                "out. Leave both at 1: fine-tuning adds channels."
            )
        self._check_patch()
        rising = sorted(self.mask_ratio) == list(self.mask_ratio)
        if len(self.mask_ratio) not in (1, 2) or not rising or not all(0 < ratio < 1 for ratio in self.mask_ratio):
            raise ConfigError(
                f"mask_ratio is {self.mask_ratio}; give one number between 0 and 1, or two, the smaller first."
            )
        if self.preview_every < 1:
            raise ConfigError(f"preview_every is {self.preview_every}; it must be at least 1.")

    def _check_patch(self) -> None:
        """Every resolution of the network must hold whole mask blocks, or be coarser than the mask along each axis."""
        stride = self.network.total_stride
        if any(size < 2 * stride or size % stride for size in self.patch_size):
            raise ConfigError(
                f"patch_size {self.patch_size} does not suit this network: each axis must be a multiple of {stride}, "
                f"at least {2 * stride}."
            )
        if self.block < 1 or any(size % self.block for size in self.patch_size):
            raise ConfigError(f"patch_size {self.patch_size} cannot be cut into blocks of {self.block} voxels.")
        grid = [size // self.block for size in self.patch_size]
        for level in range(len(self.network.features)):
            sizes = [size // 2**level for size in self.patch_size]
            pairs = list(zip(sizes, grid, strict=True))
            if any(size % cells for size, cells in pairs) and not all(size < cells for size, cells in pairs):
                raise ConfigError(
                    f"Blocks of {self.block} voxels do not fit the network's resolution of {sizes} voxels; choose a "
                    f"block_size that divides {stride} or is a multiple of it."
                )

    @property
    def keeps_events(self) -> bool:
        """The command line keeps events.jsonl in the output folder."""
        return True

    @property
    def network(self) -> Architecture:
        """The network's shape."""
        return self.architecture if self.architecture is not None else preset(self.preset)

    @property
    def block(self) -> int:
        """Edge of a mask block in voxels."""
        if self.block_size is not None:
            return self.block_size
        stride = self.network.total_stride
        return stride if self.geometry == "paper" else stride // 2

    @property
    def spark(self) -> SparkOptions:
        """Which parts of the method are on."""
        return SparkOptions(
            sparse=self.sparse,
            mask_token=self.mask_token,
            densify=self.densify,
            mask_input=self.geometry == "paper",
        )
