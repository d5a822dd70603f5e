"""nnssl's adaptation plan: what a checkpoint says about its network and preprocessing (method.md section 8)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from s3d.errors import CheckpointError
from s3d.models.presets import Architecture

_FIXED_NETWORK = "ResEncL"
_FREE_NETWORK = "ResidualEncoderUNet"
SUPPORTED_NETWORKS = (_FIXED_NETWORK, "NoSkipResEncL", _FREE_NETWORK)
"""Networks with our encoder. NoSkipResEncL has another decoder, whose weights will not fit and are reported so."""

_CONFIGURATION = "onemmiso"
"""Of the preprocessings a plan may describe, the one that nnssl trains with."""
_COMPARED = ("n_stages", "features_per_stage", "n_blocks_per_stage", "kernel_sizes", "strides", "conv_bias")
_REQUIRED_PARTS = {"conv_op": "Conv3d", "norm_op": "InstanceNorm3d", "nonlin": "LeakyReLU"}


@dataclass(frozen=True, kw_only=True)
class AdaptationPlan:
    """The part of a plan that matters here. The defaults are nnssl's usual values, for checkpoints without a plan."""

    network: str | None = None
    """Class name of the network, None if unknown."""
    network_options: Mapping[str, Any] | None = None
    """Its arguments; None if unknown, or for the fixed ResEnc-L."""
    input_channels: int | None = None
    """Channels in pre-training, None if unknown."""
    patch_size: tuple[int, int, int] = (160, 160, 160)
    """Recommended for fine-tuning, (z, y, x) voxels."""
    spacing_mm: tuple[float, float, float] | None = (1.0, 1.0, 1.0)
    """Grid of the pre-training images, (z, y, x); None: as they came."""
    dataset: str | None = None
    """Name of the pre-training dataset."""
    transpose_forward: tuple[int, ...] = (0, 1, 2)
    """Order in which the axes, as stored, went into the network."""


def parse_plan(values: Any, where: str) -> AdaptationPlan:
    """The plan in a JSON object. Raises CheckpointError, naming where, for unsupported networks and strange values."""
    usual = AdaptationPlan()
    try:
        network = values["architecture_plans"]["arch_class_name"]
        pretraining = values.get("pretrain_plan") or {}
        plan = AdaptationPlan(
            network=network,
            network_options=values["architecture_plans"].get("arch_kwargs"),
            input_channels=values.get("pretrain_num_input_channels"),
            patch_size=_voxels(values.get("recommended_downstream_patchsize") or usual.patch_size),
            spacing_mm=_spacing(pretraining.get("configurations") or {}, usual),
            dataset=pretraining.get("dataset_name"),
            transpose_forward=tuple(map(int, pretraining.get("transpose_forward") or usual.transpose_forward)),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(
            f"{where} holds an adaptation plan that cannot be understood ({type(error).__name__}: {error}). "
            "Get the checkpoint anew, or import its .pth file without the plan."
        ) from error
    if network not in SUPPORTED_NETWORKS:
        raise CheckpointError(
            f"{where} holds a {network} network; only ResEnc U-Nets are supported. Choose a ResEnc-L checkpoint."
        )
    return plan


def check_plan(plan: AdaptationPlan, architecture: Architecture, where: str) -> None:
    """Compare a plan with the network that the weights' shapes show. Raises CheckpointError naming what differs."""
    stated = dict(plan.network_options or {})
    if not stated and plan.network not in (None, _FREE_NETWORK):
        stated = _network_options(Architecture())
    found = _network_options(architecture) | {"input channels": architecture.input_channels}
    if plan.input_channels is not None:
        stated["input channels"] = plan.input_channels
    for name in (*_COMPARED, "input channels"):
        if name in stated and not _same(stated[name], found[name]):
            raise CheckpointError(
                f"{where}: the plan says {name} {stated[name]}, but the weights (or the networks supported here) have "
                f"{found[name]}. Choose another checkpoint."
            )
    for name, part in _REQUIRED_PARTS.items():
        if part not in str(stated.get(name, part)):
            raise CheckpointError(
                f"{where}: the network's {name} is {stated[name]}, only {part} is supported. Choose another checkpoint."
            )


def make_plan(
    architecture: Architecture, patch_size: Sequence[int], spacing_mm: Sequence[float] | None, dataset: str
) -> dict[str, Any]:
    """The smallest plan with which nnssl's fine-tuning tools read our weights; parse_plan undoes it."""
    fixed = _network_options(architecture) == _network_options(Architecture())
    stem = "encoder.stem.convs.0"
    return {
        "architecture_plans": {
            "arch_class_name": _FIXED_NETWORK if fixed else _FREE_NETWORK,
            "arch_kwargs": None if fixed else _network_options(architecture),
            "arch_kwargs_requiring_import": None if fixed else ["conv_op", "norm_op", "dropout_op", "nonlin"],
        },
        "pretrain_plan": {
            "dataset_name": dataset,
            "plans_name": "nnsslPlans",
            "transpose_forward": [0, 1, 2],
            "transpose_backward": [0, 1, 2],
            "configurations": {
                _CONFIGURATION: {
                    "spacing": None if spacing_mm is None else list(spacing_mm),
                    "patch_size": list(patch_size),
                    "normalization_schemes": ["ZScoreNormalization"],
                    "use_mask_for_norm": [False],
                }
            },
        },
        "pretrain_num_input_channels": architecture.input_channels,
        "recommended_downstream_patchsize": list(patch_size),
        "key_to_encoder": "encoder.stages",
        "key_to_stem": "encoder.stem",
        "keys_to_in_proj": [f"{stem}.conv", f"{stem}.all_modules.0"],
        "key_to_lpe": None,
    }


def _network_options(architecture: Architecture) -> dict[str, Any]:
    """The arguments of dynamic-network-architectures' ResidualEncoderUNet that make this network."""
    stages = len(architecture.features)
    return {
        "n_stages": stages,
        "features_per_stage": list(architecture.features),
        "conv_op": "torch.nn.modules.conv.Conv3d",
        "kernel_sizes": [[3, 3, 3]] * stages,
        "strides": [[1, 1, 1]] + [[2, 2, 2]] * (stages - 1),
        "n_blocks_per_stage": list(architecture.blocks),
        "n_conv_per_stage_decoder": list(architecture.decoder_convs),
        "conv_bias": architecture.conv_bias,
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }


def _same(stated: Any, found: Any) -> bool:
    """Equal, where a single number stands for three equal ones or for one per stage, as in the official code."""
    if isinstance(found, list):
        items = list(stated) if isinstance(stated, (list, tuple)) else [stated] * len(found)
        return len(items) == len(found) and all(_same(*pair) for pair in zip(items, found, strict=True))
    return bool(stated == found)


def _voxels(values: Sequence[int]) -> tuple[int, int, int]:
    z, y, x = (int(value) for value in values)
    return z, y, x


def _spacing(configurations: Mapping[str, Any], usual: AdaptationPlan) -> tuple[float, float, float] | None:
    """Spacing of the usual configuration, else of the first; null there means that images kept their own."""
    if not configurations:
        return usual.spacing_mm
    values = configurations.get(_CONFIGURATION, next(iter(configurations.values()))).get("spacing", usual.spacing_mm)
    if values is None:
        return None
    z, y, x = (float(value) for value in values)
    return z, y, x
