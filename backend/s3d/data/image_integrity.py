"""Whether a NIfTI file is all there: its reader silently fills what is missing, and what is NaN, with zeros."""

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np

from s3d.errors import ImageError

_HEADER_BYTES = 348
_FLOAT_TYPES = {16: "f4", 64: "f8"}
"""NIfTI-1 codes; whole numbers are always finite."""


def check_whole(path: Path) -> None:
    """Raise ImageError if a NIfTI-1 file is shorter than its header says, its gzip stream is damaged, or a voxel is NaN
    or infinite. Files of other kinds pass: their readers notice."""
    if path.name.endswith(".nii.gz"):
        _check_content(path, _unpacked(path))
    elif path.name.endswith(".nii"):
        _check_content(path, path.read_bytes())


def _unpacked(path: Path) -> bytes:
    """The content of a gzip file, every checksum checked."""
    try:
        with gzip.open(path, "rb") as file:
            return file.read()
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ImageError(f"{path} is damaged or truncated ({error}). Copy or export it again.") from error


def _check_content(path: Path, content: bytes) -> None:
    """NIfTI-1: dim at byte 40 (int16 x 8), datatype and bitpix at 70 (int16), vox_offset at 108 (float32)."""
    if len(content) < _HEADER_BYTES:
        raise ImageError(f"{path} is truncated: it ends within its header. Copy or export it again.")
    order = next((order for order in "<>" if struct.unpack_from(order + "i", content)[0] == _HEADER_BYTES), None)
    if order is None:
        return
    axes, *sizes = struct.unpack_from(order + "8h", content, 40)
    datatype, bits = struct.unpack_from(order + "2h", content, 70)
    offset = int(struct.unpack_from(order + "f", content, 108)[0])
    voxels = int(np.prod([max(size, 1) for size in sizes[: max(axes, 0)]], dtype=np.int64))
    needed = offset + voxels * bits // 8
    if len(content) < needed:
        raise ImageError(f"{path} is truncated: {len(content)} of {needed} bytes are there. Copy or export it again.")
    if datatype in _FLOAT_TYPES:
        values = np.frombuffer(content, np.dtype(order + _FLOAT_TYPES[datatype]), voxels, offset)
        if not np.isfinite(values).all():
            raise ImageError(f"{path} holds NaN or infinite values. Replace them, or export the image again.")
