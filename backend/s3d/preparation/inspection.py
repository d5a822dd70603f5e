"""Look at one image that an importer found: size, hash, header, filters, and whether its voxels can be read.

Whatever is wrong with the image becomes a dropped line with the reader's sentence; nothing here stops the run.
"""

import dataclasses
import hashlib
from pathlib import Path

from s3d.data.dicom_series import read_dicom_series
from s3d.data.image_files import Volume, read_header, read_volume
from s3d.errors import GeometryError, ImageError
from s3d.preparation.catalog import CatalogEntry, dropped
from s3d.preparation.config import CatalogConfig
from s3d.preparation.filtering import filtered
from s3d.preparation.importers.found_image import FoundImage

UNREADABLE = "unreadable"
MANY_VOLUMES = "4-D"
MASK_MISSING = "mask missing"


def inspect(found: FoundImage, config: CatalogConfig) -> CatalogEntry:
    """The catalogue line of an image."""
    entry = CatalogEntry(
        path=found.path,
        importer=found.importer,
        series_id=found.series_id,
        subject=found.subject,
        session=found.session,
        modality=found.modality,
        kept=True,
        anonymization_mask=found.anonymization_mask,
        anatomy_mask=found.anatomy_mask,
    )
    if found.problem is not None:
        return dropped(entry, UNREADABLE, found.problem)
    try:
        entry = _with_content(entry, found.files or (found.path,))
        return _looked_into(entry, config)
    except (ImageError, GeometryError) as error:
        return dropped(entry, UNREADABLE, str(error))
    except OSError as error:
        return dropped(entry, UNREADABLE, f"{found.path} cannot be read ({error.strerror or error}). Restore the file.")
    except MemoryError:
        return dropped(entry, UNREADABLE, f"{found.path} does not fit into memory; its header may be damaged.")


def read_image(entry: CatalogEntry) -> Volume:
    """The image of an entry, one channel. Raises ImageError."""
    if entry.series_id is not None:
        return read_dicom_series(entry.path, entry.series_id)
    return read_volume(entry.path)


def _with_content(entry: CatalogEntry, files: tuple[Path, ...]) -> CatalogEntry:
    """Add size and hash; slices are hashed one by one and sorted, so that their names and order do not count."""
    hashes = []
    for file in files:
        with file.open("rb") as stream:
            hashes.append(hashlib.file_digest(stream, "sha256").hexdigest())
    together = hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(sorted(hashes)).encode()).hexdigest()
    return dataclasses.replace(entry, bytes=sum(file.stat().st_size for file in files), sha256=together)


def _looked_into(entry: CatalogEntry, config: CatalogConfig) -> CatalogEntry:
    """Add the grid, apply the filters, and read the voxels of what they leave."""
    if entry.series_id is not None:
        grid, channels = read_image(entry).grid, 1  # the slices' places make the grid: there is no header to ask
    else:
        header = read_header(entry.path)
        grid, channels = header.grid, header.channels
    entry = filtered(dataclasses.replace(entry, shape=grid.shape, spacing_mm=grid.spacing_mm), config)
    if entry.kept and channels != 1:
        return dropped(entry, MANY_VOLUMES, f"{entry.path.name} holds {channels} volumes or channels, not one.")
    if entry.kept and config.check_voxels and entry.series_id is None:
        read_image(entry)
    return _with_masks_present(entry)


def _with_masks_present(entry: CatalogEntry) -> CatalogEntry:
    """A mask that is named but not there drops the image: without it a face would count in the loss."""
    for mask in (entry.anonymization_mask, entry.anatomy_mask):
        if entry.kept and mask is not None and not mask.exists():
            return dropped(entry, MASK_MISSING, f"Its mask {mask} is not there; restore it or remove it from the list.")
    return entry
