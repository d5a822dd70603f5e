"""Carrying a single-channel stem over to several input channels (paper Table 8, method.md section 6.3)."""

from torch import Tensor

from s3d.errors import CheckpointError


def replicate_stem(weight_O1kkk: Tensor, channels: int, divide: bool) -> Tensor:
    """The stem's kernel repeated for each channel: (O, 1, k, k, k) -> (O, channels, k, k, k).

    divide: by the number of channels, so that equal channels give the response of one (as the official tools do; the
    paper only says replicated). Raises CheckpointError if the kernel already takes several channels.
    """
    if weight_O1kkk.shape[1] != 1:
        raise CheckpointError(
            f"The pre-trained stem takes {weight_O1kkk.shape[1]} channels; only a single-channel stem can be spread "
            f"over {channels}. Choose another checkpoint, or a random stem."
        )
    replicated = weight_O1kkk.repeat(1, channels, 1, 1, 1)
    return replicated / channels if divide else replicated
