"""Whether an image file is all there: readers fill what is missing with zeros, silently."""

import gzip
import struct
import zlib
from pathlib import Path

from s3d.errors import ImageError

_NIFTI_HEADER_BYTES = 348
_PIECE_BYTES = 1 << 20


def check_whole(path: Path) -> None:
    """Raise ImageError if a NIfTI file is shorter than its header says, or its gzip stream ends early or is damaged."""
    if path.name.endswith(".nii.gz"):
        _check_length(path, *_unpacked(path))
    elif path.name.endswith(".nii"):
        with path.open("rb") as file:
            _check_length(path, file.read(_NIFTI_HEADER_BYTES), path.stat().st_size)


def _unpacked(path: Path) -> tuple[bytes, int]:
    """First bytes and full length of a gzip file; reading to its end checks every checksum."""
    try:
        with gzip.open(path, "rb") as file:
            header = file.read(_NIFTI_HEADER_BYTES)
            length = len(header)
            while piece := file.read(_PIECE_BYTES):
                length += len(piece)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ImageError(f"{path} is damaged or truncated ({error}). Copy or export it again.") from error
    return header, length


def _check_length(path: Path, header: bytes, length: int) -> None:
    """NIfTI-1: dim at byte 40 (int16 x 8), bitpix at 72 (int16), vox_offset at 108 (float32)."""
    if len(header) < _NIFTI_HEADER_BYTES:
        raise ImageError(f"{path} is truncated: it ends within its header. Copy or export it again.")
    for order in "<>":
        if struct.unpack(order + "i", header[:4])[0] == _NIFTI_HEADER_BYTES:
            break
    else:
        return  # NIfTI-2 or Analyze: SimpleITK itself decides
    dimensions = struct.unpack(order + "8h", header[40:56])
    bits = struct.unpack(order + "h", header[72:74])[0]
    offset = int(struct.unpack(order + "f", header[108:112])[0])
    voxels = 1
    for size in dimensions[1 : 1 + dimensions[0]]:
        voxels *= max(size, 1)
    needed = offset + voxels * bits // 8
    if length < needed:
        raise ImageError(f"{path} is truncated: {length} of {needed} bytes are there. Copy or export it again.")
