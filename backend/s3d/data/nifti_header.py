"""The few fields of a NIfTI header that tell whether the file can be right: sizes, spacing, where the voxels begin.

SimpleITK takes a spacing of 0 for 1 mm and damaged numbers as they come, so they are looked at first.
Source: nifti1.h and nifti2.h of the NIfTI Data Format Working Group.
"""

import math
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from s3d.errors import GeometryError, ImageError

HEADER_BYTES = 540
"""Of NIfTI-2, the longer kind; NIfTI-1 has 348."""
_NIFTI_1 = "40x 8h 14x 2h 2x 8f f"
_NIFTI_2 = "12x 2h 8q 24x 8d q"
_FLOAT_TYPES = {16: "f4", 64: "f8"}
_MOST_DIMENSIONS = 7
_AGAIN = "Copy or export it again."


@dataclass(frozen=True)
class VoxelBytes:
    """Where the voxels lie in the unpacked file."""

    start: int
    length: int
    float_type: np.dtype[np.floating] | None
    """Of voxels that can be NaN; whole numbers cannot."""


@dataclass(frozen=True)
class _Fields:
    byte_order: str
    dimensions: tuple[int, ...]
    """How many there are, then the size of each."""
    datatype: int
    bits: int
    """Of a voxel."""
    spacing: tuple[float, ...]
    """A sign, then the spacing along each dimension, in the file's own unit."""
    start: float
    """Byte of the first voxel."""


def parse_header(path: Path, header: bytes) -> VoxelBytes:
    """header: the first HEADER_BYTES of the unpacked file.

    Raises ImageError if they are no NIfTI header or a damaged one, GeometryError for a spacing of 0 or NaN.
    """
    fields = _fields(path, header)
    count = fields.dimensions[0]
    sizes = fields.dimensions[1 : 1 + count]
    if not 1 <= count <= _MOST_DIMENSIONS or min(sizes) < 1:
        raise ImageError(f"{path} has a damaged header: {count} dimensions, sizes {fields.dimensions[1:]}. {_AGAIN}")
    spacing = fields.spacing[1 : 1 + min(count, 3)]
    if not all(math.isfinite(value) and value != 0 for value in spacing):
        raise GeometryError(f"{path} has an impossible grid: spacing {spacing} mm. Export it again with its geometry.")
    if not math.isfinite(fields.start) or fields.start < 0 or fields.bits < 1:
        raise ImageError(
            f"{path} has a damaged header: voxels of {fields.bits} bits from byte {fields.start:g}. {_AGAIN}"
        )
    name = _FLOAT_TYPES.get(fields.datatype)
    float_type = None if name is None else np.dtype(fields.byte_order + name)
    return VoxelBytes(int(fields.start), math.prod(sizes) * fields.bits // 8, float_type)


def _fields(path: Path, header: bytes) -> _Fields:
    """In whichever byte order the number of dimensions makes sense."""
    little, big = _unpack(path, header, "<"), _unpack(path, header, ">")
    return big if 1 <= big.dimensions[0] <= _MOST_DIMENSIONS else little


def _unpack(path: Path, header: bytes, order: str) -> _Fields:
    if header[344:348] == b"n+1\0":
        values = struct.unpack_from(order + _NIFTI_1, header)
        return _Fields(order, values[0:8], values[8], values[9], values[10:18], values[18])
    if header[4:8] == b"n+2\0" and len(header) == HEADER_BYTES:
        values = struct.unpack_from(order + _NIFTI_2, header)
        return _Fields(order, values[2:10], values[0], values[1], values[10:18], values[18])
    raise ImageError(f"{path} cannot be read as an image: it is no NIfTI file, or its header is damaged. {_AGAIN}")
