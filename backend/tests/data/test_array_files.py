from concurrent.futures import ThreadPoolExecutor
from math import ceil
from pathlib import Path

import blosc2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s3d.data.array_files import Box, layout, read_box, write_array
from s3d.errors import DatasetError

SHAPE = (2, 70, 45, 33)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    # few distinct values: compressible, so that a damaged block cannot be decompressed unnoticed
    array = np.random.default_rng(0).integers(0, 4, SHAPE).astype(np.float32)
    path = tmp_path_factory.mktemp("arrays") / "image.b2nd"
    assert write_array(path, array, threads=1) == path.stat().st_size
    return path, array


def slow_read(array: np.ndarray, box: Box, pad_value: float) -> np.ndarray:
    """Look every voxel up on its own; one that does not exist is pad_value."""
    wanted = [np.arange(start, stop) for start, stop in box]
    nearest = [index.clip(0, size - 1) for index, size in zip(wanted, array.shape[1:], strict=True)]
    z, y, x = (index == near for index, near in zip(wanted, nearest, strict=True))
    voxels = array[(slice(None), *np.ix_(*nearest))]
    return np.where(z[:, None, None] & y[:, None] & x, voxels, np.array(pad_value, array.dtype))


intervals = st.tuples(st.integers(-60, 120), st.integers(1, 70)).map(lambda pair: (pair[0], pair[0] + pair[1]))


@settings(deadline=None)
@given(box=st.tuples(intervals, intervals, intervals), pad_value=st.sampled_from([0.0, 7.0]))
def test_any_box_equals_padding_first_and_cutting_then(
    stored: tuple[Path, np.ndarray], box: Box, pad_value: float
) -> None:
    path, array = stored
    found = read_box(path, box, pad_value, threads=1)
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, slow_read(array, box, pad_value))


def test_without_a_box_the_whole_array_comes_back(stored: tuple[Path, np.ndarray]) -> None:
    path, array = stored
    np.testing.assert_array_equal(read_box(path, None, 0.0, threads=2), array)


@given(st.tuples(*[st.integers(1, 400)] * 3))
def test_blocks_are_small_and_evenly_cut(shape: tuple[int, int, int]) -> None:
    chunks, blocks = layout(shape)
    for size, chunk, block in zip(shape, chunks, blocks, strict=True):
        assert block <= 32
        assert chunk % block == 0
        assert chunk <= 128
        assert ceil(size / block) * block - size < ceil(size / 32)  # less than one voxel of padding per block
    assert layout((3, *shape)) == ((1, *chunks), (1, *blocks))


def test_a_read_decompresses_only_the_blocks_it_touches(stored: tuple[Path, np.ndarray], tmp_path: Path) -> None:
    """Break one stored block: only boxes that touch it may notice, though the whole volume is one chunk."""
    path, array = stored
    assert blosc2.open(str(path), mode="r").schunk.nchunks == SHAPE[0]
    damaged = tmp_path / "image.b2nd"
    data = bytearray(path.read_bytes())
    middle = len(data) // 4  # in the first of two equal chunks
    data[middle : middle + 64] = bytes([0xA5]) * 64
    damaged.write_bytes(data)
    blocks = layout(SHAPE)[1][1:]
    counts = [ceil(size / block) for size, block in zip(SHAPE[1:], blocks, strict=True)]
    noticed = [index for index in np.ndindex(*counts) if not reads_well(damaged, array, box_of(index, blocks))]
    assert 1 <= len(noticed) <= 2  # 64 bytes may lie across the border of two blocks
    assert np.prod(counts) > 10


def box_of(index: tuple[int, ...], blocks: tuple[int, ...]) -> Box:
    (z, y, x), (depth, height, width) = index, blocks
    return ((z * depth, (z + 1) * depth), (y * height, (y + 1) * height), (x * width, (x + 1) * width))


def reads_well(path: Path, array: np.ndarray, box: Box) -> bool:
    try:
        return bool(np.array_equal(read_box(path, box, 0.0, threads=1), slow_read(array, box, 0.0)))
    except DatasetError:
        return False


def test_many_threads_read_what_one_reads(stored: tuple[Path, np.ndarray]) -> None:
    path, array = stored
    corners = np.random.default_rng(1).integers(-10, 40, (200, 3))
    boxes = [tuple((int(c), int(c) + 24) for c in corner) for corner in corners]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda box: read_box(path, box, 0.0, threads=1), boxes))
    for box, voxels in zip(boxes, found, strict=True):
        np.testing.assert_array_equal(voxels, slow_read(array, box, 0.0))


@pytest.mark.parametrize("kept", [0, 10, 0.5, -10])
def test_a_truncated_file_is_refused_with_a_remedy(
    stored: tuple[Path, np.ndarray], tmp_path: Path, kept: float
) -> None:
    data = stored[0].read_bytes()
    path = tmp_path / "image.b2nd"
    path.write_bytes(data[: int(kept * len(data)) if isinstance(kept, float) else kept])
    with pytest.raises(DatasetError, match=r"image\.b2nd is missing or damaged .* preprocess the case again"):
        read_box(path, None, 0.0, threads=1)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="missing or damaged"):
        read_box(tmp_path / "image.b2nd", None, 0.0, threads=1)
