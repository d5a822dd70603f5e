"""One kept image of the catalogue becomes one case of the store, its masks moved alike."""

import re
from pathlib import Path
from typing import Any

import numpy as np

from s3d.config import to_dict
from s3d.data.case_store import CaseStore
from s3d.data.image_files import Volume, read_labels, same_grid
from s3d.data.preprocessing import Placement, preprocess_image, preprocess_mask
from s3d.errors import GeometryError, ImageError, OutOfMemoryError
from s3d.preparation.catalog import CatalogEntry
from s3d.preparation.inspection import read_image

_HASH_DIGITS = 12


def case_name(entry: CatalogEntry) -> str:
    """Subject, session, modality and the first 12 digits of the content's hash, in characters safe for file names.

    The hash makes it unique and the same in every run: adding images to the archive renames nothing.
    """
    parts = (entry.subject, entry.session, entry.modality, (entry.sha256 or "")[:_HASH_DIGITS])
    safe = (re.sub(r"[^A-Za-z0-9]+", "-", part).strip("-") for part in parts if part)
    return "_".join(part for part in safe if part)


def prepare_case(entry: CatalogEntry, store: CaseStore) -> None:
    """Read, preprocess and store one image.

    Raises ImageError, LabelError or GeometryError for what is wrong with the image or its masks, StorageError or
    OutOfMemoryError for what is wrong with the machine.
    """
    try:
        volume = read_image(entry)
        excluded, anatomy = _read_masks(entry, volume)
        image, placement = _preprocessed(entry, volume, store)
        store.write(
            case_name(entry),
            image,
            excluded=None if excluded is None else preprocess_mask(excluded, placement),
            anatomy=None if anatomy is None else preprocess_mask(anatomy, placement),
            properties=_properties(entry, placement),
        )
    except MemoryError as error:
        raise OutOfMemoryError(f"{entry.path} does not fit into memory; use fewer --workers.") from error


def removed_voxels(mask: np.ndarray, voxels: np.ndarray) -> np.ndarray:
    """Which side of a defacing mask was removed: the one where the image is blank more often.

    mask, result: bool (z, y, x); voxels: (z, y, x). BIDS does not say whether 1 means kept (pydeface, quickshear) or
    removed, and tools differ; a wrong guess would leave the brain out of the loss instead of the face.
    """
    if mask.all() or not mask.any():
        return mask
    filled = voxels != 0
    return mask if filled[mask].mean() <= filled[~mask].mean() else ~mask


def _preprocessed(entry: CatalogEntry, volume: Volume, store: CaseStore) -> tuple[np.ndarray, Placement]:
    try:
        return preprocess_image(volume, store.plan)
    except (ImageError, GeometryError) as error:  # that know no file
        raise type(error)(f"{entry.path}: {error}") from error


def _read_masks(entry: CatalogEntry, volume: Volume) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Anonymisation and anatomy mask in the image's grid, bool (z, y, x)."""
    excluded = _read_mask(entry.anonymization_mask, volume)
    if excluded is not None and entry.importer == "bids":
        excluded = removed_voxels(excluded, volume.voxels[0])
    return excluded, _read_mask(entry.anatomy_mask, volume)


def _read_mask(path: Path | None, volume: Volume) -> np.ndarray | None:
    if path is None:
        return None
    labels, grid = read_labels(path)
    if not same_grid(grid, volume.grid):
        raise GeometryError(f"The mask {path} lies on another grid than its image; resample it or remove it.")
    mask: np.ndarray = labels != 0
    return mask


def _properties(entry: CatalogEntry, placement: Placement) -> dict[str, Any]:
    """What the case keeps of its origin; the path stays in the catalogue."""
    return {
        "subject": entry.subject,
        "session": entry.session,
        "modality": entry.modality,
        "sha256": entry.sha256,
        "importer": entry.importer,
        "placement": to_dict(placement),
    }
