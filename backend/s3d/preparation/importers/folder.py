"""Importer for a plain folder: every image file below it; who and what is read from the names."""

import re
from pathlib import Path

from s3d.preparation.importers.found_image import FoundImage, is_image, stem_of, walk
from s3d.preparation.modality import UNKNOWN, modality_of, without_modality


def find_in_folder(root: Path) -> list[FoundImage]:
    """Images below root. Modality: first the file name tells, then its folders up to root, the nearest first."""
    return [_describe(path, root) for path in walk(root) if is_image(path)]


def _describe(path: Path, root: Path) -> FoundImage:
    folders = _folders_between(path, root)
    told = (modality_of(name) for name in (stem_of(path), *folders, root.name))
    session = next((match[1] for name in folders if (match := re.search(r"ses-([A-Za-z0-9]+)", name))), None)
    return FoundImage(
        path=path,
        importer="folder",
        subject=subject_of(stem_of(path), folders),
        session=session,
        modality=next((modality for modality in told if modality != UNKNOWN), UNKNOWN),
    )


def subject_of(stem: str, folders: list[str]) -> str:
    """The patient: the name's first part where it holds a number (105755_AXFLAIR), else the nearest folder that does
    (patient07/T1), else the whole name without nnU-Net's channel (hippocampus_378_0000)."""
    first_part = re.split(r"[_.]", stem)[0]
    for name in (first_part, *folders):
        if re.search(r"\d", without_modality(name)) or name.startswith("sub-"):
            return name
    return re.sub(r"_\d{4}$", "", stem)


def _folders_between(path: Path, root: Path) -> list[str]:
    """Names of the folders from the file up to root, root not included."""
    return list(reversed(path.relative_to(root).parts[:-1]))
