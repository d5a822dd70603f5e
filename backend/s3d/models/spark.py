"""S3D: a sparse masked autoencoder on a ResEnc U-Net (paper section 4, method.md section 3).

Legend: B batch, C channel, ZYX voxels, zyx mask cells. Feature lists go from fine to coarse.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from s3d.errors import ConfigError
from s3d.masking import grow
from s3d.models.initialization import initialize_token
from s3d.models.presets import Architecture
from s3d.models.resenc_unet import ResEncUNet
from s3d.models.spark_options import SparkOptions
from s3d.models.sparse import encode_sparsely, normalize_visible


class SparkAutoencoder(nn.Module):
    """Hide, encode, fill, decode. Holds the parameters of a ResEncUNet under the same names, mask_tokens.i (one per
    stage) and densify_projs.i (one per stage but the finest)."""

    def __init__(self, architecture: Architecture, options: SparkOptions | None = None) -> None:
        """options: which parts are on, by default all. ConfigError if the network cannot reconstruct its own input."""
        super().__init__()
        if architecture.deep_supervision or architecture.output_channels != architecture.input_channels:
            raise ConfigError(
                f"Reconstruction needs as many output as input channels and no deep supervision; this network has "
                f"{architecture.input_channels} in, {architecture.output_channels} out and deep_supervision "
                f"{architecture.deep_supervision}."
            )
        unet = ResEncUNet(architecture)
        self.architecture = architecture
        self.options = options if options is not None else SparkOptions()
        self.encoder = unet.encoder
        self.mask_tokens = nn.ParameterList(_mask_tokens(architecture) if self.options.mask_token else [])
        self.densify_projs = nn.ModuleList(_densify_projections(architecture) if self.options.densify else [])
        self.decoder = unet.decoder

    def forward(self, volume_BCZYX: Tensor, visible_B1zyx: Tensor) -> Tensor:
        """volume: (B, C, Z, Y, X) z-scored; visible: (B, 1, z, y, x) bool, True = visible. Returns (B, C, Z, Y, X)."""
        given = self._hide(volume_BCZYX, visible_B1zyx)
        features = self._encode(given, visible_B1zyx)
        filled = [self._fill(level, feature, visible_B1zyx) for level, feature in enumerate(features)]
        reconstruction: Tensor = self.decoder(filled)
        return reconstruction

    def features(self, volume_BCZYX: Tensor, visible_B1zyx: Tensor) -> list[Tensor]:
        """What the encoder makes of the visible part: a map per stage, (B, features[i], Z/2^i, Y/2^i, X/2^i)."""
        return self._encode(self._hide(volume_BCZYX, visible_B1zyx), visible_B1zyx)

    @property
    def unet(self) -> ResEncUNet:
        """The plain network, sharing these very parameters: what is saved in a bundle and fine-tuned."""
        with torch.device("meta"):
            network = ResEncUNet(self.architecture)
        network.encoder, network.decoder = self.encoder, self.decoder
        return network

    def _hide(self, volume_BCZYX: Tensor, visible_B1zyx: Tensor) -> Tensor:
        if not self.options.mask_input:
            return volume_BCZYX
        return volume_BCZYX.masked_fill(~grow(visible_B1zyx, volume_BCZYX.shape), 0)

    def _encode(self, given_BCZYX: Tensor, visible_B1zyx: Tensor) -> list[Tensor]:
        if not self.options.sparse:
            features: list[Tensor] = self.encoder(given_BCZYX)
            return features
        return encode_sparsely(self.encoder, given_BCZYX, visible_B1zyx)

    def _fill(self, level: int, feature_BCZYX: Tensor, visible_B1zyx: Tensor) -> Tensor:
        """Hidden places get the stage's token; with densification the map is normalised before, convolved after."""
        if not self.options.mask_token:
            return feature_BCZYX
        visible_B1ZYX = grow(visible_B1zyx, feature_BCZYX.shape)
        if self.options.densify:
            feature_BCZYX = normalize_visible(feature_BCZYX, visible_B1ZYX)
        token = self.mask_tokens[level].to(feature_BCZYX.dtype)
        filled = torch.where(visible_B1ZYX, feature_BCZYX, token)
        if not self.options.densify:
            return filled
        projected: Tensor = self.densify_projs[level](filled)
        return projected


def _mask_tokens(architecture: Architecture) -> list[nn.Parameter]:
    return [initialize_token(nn.Parameter(torch.empty(1, width, 1, 1, 1))) for width in architecture.features]


def _densify_projections(architecture: Architecture) -> Sequence[nn.Module]:
    """A 3x3x3 convolution per stage; the finest map passes unchanged (paper section 4c)."""
    return [nn.Identity(), *(nn.Conv3d(width, width, 3, padding=1) for width in architecture.features[1:])]
