"""Whether an image file is all there and undamaged: readers fill what is missing with zeros, silently.

SimpleITK's NIfTI reader takes a truncated file and a wrong checksum without a word and turns NaN into 0; its MetaImage
reader takes a damaged compressed stream; its NRRD reader notices only some. So files are looked at before reading.
"""

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from s3d.data.nifti_header import HEADER_BYTES, VoxelBytes, parse_header
from s3d.errors import ImageError

_PIECE_BYTES = 1 << 20
_GZIP_MAGIC = b"\x1f\x8b"
_AGAIN = "Copy or export it again."


def check_header(path: Path) -> None:
    """Raise ImageError unless a file named as NIfTI is one, GeometryError if its header has no spacing."""
    if _is_nifti(path):
        with _damage_named(path), _unpacked(path) as file:
            parse_header(path, file.read(HEADER_BYTES))


def check_whole(path: Path, *, finite: bool = True) -> None:
    """Raise ImageError if the file is shorter than its header says, or its compressed stream is cut or damaged.

    finite: also if a voxel of a NIfTI file is NaN or infinite; elsewhere such voxels are read as they are.
    Looks into NIfTI, and into compressed NRRD and MetaImage; the rest SimpleITK itself checks.
    """
    ending = path.suffix.lower()
    with _damage_named(path):
        if _is_nifti(path):
            _check_nifti(path, finite)
        elif ending == ".nrrd":
            _check_nrrd(path)
        elif ending == ".mha":
            _check_metaimage(path)


def _is_nifti(path: Path) -> bool:
    """Whether the name says NIfTI."""
    return path.name.lower().endswith((".nii", ".nii.gz"))


def _check_nifti(path: Path, finite: bool) -> None:
    with _unpacked(path) as file:
        voxels = parse_header(path, file.read(HEADER_BYTES))
        file.seek(voxels.start)
        found = 0
        while piece := file.read(_PIECE_BYTES):
            if finite and voxels.float_type is not None:
                _check_finite(path, piece[: voxels.length - found], voxels)
            found += len(piece)
    if found < voxels.length:
        raise ImageError(f"{path} is truncated: {found} of {voxels.length} bytes of voxels are there. {_AGAIN}")


def _check_finite(path: Path, piece: bytes, voxels: VoxelBytes) -> None:
    values = np.frombuffer(piece, voxels.float_type, count=len(piece) // np.dtype(voxels.float_type).itemsize)
    if not np.isfinite(values).all():
        raise ImageError(f"{path} holds NaN or infinite values. Replace them, or export the image again.")


def _check_nrrd(path: Path) -> None:
    """A gzip stream follows the empty line at the header's end."""
    with path.open("rb") as file:
        fields = set()
        while line := file.readline().strip():
            fields.add(line.lower().replace(b" ", b""))
        detached = any(field.startswith((b"datafile:", b"data_file:")) for field in fields)
        if fields & {b"encoding:gzip", b"encoding:gz"} and not detached:
            with gzip.GzipFile(fileobj=file) as stream:
                while stream.read(_PIECE_BYTES):
                    pass


def _check_metaimage(path: Path) -> None:
    """A zlib stream follows the line ElementDataFile = LOCAL."""
    with path.open("rb") as file:
        fields: dict[bytes, bytes] = {}
        while b"ElementDataFile" not in fields and (line := file.readline()):
            key, _, value = line.partition(b"=")
            fields[key.strip()] = value.strip()
        if fields.get(b"CompressedData", b"").lower() == b"true" and fields.get(b"ElementDataFile") == b"LOCAL":
            stream = zlib.decompressobj()
            while not stream.eof and (piece := file.read(_PIECE_BYTES)):
                stream.decompress(piece)
            if not stream.eof:
                raise EOFError("its compressed voxels end too early")


@contextmanager
def _unpacked(path: Path) -> Iterator[BinaryIO]:
    with path.open("rb") as file:
        if path.suffix.lower() != ".gz":
            yield file
            return
        if file.read(len(_GZIP_MAGIC)) != _GZIP_MAGIC:
            raise ImageError(
                f"{path} cannot be read as an image: it is not compressed, although its name ends in .gz. "
                "Rename it to end in .nii if it is one; otherwise copy or export it again."
            )
        file.seek(0)
        with gzip.GzipFile(fileobj=file) as stream:
            yield cast(BinaryIO, stream)


@contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    """The decompressors' errors as one sentence."""
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ImageError(f"{path} is damaged or truncated ({error}). {_AGAIN}") from error
