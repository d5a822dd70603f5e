"""Image files as arrays with a grid, and back: NIfTI, NRRD, MetaImage through SimpleITK.

The border of the package: every check on what a file holds happens here, and nothing else touches SimpleITK images.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from s3d.atomic_files import atomic_path
from s3d.data.image_integrity import check_whole
from s3d.errors import GeometryError, ImageError, LabelError, StorageError

ENDINGS = (".nii.gz", ".nii", ".nrrd", ".mha")
"""What is written; reading takes whatever SimpleITK reads."""
_SPACING_TOLERANCE = 1e-3
"""Of the spacing; headers store it in single precision and programs round differently."""
_DIRECTION_TOLERANCE = 1e-3
_ORIGIN_TOLERANCE_VOXELS = 1e-2
_LABEL_TOLERANCE = 1e-3
_SMALLEST_SLICE_COSINES = 1e-6

sitk.ProcessObject.GlobalWarningDisplayOff()


@dataclass(frozen=True)
class Grid:
    """Where voxels lie in the patient."""

    shape: tuple[int, int, int]
    """Voxels (z, y, x)."""
    spacing_mm: tuple[float, float, float]
    """(z, y, x)."""
    origin_mm: tuple[float, float, float]
    """Centre of the first voxel, (x, y, z) in LPS."""
    direction: tuple[float, ...]
    """Nine cosines, row-major as SimpleITK: column i is where array axis i of (x, y, z) points in LPS."""

    def __str__(self) -> str:
        size = " x ".join(map(str, self.shape))
        spacing = " x ".join(f"{value:.4g}" for value in self.spacing_mm)
        origin = ", ".join(f"{value:.4g}" for value in self.origin_mm)
        return f"{size} voxels of {spacing} mm (z, y, x) from ({origin}) mm"


@dataclass(frozen=True)
class Volume:
    """An image of one or more channels."""

    voxels: np.ndarray
    """float32 (channel, z, y, x)."""
    grid: Grid


@dataclass(frozen=True)
class ImageHeader:
    """What a file says of itself before any voxel is read."""

    grid: Grid
    channels: int
    """Volumes of a 4-D image or components of a vector image."""
    bytes: int
    """Size of the file."""
    pixel_type: str
    """As SimpleITK names it."""


def read_header(path: Path) -> ImageHeader:
    """The header alone. Raises ImageError, GeometryError."""
    reader = _reader(path)
    size, spacing = reader.GetSize(), reader.GetSpacing()
    volumes = int(np.prod(size[3:], dtype=int)) if len(size) > 3 else 1
    grid = _grid(path, size, spacing, reader.GetOrigin(), reader.GetDirection())
    pixel_type = sitk.GetPixelIDValueAsString(reader.GetPixelID())
    return ImageHeader(grid, volumes * reader.GetNumberOfComponents(), path.stat().st_size, pixel_type)


def read_volume(path: Path, channels: int | None = None) -> Volume:
    """The image of a file. channels: how many a 4-D image must hold; without it only a 3-D image will do.

    Raises ImageError: missing, truncated or damaged file, NaN or infinite values, one value everywhere, other number of
    channels; GeometryError: an impossible grid.
    """
    voxels, grid = _read(path, sitk.sitkFloat32, channels)
    if not np.isfinite(voxels).all():
        raise ImageError(f"{path} holds NaN or infinite values. Replace them, or export the image again.")
    for number, channel in enumerate(voxels):
        if channel.min() == channel.max():
            which = f"channel {number} of {path}" if len(voxels) > 1 else str(path)
            raise ImageError(f"{which} has the value {channel.flat[0]:g} everywhere: it shows nothing. Leave it out.")
    return Volume(voxels, grid)


def read_channels(paths: Sequence[Path], expected: int) -> Volume:
    """All channels of a case: a file each, or one 4-D file that holds them all.

    Further files that lie on another grid than the first are resampled (linearly) onto it, in physical space.
    Raises as read_volume, and ImageError for another number of channels than expected.
    """
    if len(paths) == 1:
        return read_volume(paths[0], None if expected == 1 else expected)
    if len(paths) != expected:
        raise ImageError(f"{expected} channels are expected but {len(paths)} files are given: {paths[0]}, ...")
    volumes = [read_volume(path) for path in paths]
    grid = volumes[0].grid
    return Volume(np.concatenate([resample_to(volume, grid).voxels for volume in volumes]), grid)


def resample_to(volume: Volume, grid: Grid) -> Volume:
    """The volume on another grid, linearly, in physical space; 0 where it does not reach."""
    if same_grid(volume.grid, grid):
        return volume
    target = _to_sitk(np.zeros(grid.shape, np.uint8), grid)
    resampled = [
        sitk.GetArrayFromImage(sitk.Resample(_to_sitk(channel, volume.grid), target, sitk.Transform(), sitk.sitkLinear))
        for channel in volume.voxels
    ]
    return Volume(np.stack(resampled), grid)


def read_labels(path: Path) -> tuple[np.ndarray, Grid]:
    """Label values int32 (z, y, x). Raises ImageError, GeometryError; LabelError if a value is not whole."""
    voxels, grid = _read(path, sitk.sitkFloat64, None)
    whole = np.rint(voxels[0])
    with np.errstate(invalid="ignore"):
        apart = ~(np.abs(voxels[0] - whole) <= _LABEL_TOLERANCE)
    if apart.any():
        value = voxels[0][apart][0]
        raise LabelError(f"{path} holds the value {value:g}; labels are whole numbers. Is it an image, not labels?")
    if np.abs(whole).max() > np.iinfo(np.int32).max:
        raise LabelError(f"{path} holds the value {np.abs(whole).max():g}; label values must fit into 32 bits.")
    return whole.astype(np.int32), grid


def same_grid(first: Grid, second: Grid) -> bool:
    """Equal shape; spacing and direction equal to 0.1 %, origin to a hundredth of a voxel."""
    if first.shape != second.shape:
        return False
    spacing = np.asarray(first.spacing_mm)
    return bool(
        np.allclose(spacing, second.spacing_mm, rtol=_SPACING_TOLERANCE, atol=0)
        and np.allclose(first.direction, second.direction, rtol=0, atol=_DIRECTION_TOLERANCE)
        and np.allclose(first.origin_mm, second.origin_mm, rtol=0, atol=_ORIGIN_TOLERANCE_VOXELS * spacing.min())
    )


def write_labels(path: Path, labels_ZYX: np.ndarray, grid: Grid) -> None:
    """Write integers (z, y, x) in the smallest type that holds them, compressed, atomically. Raises StorageError."""
    low, high = int(labels_ZYX.min()), int(labels_ZYX.max())
    kind = np.uint8 if low >= 0 and high <= 255 else np.int16 if low >= -(2**15) and high < 2**15 else np.int32
    _write(path, _to_sitk(labels_ZYX.astype(kind), grid))


def write_volume(path: Path, volume: Volume) -> None:
    """Write float32; several channels become components of a vector image. Atomic. Raises StorageError."""
    channels = [_to_sitk(np.asarray(channel, dtype=np.float32), volume.grid) for channel in volume.voxels]
    _write(path, channels[0] if len(channels) == 1 else sitk.Compose(channels))


def from_sitk(path: Path, image: sitk.Image) -> tuple[np.ndarray, Grid]:
    """(channel, z, y, x) and grid of a 3-D (vector) or 4-D image."""
    grid = _grid(path, image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection())
    array = sitk.GetArrayFromImage(image)
    if image.GetNumberOfComponentsPerPixel() > 1:
        array = np.moveaxis(array, -1, 0)
    return array.reshape(-1, *grid.shape), grid


def _read(path: Path, pixel_type: int, channels: int | None) -> tuple[np.ndarray, Grid]:
    header = read_header(path)
    if channels is None and header.channels != 1:
        raise ImageError(
            f"{path} holds {header.channels} volumes or channels; one is expected. Split it into a file per channel, "
            "or use an MSD dataset whose dataset.json names the channels."
        )
    if channels is not None and header.channels != channels:
        raise ImageError(f"{path} holds {header.channels} channels, {channels} are expected. Check dataset.json.")
    check_whole(path)
    reader = _reader(path)
    if reader.GetNumberOfComponents() == 1:
        reader.SetOutputPixelType(pixel_type)
    try:
        image = reader.Execute()
    except RuntimeError as error:
        raise ImageError(f"{path} is damaged or truncated ({_reason(error)}). Copy or export it again.") from error
    voxels, grid = from_sitk(path, image)
    kind = np.float32 if pixel_type == sitk.sitkFloat32 else np.float64
    return np.ascontiguousarray(voxels, dtype=kind), grid


def _reader(path: Path) -> sitk.ImageFileReader:
    if not path.is_file():
        raise ImageError(f"There is no image file {path}. Check the path.")
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise ImageError(
            f"{path} cannot be read as an image ({_reason(error)}). Is it complete, and does its ending fit?"
        ) from error
    return reader


def _grid(
    path: Path, size: Sequence[int], spacing: Sequence[float], origin: Sequence[float], direction: Sequence[float]
) -> Grid:
    """The first three axes; a 2-D image is one slice. Raises GeometryError for what cannot be a grid."""
    dimension = len(size)
    matrix = np.eye(3)
    kept = min(dimension, 3)
    matrix[:kept, :kept] = np.reshape(direction, (dimension, dimension))[:kept, :kept]
    size3 = (*size[:3], 1)[:3]
    spacing3 = (*spacing[:3], 1.0)[:3]
    origin3 = (*origin[:3], 0.0)[:3]
    possible = np.isfinite([*spacing3, *origin3, *matrix.flat]).all() and min(spacing3) > 0 and min(size3) > 0
    if not possible or abs(np.linalg.det(matrix)) < _SMALLEST_SLICE_COSINES:
        raise GeometryError(
            f"{path} has an impossible grid: size {size3}, spacing {spacing3} mm, origin {origin3} mm. "
            "Export the image again with its geometry."
        )
    x, y, z = (float(value) for value in origin3)
    return Grid(
        shape=(int(size3[2]), int(size3[1]), int(size3[0])),
        spacing_mm=(float(spacing3[2]), float(spacing3[1]), float(spacing3[0])),
        origin_mm=(x, y, z),
        direction=tuple(float(value) for value in matrix.flat),
    )


def _to_sitk(array_ZYX: np.ndarray, grid: Grid) -> sitk.Image:
    image = sitk.GetImageFromArray(array_ZYX)
    image.SetSpacing(grid.spacing_mm[::-1])
    image.SetOrigin(grid.origin_mm)
    image.SetDirection(grid.direction)
    return image


def _write(path: Path, image: sitk.Image) -> None:
    if not path.name.endswith(ENDINGS):
        raise StorageError(f"{path} cannot be written: its ending must be one of {', '.join(ENDINGS)}.")
    with atomic_path(path) as temporary:
        try:
            sitk.WriteImage(image, str(temporary), useCompression=not path.name.endswith(".nii"))
        except RuntimeError as error:
            raise OSError(_reason(error)) from error


def _reason(error: RuntimeError) -> str:
    """The last line of ITK's message, without its source paths."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1].rpartition("Error:")[2].strip(" .") if lines else "unknown reason"
