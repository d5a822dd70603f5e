"""The network of a segmentation bundle, ready to be used, and what must hold for that."""

import dataclasses
import math

import torch

from s3d.bundle import Bundle
from s3d.errors import BundleError, ConfigError
from s3d.models.resenc_unet import ResEncUNet

_LISTED = 3


def network_of(bundle: Bundle) -> ResEncUNet:
    """The bundle's segmentation network in float32, in evaluation mode.

    Raises BundleError for a pre-trained bundle, and for weights with missing, unexpected or mis-shaped names.
    """
    description = bundle.description
    if description.kind != "segmentation":
        raise BundleError(
            f"Model {description.name!r} is only pre-trained: it reconstructs hidden voxels and knows no labels. "
            "Fine-tune it first (s3d finetune)."
        )
    with torch.device("meta"):  # no memory and no random numbers for weights that are replaced at once
        network = ResEncUNet(dataclasses.replace(description.architecture, deep_supervision=False))
    _check_weights(bundle, {name: tuple(value.shape) for name, value in network.state_dict().items()})
    weights = {name: torch.tensor(value, dtype=torch.float32) for name, value in bundle.weights.items()}
    network.load_state_dict(weights, assign=True)
    return network.requires_grad_(False).eval()


def _check_weights(bundle: Bundle, expected: dict[str, tuple[int, ...]]) -> None:
    found = {name: tuple(value.shape) for name, value in bundle.weights.items()}
    problems = [f"{name} is missing" for name in expected if name not in found]
    problems += [f"{name} is unexpected" for name in found if name not in expected]
    problems += [
        f"{name} has shape {found[name]} instead of {shape}"
        for name, shape in expected.items()
        if name in found and found[name] != shape
    ]
    if problems:
        more = f", and {len(problems) - _LISTED} more" if len(problems) > _LISTED else ""
        raise BundleError(
            f"The weights of model {bundle.description.name!r} do not fit its network: {'; '.join(problems[:_LISTED])}"
            f"{more}. The bundle is damaged or from another program; get it anew or export it again."
        )


def check_window(window: tuple[int, int, int], total_stride: int) -> None:
    """Raises ConfigError unless the network can halve the window all the way down to more than one voxel."""
    if any(size % total_stride for size in window) or math.prod(window) == total_stride**3:
        raise ConfigError(
            f"A window of {' x '.join(map(str, window))} voxels does not fit the network: each axis must be a multiple "
            f"of {total_stride} voxels, one of them a larger one. Choose another patch_size when training the model."
        )
