"""Toy datasets and parents: two bright boxes in noise, a two-stage network, a few steps."""

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK
import torch

from s3d.bundle import BundleDescription, Channel, Label, save_bundle
from s3d.finetuning.config import FinetuneConfig
from s3d.finetuning.material import Material, gather
from s3d.models.presets import Architecture
from s3d.models.resenc_unet import ResEncUNet
from s3d.models.spark import SparkAutoencoder
from s3d.progress import Progress
from s3d.training.distributed import Processes
from s3d.training.interruption import StopRequest

SMALL = Architecture(features=(4, 8), blocks=(1, 1), decoder_convs=(1,))
LABELS = {"Head": 3, "Tail": 300}
PATCH = (16, 16, 16)
SIX = tuple(f"case_{number}" for number in range(6))


def write_dataset(
    folder: Path,
    names: Sequence[str] = SIX,
    labels: dict[str, int] = LABELS,
    channels: Sequence[str] = ("T1",),
    annotated_slices: int | None = None,
) -> Path:
    """nnU-Net raw. Every label is a box of its own brightness, a little elsewhere in each case. Beyond the first
    annotated_slices (if given), labels hold the value of `ignore`."""
    for number, name in enumerate(names):
        random = np.random.default_rng(number)
        image = random.normal(100, 5, (len(channels), 18, 16, 20)).astype(np.float32)
        drawn = np.zeros(image.shape[1:], np.int16)
        for order, (label, value) in enumerate(labels.items()):
            if label != "ignore":
                low = random.integers(1, 4, 3) + np.array((0, 0, 7 * (order % 2)))
                box = tuple(slice(start, start + size) for start, size in zip(low, (11, 9, 6), strict=True))
                drawn[box] = value
                image[:, *box] += 60 * (order + 1)
        if annotated_slices is not None:
            drawn[annotated_slices:] = labels["ignore"]
        for channel, array in enumerate(image):
            _write(folder / "imagesTr" / f"{name}_{channel:04d}.nii.gz", array)
        _write(folder / "labelsTr" / f"{name}.nii.gz", drawn)
    description = {
        "channel_names": {str(number): name for number, name in enumerate(channels)},
        "labels": {"background": 0, **labels},
        "file_ending": ".nii.gz",
        "name": "toy",
    }
    (folder / "dataset.json").write_text(json.dumps(description))
    return folder


def _write(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(array), str(path))


@pytest.fixture
def make_dataset(tmp_path: Path) -> Callable[..., Path]:
    """Write a toy dataset into tmp_path/NAME: make_dataset("data", names, labels=..., channels=...)."""

    def make(name: str = "data", names: Sequence[str] = SIX, **options: Any) -> Path:
        return write_dataset(tmp_path / name, names, **options)

    return make


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six cases with the labels Head 3 and Tail 300. Read only."""
    return write_dataset(tmp_path_factory.mktemp("toy") / "data")


@pytest.fixture
def options(dataset: Path, tmp_path: Path) -> Callable[..., FinetuneConfig]:
    """A few steps of a two-stage network on the toy dataset; keywords replace fields."""

    def make(**changes: Any) -> FinetuneConfig:
        values: dict[str, Any] = {
            "dataset": dataset,
            "output": tmp_path / "run",
            "architecture": SMALL,
            "patch_size": PATCH,
            "steps": 3,
            "augmentation": "none",
            "device": "cpu",
            "precision": "fp32",
            "reader_threads": 1,
        }
        return FinetuneConfig(**{**values, **changes})

    return make


@pytest.fixture
def gathered() -> Callable[[FinetuneConfig], Material]:
    """The material of a run, as finetune gathers it."""
    return lambda config: gather(config, Progress(), Processes())


@pytest.fixture
def make_parent(tmp_path: Path) -> Callable[..., Path]:
    """Save a bundle of random weights. labels: value by name for a segmentation bundle, None for a pre-trained one;
    without: leave out the weights whose names start so; fields of the description by name."""

    def make(
        name: str = "parent",
        labels: dict[str, int] | None = None,
        channels: Sequence[str] = ("T1",),
        without: str | None = None,
        **fields: Any,
    ) -> Path:
        torch.manual_seed(11)
        outputs = len(channels) if labels is None else len(labels) + 1
        architecture = dataclasses.replace(SMALL, input_channels=len(channels), output_channels=outputs)
        network = SparkAutoencoder(architecture) if labels is None else ResEncUNet(architecture)
        weights = {name: torch.randn_like(value).numpy() for name, value in network.named_parameters()}
        if without is not None:
            weights = {name: value for name, value in weights.items() if not name.startswith(without)}
        description = BundleDescription(
            name=name,
            kind="pretrained" if labels is None else "segmentation",
            architecture=architecture,
            channels=tuple(Channel(name=channel) for channel in channels),
            patch_size=PATCH,
            labels=tuple(Label(name=label, value=value) for label, value in (labels or {}).items()),
            **fields,
        )
        path = tmp_path / f"{name}.s3dmodel"
        save_bundle(path, description, weights)
        return path

    return make


@pytest.fixture
def stop_after() -> Callable[[int], StopRequest]:
    """A request to stop that comes after so many steps."""

    class StopAfter(StopRequest):
        def __init__(self, steps: int) -> None:
            super().__init__()
            self._left = steps

        @property
        def is_set(self) -> bool:
            self._left -= 1  # asked once per step
            return self._left <= 0

    return StopAfter
