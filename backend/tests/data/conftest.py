"""Tiny labelled datasets on disk, written without the code under test."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK

SHAPE = (12, 14, 16)
LABELS = {"background": 0, "Head": 3, "Tail": 700, "ignore": 900}


@pytest.fixture(scope="session")
def tiny() -> "type[TinyDatasets]":
    """Functions that write tiny datasets."""
    return TinyDatasets


class TinyDatasets:
    """A name to hold the functions together; tests get it through the fixture `tiny`."""

    @staticmethod
    def write_image(path: Path, array: np.ndarray, spacing_mm: Sequence[float] = (1.0, 1.0, 1.0)) -> None:
        """array (z, y, x) or (t, z, y, x); spacing (x, y, z)."""
        image = SimpleITK.GetImageFromArray(array, isVector=False)
        image.SetSpacing([*spacing_mm, 1.0][: image.GetDimension()])
        path.parent.mkdir(parents=True, exist_ok=True)
        SimpleITK.WriteImage(image, str(path))

    @staticmethod
    def make_intensities(seed: int, shape: Sequence[int] = SHAPE) -> np.ndarray:
        return np.random.default_rng(seed).uniform(10, 90, shape).astype(np.float32)

    @staticmethod
    def make_labels() -> np.ndarray:
        labels = np.zeros(SHAPE, np.int16)
        labels[2:6, 3:8, 4:9] = 3
        labels[7:10, 3:8, 4:9] = 700
        labels[:, :, 14:] = 900
        return labels

    @staticmethod
    def write_description(folder: Path, **changes: Any) -> None:
        """An nnU-Net dataset.json with two channels; a value of None takes the key out."""
        folder.mkdir(parents=True, exist_ok=True)
        values = {
            "name": "Tiny",
            "channel_names": {"1": "FLAIR", "0": "T1"},
            "labels": LABELS,
            "numTraining": 2,
            "file_ending": ".nii.gz",
            "a_key_from_the_future": [1, 2],
            **changes,
        }
        kept = {key: value for key, value in values.items() if value is not None}
        (folder / "dataset.json").write_text(json.dumps(kept), encoding="utf-8")

    @staticmethod
    def write_nnunet(folder: Path, names: Sequence[str] = ("case_1", "case_10"), ending: str = ".nii.gz") -> Path:
        """Two channels; the names are a trap for matching by prefix."""
        TinyDatasets.write_description(folder, file_ending=ending)
        for seed, name in enumerate(names):
            for channel in range(2):
                path = folder / "imagesTr" / f"{name}_{channel:04d}{ending}"
                TinyDatasets.write_image(path, TinyDatasets.make_intensities(10 * seed + channel))
            TinyDatasets.write_image(folder / "labelsTr" / f"{name}{ending}", TinyDatasets.make_labels())
        return folder

    @staticmethod
    def write_msd(folder: Path, names: Sequence[str] = ("brain_001", "brain_002"), **changes: Any) -> Path:
        """Two channels in one 4-D image."""
        training = [{"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"} for name in names]
        modality = {"0": "T1", "1": "FLAIR"}
        labels = {"0": "background", "3": "Head", "700": "Tail", "900": "ignore"}
        values = {"name": "Tiny", "modality": modality, "training": training, "labels": labels, "test": [], **changes}
        for seed, name in enumerate(names):
            TinyDatasets.write_image(
                folder / "imagesTr" / f"{name}.nii.gz", TinyDatasets.make_intensities(seed, (2, *SHAPE))
            )
            TinyDatasets.write_image(folder / "labelsTr" / f"{name}.nii.gz", TinyDatasets.make_labels())
        (folder / "dataset.json").write_text(json.dumps(values), encoding="utf-8-sig")
        return folder
