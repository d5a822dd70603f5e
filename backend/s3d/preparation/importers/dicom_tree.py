"""Importer for a tree of DICOM files: a series is an image. Nothing that names a person reaches the catalogue:
the subject is a hash of the patient's id, and descriptions are read for the contrast only."""

from pathlib import Path

from s3d.data.dicom_series import DicomSeries, list_dicom_series
from s3d.preparation.importers.found_image import FoundImage
from s3d.preparation.modality import MASK, NOT_MR, UNKNOWN, modality_of
from s3d.preparation.timing import refined_modality, timing_from_dicom

_PREAMBLE_BYTES = 128
_MAGIC = b"DICM"
_OTHER_MODALITIES = {"CT": "CT", "SEG": MASK, "RTSTRUCT": MASK}


def find_in_dicom_tree(root: Path) -> list[FoundImage]:
    """Every series below root."""
    return [_describe(series) for series in list_dicom_series(root)]


def looks_like_dicom(path: Path) -> bool:
    """Whether the file has DICOM's mark after its preamble; old files without one are found by --kind dicom."""
    try:
        with path.open("rb") as stream:
            return stream.read(_PREAMBLE_BYTES + len(_MAGIC))[_PREAMBLE_BYTES:] == _MAGIC
    except OSError:
        return False


def _describe(series: DicomSeries) -> FoundImage:
    return FoundImage(
        path=series.folder,
        importer="dicom",
        subject=series.patient,
        modality=_modality(series),
        series_id=series.series_id,
        files=series.files,
    )


def _modality(series: DicomSeries) -> str:
    """DICOM's own modality first, then description and sequence name, then the scan times."""
    if series.modality not in ("MR", ""):
        return _OTHER_MODALITIES.get(series.modality, NOT_MR)
    told = (modality_of(series.tags.get(name, "")) for name in ("description", "sequence"))
    named = next((modality for modality in told if modality != UNKNOWN), UNKNOWN)
    return refined_modality(named, timing_from_dicom(series.tags))
