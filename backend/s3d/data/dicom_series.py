"""DICOM series of a folder tree, found and read by SimpleITK."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from s3d.data.file_name import check_name
from s3d.data.image_files import Volume, from_sitk
from s3d.errors import ImageError

_PATIENT, _STUDY, _MODALITY = "0010|0020", "0020|000d", "0008|0060"
_UNEVEN = 0.1
"""Largest spread of slice distances, as a share of the median."""
_TAGS = {
    "description": "0008|103e",
    "sequence": "0018|0024",
    "echo_time_ms": "0018|0081",
    "repetition_time_ms": "0018|0080",
    "inversion_time_ms": "0018|0082",
}


@dataclass(frozen=True)
class DicomSeries:
    """One series: what is needed to read it and to tell its kind; nothing that names a person."""

    folder: Path
    series_id: str
    files: tuple[Path, ...]
    """In the order of their places along the slice axis."""
    modality: str
    patient: str
    """Hash of the patient's id; where that is empty, of the study's: else all such patients would be one."""
    tags: dict[str, str] = field(default_factory=dict)
    """Description, sequence and times, as far as present."""


def list_dicom_series(tree: Path) -> list[DicomSeries]:
    """Every series below a folder, sorted by folder and id; folders without DICOM files give none.

    Raises ImageError for a folder or slice whose name is not UTF-8.
    """
    folders = sorted({file.parent for file in tree.rglob("*") if file.is_file() and not file.name.startswith(".")})
    return [_series(folder, series_id) for folder in folders for series_id in _series_ids(folder)]


def read_dicom_series(folder: Path, series_id: str) -> Volume:
    """All slices of a series as one volume, one channel. Raises ImageError for missing or unequal slices."""
    check_name(folder)
    files = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), series_id)
    if not files:
        raise ImageError(f"{folder} holds no DICOM series {series_id}. Check the folder.")
    _check_even(folder, [_header(Path(file)) for file in files])
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(files)
    reader.SetOutputPixelType(sitk.sitkFloat32)
    try:
        image = reader.Execute()
    except RuntimeError as error:
        raise ImageError(f"The DICOM series in {folder} cannot be read as one volume; are all slices there?") from error
    voxels, grid = from_sitk(folder, image)
    if not np.isfinite(voxels).all() or voxels.min() == voxels.max():
        raise ImageError(f"The DICOM series in {folder} shows nothing: one value everywhere, or NaN. Leave it out.")
    return Volume(np.ascontiguousarray(voxels, dtype=np.float32), grid)


def _series_ids(folder: Path) -> list[str]:
    check_name(folder)
    return sorted(sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder)))


def _check_even(folder: Path, headers: list[sitk.ImageFileReader]) -> None:
    """Raise ImageError if the slices do not follow each other at one distance.

    Finding the files leaves damaged slices out, and reading then closes the gaps, both silently.
    """
    if len(headers) < 3:
        return
    places = np.array([header.GetOrigin() for header in headers])
    normal = np.reshape(headers[0].GetDirection(), (3, 3))[:, 2]
    distances = np.diff(places @ normal)
    if np.ptp(distances) > _UNEVEN * np.abs(np.median(distances)):
        raise ImageError(
            f"The slices of the DICOM series in {folder} are not evenly spaced ({np.abs(distances).min():.3g} to "
            f"{np.abs(distances).max():.3g} mm); some seem to be missing or damaged. Copy the series again."
        )


def _header(path: Path) -> sitk.ImageFileReader:
    check_name(path)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise ImageError(f"{path} cannot be read as DICOM. Copy the series again, or leave the file out.") from error
    return reader


def _series(folder: Path, series_id: str) -> DicomSeries:
    files = tuple(Path(name) for name in sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), series_id))
    reader = _header(files[0])
    present = set(reader.GetMetaDataKeys())

    def tag(key: str) -> str:
        return reader.GetMetaData(key).strip() if key in present else ""

    return DicomSeries(
        folder=folder,
        series_id=series_id,
        files=files,
        modality=tag(_MODALITY),
        patient=hashlib.sha256((tag(_PATIENT) or tag(_STUDY) or series_id).encode()).hexdigest()[:16],
        tags={name: tag(key) for name, key in _TAGS.items() if tag(key)},
    )
