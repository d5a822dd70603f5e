"""Image files as arrays with a grid, and back: NIfTI, NRRD, MetaImage through SimpleITK.

The border of the package: every check on what a file holds happens here, and nothing else touches SimpleITK images.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from s3d.atomic_files import atomic_path
from s3d.data.file_name import check_name
from s3d.data.grid import Grid, Volume, grid_of, same_grid, sheared
from s3d.data.image_integrity import check_header, check_whole
from s3d.errors import GeometryError, ImageError, LabelError, StorageError

__all__ = [
    "ENDINGS",
    "Grid",
    "ImageHeader",
    "Volume",
    "from_sitk",
    "read_channels",
    "read_header",
    "read_labels",
    "read_volume",
    "resample_to",
    "same_grid",
    "write_labels",
    "write_volume",
]

ENDINGS = (".nii.gz", ".nii", ".nrrd", ".mha")
"""What is written; reading takes whatever SimpleITK reads."""
_LABEL_TOLERANCE = 1e-3
"""Labels kept as scaled floats come out a little off."""

sitk.ProcessObject.GlobalWarningDisplayOff()


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
    size = reader.GetSize()
    volumes = int(np.prod(size[3:], dtype=int)) if len(size) > 3 else 1
    grid = grid_of(path, size, reader.GetSpacing(), reader.GetOrigin(), reader.GetDirection())
    pixel_type = sitk.GetPixelIDValueAsString(reader.GetPixelID())
    return ImageHeader(grid, volumes * reader.GetNumberOfComponents(), path.stat().st_size, pixel_type)


def read_volume(path: Path, channels: int | None = None) -> Volume:
    """The image of a file. channels: how many a 4-D image must hold; without it only a 3-D image will do.

    Raises ImageError: missing, truncated or damaged file, NaN or infinite values, one value everywhere, other number of
    channels; GeometryError: an impossible grid.
    """
    voxels, grid = _read(path, channels, np.float32)
    if not np.isfinite(voxels).all():
        raise ImageError(f"{path} holds NaN or infinite values. Replace them, or export the image again.")
    for number, channel in enumerate(voxels):
        if channel.min() == channel.max():
            which = f"Channel {number} of {path}" if len(voxels) > 1 else str(path)
            raise ImageError(f"{which} has the value {channel.flat[0]:g} everywhere: it shows nothing. Leave it out.")
    return Volume(voxels, grid)


def read_channels(paths: Sequence[Path], expected: int) -> Volume:
    """All channels of a case: a file each, or one 4-D file that holds them all.

    Further files that lie on another grid than the first are resampled (linearly) onto it, in physical space.
    Raises as read_volume, and ImageError for another number of channels than expected, GeometryError for a file that
    shows nothing where the first one lies.
    """
    if len(paths) == 1:
        return read_volume(paths[0], None if expected == 1 else expected)
    if len(paths) != expected:
        given = ", ".join(str(path) for path in paths[:2]) or "none"
        raise ImageError(
            f"{expected} channels are expected but {len(paths)} files are given ({given}). Give one file per channel."
        )
    first = read_volume(paths[0])
    voxels = np.empty((expected, *first.grid.shape), dtype=np.float32)
    voxels[:1] = first.voxels
    for number, path in enumerate(paths[1:], start=1):
        voxels[number] = resample_to(read_volume(path), first.grid).voxels[0]
        if voxels[number].min() == voxels[number].max():
            raise GeometryError(
                f"{path} shows nothing where {paths[0]} lies. Check that both are of one patient and registered."
            )
    return Volume(voxels, first.grid)


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
    voxels, grid = _read(path, None, None)
    labels = voxels[0]
    if labels.dtype.kind == "f":
        labels = _whole(path, labels)
    limits = np.iinfo(np.int32)
    lowest, highest = labels.min(), labels.max()
    if lowest < limits.min or highest > limits.max:
        raise LabelError(f"{path} holds values from {lowest:g} to {highest:g}; label values must fit into 32 bits.")
    return labels.astype(np.int32, copy=False), grid


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
    grid = grid_of(path, image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection())
    array = sitk.GetArrayFromImage(image)
    if image.GetNumberOfComponentsPerPixel() > 1:
        array = np.moveaxis(array, -1, 0)
    return array.reshape(-1, *grid.shape), grid


def _read(path: Path, channels: int | None, kind: type[np.floating] | None) -> tuple[np.ndarray, Grid]:
    """(channel, z, y, x) as kind, or as stored, after every check that does not look at values."""
    _check_readable(path)
    check_whole(path)
    header = read_header(path)
    if channels is None and header.channels != 1:
        raise ImageError(
            f"{path} holds {header.channels} volumes or channels; one is expected. Split it into a file per channel, "
            "or use an MSD dataset whose dataset.json names the channels."
        )
    if channels is not None and header.channels != channels:
        raise ImageError(
            f"{path} holds {header.channels} channels, {channels} are expected. "
            "Check dataset.json, or give one file per channel."
        )
    try:
        image = _reader(path).Execute()
    except RuntimeError as error:
        raise ImageError(f"{path} is damaged or truncated ({_reason(error)}). Copy or export it again.") from error
    voxels, grid = from_sitk(path, image)
    if voxels.dtype.kind == "c":
        raise ImageError(f"{path} holds complex values. Export the magnitude image.")
    with np.errstate(over="ignore"):  # becomes infinite, which read_volume refuses
        converted: np.ndarray = np.ascontiguousarray(voxels, dtype=kind)
    return converted, grid


def _whole(path: Path, labels: np.ndarray) -> np.ndarray:
    """Labels stored as floats, rounded where they are whole but for the last digits."""
    rounded: np.ndarray = np.rint(labels)
    with np.errstate(invalid="ignore"):
        apart = ~(np.abs(labels - rounded) <= _LABEL_TOLERANCE)
    if apart.any():
        value = labels[apart][0]
        raise LabelError(f"{path} holds the value {value:g}; labels are whole numbers. Is it an image, not labels?")
    return rounded


def _reader(path: Path) -> sitk.ImageFileReader:
    """A reader that has read the header."""
    _check_readable(path)
    check_header(path)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        if "orthonormal" in str(error):
            raise sheared(path) from error
        raise ImageError(
            f"{path} cannot be read as an image ({_reason(error)}). Is it complete, and does its ending fit?"
        ) from error
    return reader


def _check_readable(path: Path) -> None:
    check_name(path)
    if not path.exists():
        raise ImageError(f"There is no image file {path}. Check the path.")
    try:
        with path.open("rb"):
            pass
    except OSError as error:
        raise ImageError(f"{path} cannot be read ({error.strerror or error}). Check the file.") from error


def _to_sitk(array_ZYX: np.ndarray, grid: Grid) -> sitk.Image:
    image = sitk.GetImageFromArray(array_ZYX)
    image.SetSpacing(grid.spacing_mm[::-1])
    image.SetOrigin(grid.origin_mm)
    image.SetDirection(grid.direction)
    return image


def _write(path: Path, image: sitk.Image) -> None:
    if not path.name.endswith(ENDINGS):
        raise StorageError(f"{path} cannot be written: its ending must be one of {', '.join(ENDINGS)}.")
    try:
        check_name(path)
    except ImageError as error:
        raise StorageError(str(error)) from error
    with atomic_path(path) as temporary:
        try:
            sitk.WriteImage(image, str(temporary), useCompression=not path.name.endswith(".nii"))
            check_whole(temporary, finite=False)  # the NIfTI writer does not say when the disk is full
        except RuntimeError as error:
            raise _not_whole(path, _reason(error)) from error
        except ImageError as error:
            raise _not_whole(path, "it came out truncated") from error


def _not_whole(path: Path, reason: str) -> StorageError:
    return StorageError(
        f"{path} cannot be written whole ({reason}). "
        "The disk is full, most likely; free some space or choose another folder."
    )


def _reason(error: RuntimeError) -> str:
    """The last line of ITK's message, without its source paths."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1].rpartition("ERROR:")[2].rpartition("Error:")[2].strip(" .") if lines else "unknown reason"
