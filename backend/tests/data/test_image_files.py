"""Image files: what is written is read back in its place; what is broken is refused in one sentence."""

import gzip
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from s3d.data.dicom_series import list_dicom_series, read_dicom_series
from s3d.data.image_files import (
    Grid,
    Volume,
    read_channels,
    read_header,
    read_labels,
    read_volume,
    same_grid,
    write_labels,
    write_volume,
)
from s3d.errors import GeometryError, ImageError, LabelError, StorageError

OBLIQUE = (0.8, -0.6, 0.0, 0.6, 0.8, 0.0, 0.0, 0.0, -1.0)
GRID = Grid((4, 5, 6), (3.0, 2.0, 1.0), (10.0, -20.0, 30.0), OBLIQUE)
NOISE = np.random.default_rng(0).normal(100, 20, size=(1, *GRID.shape)).astype(np.float32)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image.nii.gz"
    write_volume(path, Volume(NOISE, GRID))
    return path


@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".nrrd", ".mha"])
def test_an_image_comes_back_with_its_grid(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"image{ending}"
    write_volume(path, Volume(NOISE, GRID))
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.voxels, NOISE)
    assert same_grid(volume.grid, GRID)
    header = read_header(path)
    assert (header.grid.shape, header.channels, header.bytes) == (GRID.shape, 1, path.stat().st_size)


@pytest.mark.parametrize(
    ("highest", "kind"), [(3, "8-bit unsigned"), (300, "16-bit signed"), (70_000, "32-bit signed")]
)
def test_labels_come_back_in_the_smallest_type_that_holds_them(highest: int, kind: str, tmp_path: Path) -> None:
    labels = np.zeros(GRID.shape, np.int32)
    labels[1, 2, 3] = highest
    write_labels(tmp_path / "labels.nii.gz", labels, GRID)
    found, grid = read_labels(tmp_path / "labels.nii.gz")
    np.testing.assert_array_equal(found, labels)
    assert same_grid(grid, GRID)
    assert kind in read_header(tmp_path / "labels.nii.gz").pixel_type


def test_several_channels_come_back_in_order(tmp_path: Path) -> None:
    channels = np.concatenate([NOISE, NOISE + 50, NOISE - 50])
    write_volume(tmp_path / "image.nrrd", Volume(channels, GRID))
    np.testing.assert_array_equal(read_volume(tmp_path / "image.nrrd", channels=3).voxels, channels)


def test_a_4d_image_is_read_only_where_its_channels_are_named(tmp_path: Path) -> None:
    path = tmp_path / "image.nii.gz"
    sitk.WriteImage(sitk.JoinSeries([sitk.GetImageFromArray(NOISE[0] + add) for add in (0, 50)]), str(path))
    assert read_volume(path, channels=2).voxels.shape == (2, *GRID.shape)
    with pytest.raises(ImageError, match="holds 2 volumes or channels; one is expected"):
        read_volume(path)
    with pytest.raises(ImageError, match="holds 2 channels, 3 are expected"):
        read_volume(path, channels=3)


def test_a_channel_on_another_grid_is_resampled_onto_the_first_in_physical_space(tmp_path: Path) -> None:
    z, y, x = np.meshgrid(*map(np.arange, (20, 20, 20)), indexing="ij")
    ramp = (x + 2 * y + 3 * z).astype(np.float32)
    identity = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
    first = Grid((10, 10, 10), (1.0, 1.0, 1.0), (4.0, 4.0, 4.0), identity)
    write_volume(tmp_path / "a.nii.gz", Volume(ramp[None, :10, :10, :10], first))
    second = Grid((20, 20, 20), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), identity)
    write_volume(tmp_path / "b.nii.gz", Volume(ramp[None], second))
    volume = read_channels([tmp_path / "a.nii.gz", tmp_path / "b.nii.gz"], expected=2)
    np.testing.assert_allclose(volume.voxels[1], ramp[4:14, 4:14, 4:14], atol=1e-4)
    assert volume.grid == read_volume(tmp_path / "a.nii.gz").grid


def test_the_number_of_channel_files_is_checked(image: Path) -> None:
    with pytest.raises(ImageError, match="3 channels are expected but 2 files are given"):
        read_channels([image, image], expected=3)


@pytest.mark.parametrize("kept", [0.2, 0.6, 0.95])
def test_a_truncated_compressed_image_is_refused(kept: float, image: Path) -> None:
    data = image.read_bytes()
    image.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(ImageError, match=r"image\.nii\.gz .*(truncated|cannot be read)"):
        read_volume(image)


def test_a_whole_gzip_stream_with_too_few_voxels_is_refused(image: Path) -> None:
    image.write_bytes(gzip.compress(gzip.decompress(image.read_bytes())[:-50]))
    with pytest.raises(ImageError, match=r"image\.nii\.gz is truncated: \d+ of \d+ bytes"):
        read_volume(image)


def test_a_truncated_plain_image_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "image.nii"
    write_volume(path, Volume(NOISE, GRID))
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(ImageError, match=r"image\.nii is truncated"):
        read_volume(path)


def test_a_damaged_byte_in_the_stream_is_refused(image: Path) -> None:
    data = bytearray(image.read_bytes())
    data[len(data) // 2] ^= 0xFF
    image.write_bytes(data)
    with pytest.raises(ImageError, match=r"image\.nii\.gz"):
        read_volume(image)


@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".nrrd", ".mha"])
def test_a_text_file_with_an_images_name_is_refused(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"image{ending}"
    path.write_text("this is no image\n" * 100)
    with pytest.raises(ImageError, match="cannot be read as an image"):
        read_volume(path)


def test_a_missing_image_is_named(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"There is no image file .*nowhere\.nii\.gz"):
        read_volume(tmp_path / "nowhere.nii.gz")


@pytest.mark.parametrize(
    ("value", "message"), [(np.nan, "NaN or infinite"), (np.inf, "NaN or infinite"), (None, "value 5 everywhere")]
)
def test_an_image_that_shows_nothing_is_refused(value: float | None, message: str, tmp_path: Path) -> None:
    voxels = NOISE.copy() if value is not None else np.full_like(NOISE, 5)
    if value is not None:
        voxels[0, 1, 1, 1] = value
    write_volume(tmp_path / "image.nii.gz", Volume(voxels, GRID))
    with pytest.raises(ImageError, match=message):
        read_volume(tmp_path / "image.nii.gz")


def test_labels_that_are_not_whole_numbers_are_refused(image: Path) -> None:
    with pytest.raises(LabelError, match="labels are whole numbers"):
        read_labels(image)


def test_nearly_whole_labels_are_rounded(tmp_path: Path) -> None:
    voxels = np.zeros((1, *GRID.shape), np.float32)
    voxels[0, 1] = 0.99999998
    write_volume(tmp_path / "mask.nii.gz", Volume(voxels, GRID))
    assert set(np.unique(read_labels(tmp_path / "mask.nii.gz")[0])) == {0, 1}


def test_an_impossible_grid_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "image.mha"
    write_volume(path, Volume(NOISE, GRID))
    data = path.read_bytes()
    path.write_bytes(data.replace(b"ElementSpacing = 1 2 3", b"ElementSpacing = 0 2 3"))
    assert path.read_bytes() != data
    with pytest.raises((GeometryError, ImageError), match=r"image\.mha"):
        read_volume(path)


def test_an_unknown_ending_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"its ending must be one of \.nii\.gz"):
        write_labels(tmp_path / "labels.jpg", np.zeros(GRID.shape, np.uint8), GRID)


def test_a_failed_writing_leaves_the_old_file(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = image.read_bytes()

    def fail(*_arguments: object, **_options: object) -> None:
        raise RuntimeError("itk::ERROR: NiftiImageIO: No space left on device")

    monkeypatch.setattr(sitk, "WriteImage", fail)
    with pytest.raises(StorageError, match="cannot be written"):
        write_volume(image, Volume(NOISE + 1, GRID))
    assert image.read_bytes() == before
    assert [path.name for path in image.parent.iterdir()] == [image.name]


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"origin_mm": (10.001, -20.0, 30.0)}, True),
        ({"origin_mm": (10.5, -20.0, 30.0)}, False),
        ({"spacing_mm": (3.0, 2.0, 1.01)}, False),
        ({"shape": (4, 5, 7)}, False),
        ({"direction": (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)}, False),
    ],
)
def test_grids_are_the_same_up_to_rounding(change: dict[str, object], same: bool) -> None:
    assert same_grid(GRID, replace(GRID, **change)) is same  # type: ignore[arg-type]


def test_a_grid_says_where_it_is() -> None:
    assert str(GRID) == "4 x 5 x 6 voxels of 3 x 2 x 1 mm (z, y, x) from (10, -20, 30) mm"


def test_a_real_channel_on_another_grid_joins_the_first(test_data: Path) -> None:
    folder = test_data / "isles22_case0009/rawdata/sub-strokecase0009/ses-0001"
    paths = [folder / f"sub-strokecase0009_ses-0001_{name}.nii.gz" for name in ("dwi", "adc", "flair")]
    dwi, flair = read_volume(paths[0]), read_volume(paths[2])
    assert not same_grid(dwi.grid, flair.grid)
    volume = read_channels(paths, expected=3)
    assert volume.grid == dwi.grid
    brain = dwi.voxels[0] > 0
    assert (volume.voxels[2][brain] > 0).mean() > 0.9


def test_real_dicom_series_are_found_and_read_without_names(test_data: Path) -> None:
    found = list_dicom_series(test_data / "tcia_brain_tumor_progression_dicom")
    assert found
    for series in found:
        assert series.modality == "MR"
        assert "PGBM" not in f"{series.patient}{series.tags}"
        volume = read_dicom_series(series.folder, series.series_id)
        assert volume.voxels.shape == (1, len(series.files), *volume.grid.shape[1:])
        assert volume.grid.spacing_mm[0] == pytest.approx(6.5)


def test_a_missing_dicom_series_is_named(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"holds no DICOM series 1\.2\.3"):
        read_dicom_series(tmp_path, "1.2.3")
    assert list_dicom_series(tmp_path) == []


@pytest.mark.parametrize("kept_bytes", [0, 3000, 150_000])
def test_a_series_with_a_damaged_slice_is_refused(kept_bytes: int, test_data: Path, tmp_path: Path) -> None:
    source = list_dicom_series(test_data / "tcia_brain_tumor_progression_dicom")[0]
    for file in source.files[:5]:
        shutil.copy(file, tmp_path / file.name)
    damaged = tmp_path / source.files[2].name
    damaged.write_bytes(damaged.read_bytes()[:kept_bytes])
    with pytest.raises(ImageError, match="not evenly spaced"):
        read_dicom_series(tmp_path, source.series_id)
