"""Grids that cannot be placed in a patient are refused, whatever file they come from."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from s3d.data.grid import grid_of
from s3d.data.image_files import read_header, read_labels, read_volume
from s3d.errors import GeometryError, ImageError

UPRIGHT = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)


@pytest.mark.parametrize("ending", [".mha", ".nrrd"])
def test_axes_that_are_not_at_right_angles_are_refused(tmp_path: Path, ending: str) -> None:
    """SimpleITK reads these formats with any axes; every millimetre after that would be wrong."""
    image = sitk.GetImageFromArray(np.arange(60, dtype=np.float32).reshape(3, 4, 5))
    image.SetDirection((1.0, 0.1, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0))
    sitk.WriteImage(image, str(tmp_path / f"image{ending}"))
    for read in (read_header, read_volume):
        with pytest.raises(GeometryError, match=rf"axes of .*image{ending} are not at right angles\. Resample it"):
            read(tmp_path / f"image{ending}")


@pytest.mark.parametrize(
    ("size", "spacing", "origin"),
    [
        ((4, 5, 6), (0.0, 1.0, 1.0), (0.0, 0.0, 0.0)),
        ((4, 5, 6), (1.0, np.nan, 1.0), (0.0, 0.0, 0.0)),
        ((4, 5, 6), (1.0, 1.0, 1.0), (0.0, np.inf, 0.0)),
        ((4, 0, 6), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0)),
    ],
)
def test_an_impossible_grid_is_refused_with_its_numbers(
    size: tuple[int, ...], spacing: tuple[float, ...], origin: tuple[float, ...]
) -> None:
    with pytest.raises(GeometryError, match=r"image\.nii has an impossible grid: size .* spacing .* origin"):
        grid_of(Path("image.nii"), size, spacing, origin, UPRIGHT)


def test_cosines_rounded_by_a_header_are_accepted() -> None:
    rounded = tuple(value + 1e-5 for value in UPRIGHT)
    assert grid_of(Path("image.nii"), (4, 5, 6), (1.0, 2.0, 3.0), (0.0, 0.0, 0.0), rounded).shape == (6, 5, 4)


def test_spacing_and_shape_count_from_z() -> None:
    turned = (0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0)
    grid = grid_of(Path("image.nii"), (4, 5, 6), (1.0, 2.0, 3.0), (7.0, 8.0, 9.0), turned)
    assert (grid.shape, grid.spacing_mm, grid.origin_mm) == ((6, 5, 4), (3.0, 2.0, 1.0), (7.0, 8.0, 9.0))
    assert grid.direction == turned


@pytest.mark.parametrize("ending", [".nii.gz", ".mha", ".nrrd", ".png"])
def test_a_2d_image_is_refused(tmp_path: Path, ending: str) -> None:
    """Its result would be 3-D, not on the image's own grid."""
    pixels = np.arange(60, dtype=np.uint8).reshape(6, 10)
    sitk.WriteImage(sitk.GetImageFromArray(pixels), str(tmp_path / f"image{ending}"))
    for read in (read_header, read_volume, read_labels):
        with pytest.raises(ImageError, match=rf"image{ending} is a 2-D image .*10 x 6.*three axes"):
            read(tmp_path / f"image{ending}")
