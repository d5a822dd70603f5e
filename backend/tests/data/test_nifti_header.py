"""Headers that SimpleITK would believe: sizes, spacing and places that cannot be."""

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from s3d.data.image_files import read_header, read_volume
from s3d.data.nifti_header import HEADER_BYTES, parse_header
from s3d.errors import GeometryError, ImageError, S3DError

SHAPE = (4, 5, 6)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """int16, uncompressed, spacing 2 x 1.5 x 3 mm."""
    path = tmp_path / "image.nii"
    voxels = sitk.GetImageFromArray(np.arange(4 * 5 * 6, dtype=np.int16).reshape(SHAPE))
    voxels.SetSpacing((2.0, 1.5, 3.0))
    sitk.WriteImage(voxels, str(path))
    return path


def change(path: Path, at: int, kind: str, *values: float) -> None:
    data = bytearray(path.read_bytes())
    struct.pack_into("<" + kind, data, at, *values)
    path.write_bytes(data)


@pytest.mark.parametrize("read", [read_volume, read_header])
@pytest.mark.parametrize(
    ("at", "kind", "value", "error", "message"),
    [
        (80, "f", 0.0, GeometryError, r"impossible grid: spacing \(0\.0, 1\.5, 3\.0\) mm"),
        (84, "f", float("nan"), GeometryError, r"impossible grid: spacing \(2\.0, nan, 3\.0\) mm"),
        (40, "h", 99, ImageError, "damaged header: 99 dimensions"),
        (42, "h", 0, ImageError, r"damaged header: 3 dimensions, sizes \(0, 5, 4"),
        (72, "h", -5, ImageError, "damaged header: voxels of -5 bits"),
        (108, "f", float("nan"), ImageError, "damaged header: .* from byte nan"),
        (108, "f", float("inf"), ImageError, "damaged header: .* from byte inf"),
        (108, "f", -1.0, ImageError, "damaged header: .* from byte -1"),
        (344, "i", 0, ImageError, "cannot be read as an image: it is no NIfTI file"),
    ],
)
def test_an_impossible_header_is_refused_with_its_value(
    image: Path, read: Callable[[Path], object], at: int, kind: str, value: float, error: type[S3DError], message: str
) -> None:
    change(image, at, kind, value)
    with pytest.raises(error, match=rf"image\.nii .*{message}"):
        read(image)


def test_more_voxels_than_bytes_are_noticed_before_memory_is_asked_for(image: Path) -> None:
    change(image, 42, "3h", 30000, 30000, 30000)
    with pytest.raises(ImageError, match=r"is truncated: 240 of 54000000000000 bytes"):
        read_volume(image)


def nifti_1(order: str) -> bytes:
    header = bytearray(HEADER_BYTES)
    struct.pack_into(order + "8h", header, 40, 3, 6, 5, 4, 1, 1, 1, 1)
    struct.pack_into(order + "2h", header, 70, 16, 32)
    struct.pack_into(order + "8f", header, 76, 1, 2, 1.5, -3, 0, 0, 0, 0)
    struct.pack_into(order + "f", header, 108, 352)
    header[344:348] = b"n+1\0"
    return bytes(header)


def nifti_2(order: str) -> bytes:
    header = bytearray(HEADER_BYTES)
    header[4:8] = b"n+2\0"
    struct.pack_into(order + "2h", header, 12, 16, 32)
    struct.pack_into(order + "8q", header, 16, 3, 6, 5, 4, 1, 1, 1, 1)
    struct.pack_into(order + "8d", header, 104, 1, 2, 1.5, -3, 0, 0, 0, 0)
    struct.pack_into(order + "q", header, 168, 544)
    return bytes(header)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("make", "start"), [(nifti_1, 352), (nifti_2, 544)])
def test_both_versions_are_understood_in_both_byte_orders(make: Callable[[str], bytes], start: int, order: str) -> None:
    voxels = parse_header(Path("image.nii"), make(order))
    assert (voxels.start, voxels.length, voxels.float_type) == (start, 6 * 5 * 4 * 4, np.dtype(order + "f4"))


def test_a_sheared_image_is_refused(image: Path) -> None:
    change(image, 252, "2h", 0, 2)
    change(image, 280, "12f", 2, 0.6, 0, 0, 0, 1.5, 0, 0, 0, 0, 3, 0)
    with pytest.raises(GeometryError, match=r"axes of .*image\.nii are not at right angles\. Resample it"):
        read_volume(image)
