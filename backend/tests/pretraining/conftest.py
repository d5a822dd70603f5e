"""A small real case store with structure that can be learnt, and the options that train on it in seconds."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from s3d.data.case_record import StoreDescription
from s3d.data.case_store import CaseStore
from s3d.models.presets import Architecture
from s3d.pretraining.config import PretrainConfig

PATCH = (16, 16, 16)
SHAPE = (20, 18, 22)


def smooth_image(seed: int) -> np.ndarray:
    """float32 (1, z, y, x): noise smoothed over two voxels, z-scored, so that a hidden voxel can be guessed."""
    smooth = gaussian_filter(np.random.default_rng(seed).standard_normal(SHAPE), 2.0)
    return ((smooth - smooth.mean()) / smooth.std()).astype(np.float32)[None]


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> CaseStore:
    """Four smooth images of one channel."""
    made = CaseStore.create(tmp_path_factory.mktemp("pretraining") / "store", StoreDescription(channels=("MR",)))
    for number in range(4):
        made.write(f"case{number}", smooth_image(number))
    return made


@pytest.fixture
def options(store: CaseStore, tmp_path: Path) -> Callable[..., PretrainConfig]:
    """The options of a run of two steps on that store; keywords change them."""

    def make(**changes: Any) -> PretrainConfig:
        values: dict[str, Any] = {
            "store": store.folder,
            "output": tmp_path / "run",
            "architecture": Architecture(features=(4, 8), blocks=(1, 1), decoder_convs=(1,)),
            "patch_size": PATCH,
            "steps": 2,
            "batch_size": 2,
            "log_every": 1,
            "device": "cpu",
            "precision": "fp32",
            "reader_threads": 1,
        }
        return PretrainConfig(**(values | changes))

    return make
