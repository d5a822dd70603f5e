"""Where voxels lie in the patient: the grid of an image, and whether two grids are one."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from s3d.errors import GeometryError, ImageError

_SPACING_TOLERANCE = 1e-3
"""Of the spacing; headers store it in single precision and programs round differently."""
_DIRECTION_TOLERANCE = 1e-3
_ORIGIN_TOLERANCE_VOXELS = 1e-2
_SHEAR_TOLERANCE = 1e-3
"""Cosine between two axes: 0.1 mm at 100 mm from the first voxel."""


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


def grid_of(
    path: Path, size: Sequence[int], spacing: Sequence[float], origin: Sequence[float], direction: Sequence[float]
) -> Grid:
    """The grid of the file at path from what SimpleITK says of it, (x, y, z, ...).

    Raises ImageError for a 2-D image, GeometryError for what cannot be a grid, and for axes not at right angles.
    """
    if len(size) < 3:
        raise ImageError(
            f"{path} is a 2-D image of {' x '.join(map(str, size))} pixels; a volume of three axes is needed. "
            "Give the whole series as one 3-D file."
        )
    matrix = np.reshape(direction, (len(size), len(size)))[:3, :3]
    size3, spacing3, origin3 = tuple(size[:3]), tuple(spacing[:3]), tuple(origin[:3])
    possible = np.isfinite([*spacing3, *origin3, *matrix.flat]).all() and min(spacing3) > 0 and min(size3) > 0
    if not possible:
        raise GeometryError(
            f"{path} has an impossible grid: size {size3}, spacing {spacing3} mm, origin {origin3} mm. "
            "Export the image again with its geometry."
        )
    if np.abs(matrix.T @ matrix - np.eye(3)).max() > _SHEAR_TOLERANCE:
        raise sheared(path)
    x, y, z = (float(value) for value in origin3)
    return Grid(
        shape=(int(size3[2]), int(size3[1]), int(size3[0])),
        spacing_mm=(float(spacing3[2]), float(spacing3[1]), float(spacing3[0])),
        origin_mm=(x, y, z),
        direction=tuple(float(value) for value in matrix.flat),
    )


def sheared(path: Path) -> GeometryError:
    """The error for axes that are not at right angles; nothing here could put such voxels in their place."""
    return GeometryError(
        f"The axes of {path} are not at right angles. Resample it onto a plain grid first, "
        "for example with Resample Scalar/Vector/DWI Volume in 3D Slicer."
    )
