"""Tiny labelled datasets that a network can learn from in a few steps: a bright box in noise."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK

SHAPE = (16, 14, 12)


@pytest.fixture
def make_dataset(tmp_path: Path) -> Callable[..., Path]:
    """Writes an nnU-Net raw dataset named Boxes of so many cases and channels."""

    def make(cases: int, channels: int = 1) -> Path:
        folder = tmp_path / "boxes"
        for number in range(cases):
            random = np.random.default_rng(number)
            z, y, x = random.integers(1, 7, 3)
            labels = np.zeros(SHAPE, np.uint8)
            labels[z : z + 5, y : y + 6, x : x + 5] = 2
            for channel in range(channels):
                image = random.normal(100, 5, SHAPE) + (50 + 10 * channel) * labels
                _write(folder / "imagesTr" / f"box_{number:02d}_{channel:04d}.nii.gz", image.astype(np.float32))
            _write(folder / "labelsTr" / f"box_{number:02d}.nii.gz", labels)
        values = {
            "name": "Boxes",
            "channel_names": {str(channel): f"Channel {channel}" for channel in range(channels)},
            "labels": {"background": 0, "box": 2},
            "file_ending": ".nii.gz",
        }
        (folder / "dataset.json").write_text(json.dumps(values))
        return folder

    return make


def _write(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(array), str(path))
