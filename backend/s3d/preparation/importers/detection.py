"""What kind of archive a source is, and the importer for it."""

from collections.abc import Callable, Mapping
from pathlib import Path

from s3d.data.file_name import check_name
from s3d.errors import DatasetError
from s3d.preparation.importers.bids import find_in_bids
from s3d.preparation.importers.dicom_tree import find_in_dicom_tree, looks_like_dicom
from s3d.preparation.importers.folder import find_in_folder
from s3d.preparation.importers.found_image import IMAGE_ENDINGS, FoundImage, is_image, walk
from s3d.preparation.importers.nnssl_json import FILE_NAME, find_in_nnssl_json

IMPORTERS: Mapping[str, Callable[[Path], list[FoundImage]]] = {
    "folder": find_in_folder,
    "bids": find_in_bids,
    "dicom": find_in_dicom_tree,
    "nnssl": find_in_nnssl_json,
}


def find_images(source: Path, kind: str) -> tuple[str, list[FoundImage]]:
    """The kind (auto resolved) and every image of the source, paths absolute. Raises DatasetError if there is none,
    ImageError if the source's own name cannot be used."""
    source = source.absolute()
    check_name(source)
    if not source.exists():
        raise DatasetError(f"There is nothing at {source}. Give the folder that holds the images.")
    chosen = detect_kind(source) if kind == "auto" else kind
    if source.is_file() and chosen != "nnssl":
        raise DatasetError(f"{source} is a file; give the folder that holds the images, or a {FILE_NAME}.")
    found = IMPORTERS[chosen](source)
    if not found:
        raise DatasetError(f"No images were found in {source} (read as {chosen}). Choose another source or --kind.")
    return chosen, found


def detect_kind(source: Path) -> str:
    """nnssl where its JSON lies, bids where sub-* folders lie, else by the first image or DICOM file met."""
    if source.is_file():
        return "nnssl" if source.suffix == ".json" else "folder"
    if (source / FILE_NAME).is_file():
        return "nnssl"
    if (source / "dataset_description.json").is_file() or any(_subject_folders(source)):
        return "bids"
    for path in walk(source):
        if is_image(path):
            return "folder"
        if looks_like_dicom(path):
            return "dicom"
    raise DatasetError(f"{source} holds neither images ({', '.join(IMAGE_ENDINGS)}) nor DICOM files. Check the path.")


def _subject_folders(source: Path) -> list[Path]:
    """sub-* folders in the source or one level below (rawdata/sub-*)."""
    return [path for pattern in ("sub-*", "*/sub-*") for path in source.glob(pattern) if path.is_dir()]
