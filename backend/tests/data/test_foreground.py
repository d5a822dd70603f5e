from pathlib import Path

import numpy as np
import pytest

from s3d.data.foreground import POSITIONS_PER_VALUE, read_positions, sample_positions
from s3d.errors import DatasetError


def make_labels() -> np.ndarray:
    labels = np.zeros((40, 30, 20), np.int32)
    labels[3:30] = 700  # 16,200 voxels: more than are kept
    labels[5, 6, 7] = 2
    labels[30:32, ::2] = 31
    labels[35, 1, 1] = -100_000
    return labels


def read_back(folder: Path, labels: np.ndarray) -> dict[int, np.ndarray]:
    counts, positions = sample_positions(labels)
    np.save(folder / "foreground.npy", positions)
    return read_positions(folder / "foreground.npy", counts)


def test_every_position_carries_its_label(tmp_path: Path) -> None:
    labels = make_labels()
    found = read_back(tmp_path, labels)
    assert list(found) == [-100_000, 2, 31, 700]
    for value, positions in found.items():
        assert positions.dtype == np.int32
        assert (labels[tuple(positions.T)] == value).all()
        assert len(np.unique(positions, axis=0)) == len(positions)


def test_small_structures_are_kept_whole_and_large_ones_sampled_evenly(tmp_path: Path) -> None:
    labels = make_labels()
    found = read_back(tmp_path, labels)
    np.testing.assert_array_equal(found[31], np.argwhere(labels == 31))
    assert len(found[700]) == POSITIONS_PER_VALUE
    everywhere = np.argwhere(labels == 700)
    assert abs(found[700].mean(axis=0) - everywhere.mean(axis=0)).max() < 0.3  # 5 standard errors of the widest axis


def test_the_same_labels_give_the_same_sample() -> None:
    np.testing.assert_array_equal(sample_positions(make_labels())[1], sample_positions(make_labels())[1])


def test_labels_without_foreground_have_no_positions(tmp_path: Path) -> None:
    assert read_back(tmp_path, np.zeros((3, 4, 5), np.int32)) == {}


def test_a_file_that_is_gone_or_holds_too_little_is_refused(tmp_path: Path) -> None:
    read_back(tmp_path, make_labels())
    path = tmp_path / "foreground.npy"
    with pytest.raises(DatasetError, match="instead of 5"):
        read_positions(path, {1: 5})
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DatasetError, match="missing or damaged"):
        read_positions(path, {700: POSITIONS_PER_VALUE})
    path.unlink()
    with pytest.raises(DatasetError, match="missing or damaged"):
        read_positions(path, {700: POSITIONS_PER_VALUE})
