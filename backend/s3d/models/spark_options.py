"""Which parts of S3D are switched on. Torch-free. Every row of the paper's Table 2(a) is a value."""

from dataclasses import dataclass

from s3d.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class SparkOptions:
    """The parts build on each other, as in Table 2(a): tokens need sparse features, densification needs tokens."""

    sparse: bool = True
    """Convolve and normalise visible voxels only; off is a plain (dense) masked autoencoder."""
    mask_token: bool = True
    """Fill the hidden places of each feature map with a learnt vector before decoding."""
    densify: bool = True
    """Normalise each feature map before it is filled, and convolve it afterwards at all resolutions but the finest."""
    mask_input: bool = True
    """Set hidden voxels to zero (the image mean) before the stem. Off is nnssl_compatible: hidden voxels then leak one
    voxel deep into visible blocks (method.md section 0)."""

    def __post_init__(self) -> None:
        if self.mask_token and not self.sparse:
            raise ConfigError(
                "mask_token needs sparse; a dense autoencoder has sparse, mask_token and densify all off."
            )
        if self.densify and not self.mask_token:
            raise ConfigError("densify needs mask_token; switch densify off as well, or mask_token on.")
        if not self.sparse and not self.mask_input:
            raise ConfigError("With sparse and mask_input both off nothing would be hidden; switch one of them on.")


MAE_BASE = SparkOptions(sparse=False, mask_token=False, densify=False)
SPARSE = SparkOptions(mask_token=False, densify=False)
TOKEN = SparkOptions(densify=False)
S3D = SparkOptions()
TABLE_2 = {
    "base MAE": MAE_BASE,
    "+ sparse convolution and norm": SPARSE,
    "+ mask token": TOKEN,
    "+ densification": S3D,
}
"""The rows of Table 2(a), top to bottom."""

NNSSL = SparkOptions(mask_input=False)
"""The released code's S3D; its mask blocks have half the network's total stride."""
