"""The network a fine-tuning starts with: new weights, and over them what the parent gives."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from s3d.bundle import Bundle
from s3d.errors import BundleError
from s3d.finetuning.config import FinetuneConfig
from s3d.finetuning.strategies import Strategy
from s3d.models.initialization import initialize_for_training
from s3d.models.presets import Architecture
from s3d.models.resenc_unet import ResEncUNet
from s3d.models.stem import replicate_stem

STEM_WEIGHT = "encoder.stem.convs.0.conv.weight"
_HEADS = "decoder.seg_layers."


@dataclass(frozen=True)
class TransferReport:
    """Which parameters came from the parent, and which labels of its head were kept."""

    transferred: tuple[str, ...] = ()
    kept_labels: tuple[str, ...] = ()


def network_shape(config: FinetuneConfig, parent: Bundle | None, channels: int, labels: int) -> Architecture:
    """The parent's network, or the configured one, with this dataset's channels and classes."""
    shape = config.scratch_network if parent is None else parent.description.architecture
    return replace(shape, input_channels=channels, output_channels=labels + 1, deep_supervision=False)


def initial_network(
    architecture: Architecture,
    parent: Bundle | None,
    label_names: tuple[str, ...],
    strategy: Strategy,
    config: FinetuneConfig,
) -> tuple[ResEncUNet, TransferReport]:
    """A network with fresh He weights, the encoder (and decoder) of the parent over them.

    Heads are kept for labels of the same name where the decoder is transferred. Raises BundleError if the parent
    lacks what is asked for, or has more channels than the dataset.
    """
    model = ResEncUNet(architecture)
    initialize_for_training(model, config.seed)
    if parent is None or strategy.transfer == "none":
        return model, TransferReport()
    given = {name: torch.from_numpy(np.array(value)) for name, value in parent.weights.items()}
    own = dict(model.named_parameters())
    taken = _encoder_weights(given, own, parent, config)
    kept: tuple[str, ...] = ()
    if strategy.transfer == "encoder_decoder":
        taken |= _decoder_weights(given, own, parent)
        heads, kept = _head_weights(given, own, parent, label_names)
        taken |= heads
    with torch.no_grad():
        for name, value in taken.items():
            own[name].copy_(value)
    return model, TransferReport(tuple(taken), kept)


def _encoder_weights(
    given: dict[str, Tensor], own: dict[str, torch.nn.Parameter], parent: Bundle, config: FinetuneConfig
) -> dict[str, Tensor]:
    taken = _matching(given, own, "encoder.", parent, except_for=STEM_WEIGHT)
    if STEM_WEIGHT not in given:
        raise _does_not_fit(parent, STEM_WEIGHT)
    channels, trained = own[STEM_WEIGHT].shape[1], given[STEM_WEIGHT].shape[1]
    if channels == trained:
        taken[STEM_WEIGHT] = given[STEM_WEIGHT]
    elif trained != 1:
        raise BundleError(
            f"Model {parent.description.name!r} takes {trained} channels, the dataset has {channels}. Choose a dataset "
            f"with {trained} channels, or a parent with one channel."
        )
    elif config.stem != "random":
        taken[STEM_WEIGHT] = replicate_stem(given[STEM_WEIGHT], channels, divide=config.stem == "replicate_divided")
    return taken


def _decoder_weights(given: dict[str, Tensor], own: dict[str, torch.nn.Parameter], parent: Bundle) -> dict[str, Tensor]:
    return _matching(given, own, "decoder.", parent, except_for=_HEADS)


def _matching(
    given: dict[str, Tensor], own: dict[str, torch.nn.Parameter], prefix: str, parent: Bundle, except_for: str
) -> dict[str, Tensor]:
    taken = {}
    for name, parameter in own.items():
        if not name.startswith(prefix) or name.startswith(except_for):
            continue
        if name not in given or given[name].shape != parameter.shape:
            raise _does_not_fit(parent, name)
        taken[name] = given[name]
    return taken


def _does_not_fit(parent: Bundle, name: str) -> BundleError:
    remedy = "transfer encoder if it holds an encoder only, or " if name.startswith("decoder.") else ""
    return BundleError(
        f"Model {parent.description.name!r} has no fitting weights for {name}. Choose {remedy}another parent."
    )


def _head_weights(
    given: dict[str, Tensor], own: dict[str, torch.nn.Parameter], parent: Bundle, label_names: tuple[str, ...]
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Rows of the output layers for background and for every label the parent knows by the same name."""
    if parent.description.kind != "segmentation":
        return {}, ()
    old_rows = {label.name: index + 1 for index, label in enumerate(parent.description.labels)}
    pairs = [(0, 0)] + [(index + 1, old_rows[name]) for index, name in enumerate(label_names) if name in old_rows]
    taken = {}
    for name, parameter in own.items():
        if name.startswith(_HEADS) and name in given:
            value = parameter.detach().clone()
            for new, old in pairs:
                value[new] = given[name][old]
            taken[name] = value
    return taken, tuple(name for name in label_names if name in old_rows)
