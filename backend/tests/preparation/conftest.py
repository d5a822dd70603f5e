"""Small made-up images on disk."""

from pathlib import Path
from typing import Protocol

import numpy as np
import pytest

from s3d.data.image_files import Grid, Volume, write_labels, write_volume


def grid(shape: tuple[int, int, int], spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> Grid:
    return Grid(shape=shape, spacing_mm=spacing_mm, origin_mm=(0, 0, 0), direction=(1, 0, 0, 0, 1, 0, 0, 0, 1))


class ImageWriter(Protocol):
    def __call__(
        self, path: Path, seed: int = 0, shape: tuple[int, int, int] = ..., spacing_mm: tuple[float, float, float] = ...
    ) -> np.ndarray: ...


@pytest.fixture
def write_image() -> ImageWriter:
    """Write noise between 1 and 2 to a path; the same seed gives the same content. Returns it, (z, y, x)."""

    def write(
        path: Path,
        seed: int = 0,
        shape: tuple[int, int, int] = (12, 14, 16),
        spacing_mm: tuple[float, float, float] = (5.0, 5.0, 5.0),
    ) -> np.ndarray:
        voxels = np.random.default_rng(seed).uniform(1, 2, shape).astype(np.float32)
        write_volume(path, Volume(voxels[None], grid(shape, spacing_mm)))
        return voxels

    return write


def write_mask(path: Path, mask: np.ndarray, spacing_mm: tuple[float, float, float] = (5.0, 5.0, 5.0)) -> None:
    depth, height, width = mask.shape
    write_labels(path, mask.astype(np.uint8), grid((depth, height, width), spacing_mm))


@pytest.fixture
def mask_writer():
    """write(path, mask, spacing_mm): a bool array (z, y, x) as a file."""
    return write_mask
