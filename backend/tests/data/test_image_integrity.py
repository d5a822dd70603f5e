"""No damaged, cut or half-written file is ever taken for an image."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from s3d.data.grid import Grid, Volume
from s3d.data.image_files import ENDINGS, read_labels, read_volume, write_labels, write_volume
from s3d.errors import ImageError, StorageError

resource = pytest.importorskip("resource", reason="no limits of file sizes on Windows")

IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
GRID = Grid((20, 22, 24), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), IDENTITY)
VOXELS = np.random.default_rng(0).normal(100, 20, size=(1, *GRID.shape)).astype(np.float32)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one image in every format."""
    folder = tmp_path_factory.mktemp("whole")
    for ending in ENDINGS:
        write_volume(folder / f"image{ending}", Volume(VOXELS, GRID))
    return folder


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ending=st.sampled_from(ENDINGS), share=st.floats(0, 1, exclude_max=True))
def test_a_file_cut_anywhere_is_refused(whole: Path, tmp_path: Path, ending: str, share: float) -> None:
    path = tmp_path / f"image{ending}"
    data = (whole / path.name).read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(ImageError, match=r"image\.(nii|nrrd|mha)"):
        read_volume(path)


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("missing", [1, 4, 8])
def test_a_file_that_lacks_its_last_bytes_is_refused(whole: Path, tmp_path: Path, ending: str, missing: int) -> None:
    path = tmp_path / f"image{ending}"
    path.write_bytes((whole / path.name).read_bytes()[:-missing])
    with pytest.raises(ImageError, match=r"(truncated|damaged)"):
        read_volume(path)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ending=st.sampled_from([".nii.gz", ".nrrd", ".mha"]), share=st.floats(0.1, 0.99), bit=st.integers(0, 7))
def test_a_flipped_bit_in_a_compressed_stream_is_refused(
    whole: Path, tmp_path: Path, ending: str, share: float, bit: int
) -> None:
    path = tmp_path / f"image{ending}"
    data = bytearray((whole / path.name).read_bytes())
    data[int(share * len(data))] ^= 1 << bit
    path.write_bytes(data)
    with pytest.raises(ImageError, match=r"is damaged or truncated"):
        read_volume(path)


def test_a_plain_image_named_as_compressed_is_told_so(whole: Path, tmp_path: Path) -> None:
    path = tmp_path / "image.nii.gz"
    path.write_bytes((whole / "image.nii").read_bytes())
    with pytest.raises(ImageError, match=r"is not compressed, although its name ends in \.gz.*Rename it"):
        read_volume(path)


@pytest.mark.parametrize("ending", [".nii.gz", ".nii"])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_the_last_voxel_may_not_be_nan_in_images_and_in_labels(
    tmp_path: Path, ending: str, kind: type, value: float
) -> None:
    """SimpleITK's NIfTI reader would make it 0, which is a good label."""
    voxels = np.ones(GRID.shape, kind)
    voxels[0], voxels[-1, -1, -1] = 2, value
    path = tmp_path / f"image{ending}"
    sitk.WriteImage(sitk.GetImageFromArray(voxels), str(path))
    for read in (read_volume, read_labels):
        with pytest.raises(ImageError, match="holds NaN or infinite values"):
            read(path)


@pytest.fixture
def full_disk() -> Iterator[None]:
    """No file can grow beyond 8 kB: the operating system itself refuses, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.usefixtures("full_disk")
@pytest.mark.parametrize("ending", ENDINGS)
def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path, ending: str) -> None:
    """SimpleITK's NIfTI writer says nothing and leaves a truncated file."""
    labels = np.random.default_rng(0).integers(0, 60000, size=GRID.shape)
    for write in (
        lambda path: write_volume(path, Volume(VOXELS, GRID)),
        lambda path: write_labels(path, labels, GRID),
    ):
        with pytest.raises(StorageError, match=r"result\.\w+(\.gz)? cannot be written whole .*free some space"):
            write(tmp_path / f"result{ending}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_every_real_image_is_read_or_refused_in_a_sentence(test_data: Path) -> None:
    paths = [path for path in sorted(test_data.rglob("*")) if path.name.endswith(ENDINGS)]
    assert len(paths) > 50
    refused = {}
    for path in paths:
        try:
            voxels = read_volume(path).voxels
        except ImageError as error:
            refused[path] = str(error)
        else:
            assert np.isfinite(voxels).all()
    assert all(str(path) in sentence for path, sentence in refused.items())
    assert len(refused) < len(paths) / 10
