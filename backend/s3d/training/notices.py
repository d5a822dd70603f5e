"""What a training handles by itself and tells the user about."""

from collections.abc import Sequence

from s3d.data.patches import PatchSampler
from s3d.progress import Progress

PADDED = "W_PATCH_LARGER_THAN_VOLUME"


def tell_about_padding(sampler: PatchSampler, patch_size: Sequence[int], progress: Progress) -> None:
    """Say once how many cases are smaller than the patch."""
    padded = sampler.padded_cases
    if padded:
        size = " x ".join(map(str, patch_size))
        progress.warning(
            PADDED,
            f"{len(padded)} case(s) are smaller than the patch of {size} voxels along some axis and are filled up with "
            f"zeros, the first of them {padded[0]}.",
        )
