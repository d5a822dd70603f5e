"""What every importer gives: an image that is said to be there, before anything of it was read."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from s3d.errors import DatasetError
from s3d.preparation.modality import UNKNOWN

IMAGE_ENDINGS = (".nii.gz", ".nii", ".nrrd", ".mha")


@dataclass(frozen=True, kw_only=True)
class FoundImage:
    """One image of an archive, as names and side files describe it."""

    path: Path
    """Image file; for DICOM the folder of the series."""
    importer: str
    """folder, bids, dicom or nnssl."""
    subject: str
    """Patient, never empty."""
    session: str | None = None
    """Visit."""
    modality: str = UNKNOWN
    """One of modality.KNOWN_MODALITIES."""
    series_id: str | None = None
    """DICOM series instance UID."""
    files: tuple[Path, ...] = ()
    """The slices of a DICOM series; empty for single files."""
    anonymization_mask: Path | None = None
    """Where known."""
    anatomy_mask: Path | None = None
    """Where known."""
    problem: str | None = None
    """Why it cannot be used, where the importer knows already."""


def is_image(path: Path) -> bool:
    """Whether the name is that of a single-file image; hidden files (macOS writes ._NAME copies) are none."""
    return path.name.lower().endswith(IMAGE_ENDINGS) and not path.name.startswith(".")


def stem_of(path: Path) -> str:
    """File name without its image ending (.nii.gz is one ending)."""
    for ending in IMAGE_ENDINGS:
        if path.name.lower().endswith(ending):
            return path.name[: -len(ending)]
    return path.stem


def walk(root: Path, ignored_folders: tuple[str, ...] = ()) -> Iterator[Path]:
    """Every file below root in the order of names, without hidden folders and those named. Raises DatasetError."""
    for folder, subfolders, names in os.walk(root, onerror=_refuse):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith(".") and name not in ignored_folders)
        for name in sorted(names):
            yield Path(folder) / name


def _refuse(error: OSError) -> None:
    raise DatasetError(
        f"The folder {error.filename} cannot be listed ({error.strerror}). Change its permissions or leave it out."
    ) from error
