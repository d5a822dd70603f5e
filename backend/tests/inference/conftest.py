import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from s3d.bundle import Bundle, BundleDescription, Channel, Label
from s3d.models.presets import Architecture
from s3d.models.resenc_unet import ResEncUNet

SMALL = Architecture(features=(4, 6), blocks=(1, 1), decoder_convs=(1,), output_channels=3)


@pytest.fixture
def make_bundle() -> Callable[..., Bundle]:
    """A two-stage network with random weights; labels 7 and 300; options replace fields of the description."""

    def make(channels: tuple[str, ...] = ("T1",), **options: Any) -> Bundle:
        architecture = options.pop("architecture", SMALL)
        architecture = dataclasses.replace(architecture, input_channels=len(channels))
        values: dict[str, Any] = {
            "name": "toy",
            "kind": "segmentation",
            "architecture": architecture,
            "channels": tuple(Channel(name=name) for name in channels),
            "patch_size": (8, 8, 8),
            "labels": (Label(value=7, name="Left half", color=(255, 0, 0)), Label(value=300, name="Right half")),
        }
        description = BundleDescription(**{**values, **options})
        torch.manual_seed(0)
        network = ResEncUNet(architecture)
        nn.init.normal_(network.decoder.seg_layers[-1].weight)  # so that every class wins somewhere
        nn.init.zeros_(network.decoder.seg_layers[-1].bias)
        weights = {name: value.numpy() for name, value in network.state_dict().items()}
        return Bundle(description, weights)

    return make


class Threshold(nn.Module):
    """Stands in for a trained network: label 1 where the first channel is above `level`, its logits linear in it."""

    def __init__(self, level: float) -> None:
        super().__init__()
        self.level = level

    def forward(self, windows_BCZYX: Tensor) -> Tensor:
        bright = windows_BCZYX[:, :1] - self.level
        return torch.cat((-bright, bright, torch.full_like(bright, -100.0)), dim=1)


@pytest.fixture
def use_network(monkeypatch: pytest.MonkeyPatch) -> Callable[[nn.Module], None]:
    """Let every Predictor use a hand-written network instead of the bundle's."""

    def use(network: nn.Module) -> None:
        monkeypatch.setattr("s3d.inference.predictor.network_of", lambda _: network)

    return use


@pytest.fixture
def threshold() -> Callable[[float], nn.Module]:
    """Makes a Threshold network."""
    return Threshold


@pytest.fixture
def noise() -> np.ndarray:
    """A small image with one channel, (channel, z, y, x)."""
    return np.random.default_rng(0).normal(size=(1, 12, 10, 14)).astype(np.float32)
