"""Masks that the tests of this folder share."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK


@pytest.fixture(scope="session")
def hippocampus_labels(test_data: Path) -> list[np.ndarray]:
    """Anterior (1) and posterior (2) hippocampus of four subjects, (z, y, x)."""
    files = sorted((test_data / "msd_task04_hippocampus" / "labelsTr").glob("*.nii.gz"))[:4]
    return [SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(file)) for file in files]


@pytest.fixture
def ball() -> np.ndarray:
    """A ball of radius 5 voxels in a volume of 20 x 22 x 24."""
    z, y, x = np.indices((20, 22, 24))
    return (z - 9) ** 2 + (y - 10) ** 2 + (x - 11) ** 2 <= 25
