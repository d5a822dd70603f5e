"""Importer for nnssl's pretrain_data.json (method.md section 5): collection > datasets > subjects > sessions > images.

Paths may begin with $nnssl_raw or $nnssl_preprocessed: environment variables, or where these are not set a folder
above the JSON file. Absolute paths and '..' are allowed: the file is the user's own. What is missing is said so.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from s3d.errors import DatasetError
from s3d.preparation.importers.found_image import FoundImage
from s3d.preparation.modality import PAPER_EXCLUSIONS, UNKNOWN, canonical_modality, modality_of

FILE_NAME = "pretrain_data.json"
_PREFIXES = ("$nnssl_raw", "$nnssl_preprocessed")


def find_in_nnssl_json(source: Path) -> list[FoundImage]:
    """Images of a pretrain_data.json (or of the folder that holds it). Raises DatasetError naming file and key."""
    file = source / FILE_NAME if source.is_dir() else source
    try:
        collection = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise DatasetError(f"{file} cannot be read ({error.strerror}). Give the path of a {FILE_NAME}.") from error
    except ValueError as error:
        raise DatasetError(f"{file} is not valid JSON ({error}). Mend or write it anew.") from error
    found = []
    for dataset_id, dataset in _items(collection, "datasets", file):
        for subject_id, subject in _items(dataset, "subjects", file):
            for session_id, session in _items(subject, "sessions", file):
                for _, image in _items(session, "images", file):
                    found.append(_describe(image, f"{dataset_id}_{subject_id}", session_id, file))
    return found


def resolve_path(text: str, file: Path) -> Path:
    """A path as pretrain_data.json at `file` writes it; relative ones start at the JSON's folder."""
    prefix, _, rest = text.replace("\\", "/").partition("/")
    if prefix not in _PREFIXES:
        return file.parent / text
    configured = os.environ.get(prefix[1:])
    if configured:
        return Path(configured) / rest
    folders = [file.parent, *file.parent.parents]
    return next((folder / rest for folder in folders if (folder / rest).exists()), file.parent / rest)


def _describe(image: dict[str, Any], subject: str, session: str, file: Path) -> FoundImage:
    written = image.get("image_path")
    if not isinstance(written, str):
        raise DatasetError(f"{file}: an image of subject {subject}, session {session} has no image_path.")
    path = resolve_path(written, file)
    masks = image.get("associated_masks") or {}
    return FoundImage(
        path=path,
        importer="nnssl",
        subject=subject,
        session=session,
        modality=_modality(image),
        anonymization_mask=_mask(masks, "anonymization_mask", file),
        anatomy_mask=_mask(masks, "anatomy_mask", file),
        problem=None if path.exists() else _missing(path, written),
    )


def _modality(image: dict[str, Any]) -> str:
    """The modality field; the paper's exclusions (adc, pha, dwi, SWI) also where only name or description tell."""
    info = image.get("image_info") or {}
    described = [str(value) for key, value in info.items() if "desc" in key.lower()] if isinstance(info, dict) else []
    stated = canonical_modality(str(image.get("modality") or "")) or UNKNOWN
    told = [modality_of(text) for text in (str(image.get("name") or ""), *described)]
    excluded = [modality for modality in told if modality in PAPER_EXCLUSIONS]
    known = [modality for modality in (*excluded, stated, *told) if modality != UNKNOWN]
    return known[0] if known else UNKNOWN


def _mask(masks: dict[str, Any], key: str, file: Path) -> Path | None:
    written = masks.get(key)
    return resolve_path(written, file) if isinstance(written, str) else None


def _missing(path: Path, written: str) -> str:
    variable = written.split("/")[0][1:] if written.startswith("$") else None
    remedy = f"Set the environment variable {variable}" if variable else "Correct image_path"
    return f"There is no file at {path}. {remedy} or restore the file."


def _items(holder: Any, key: str, file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(id, object) of each member of holder[key], which is an object by id or a list. Raises DatasetError."""
    members = holder.get(key) if isinstance(holder, dict) else None
    if isinstance(members, list):
        members = dict(enumerate(members))
    if not isinstance(members, dict) or not all(isinstance(member, dict) for member in members.values()):
        raise DatasetError(f"{file}: {key!r} is missing or not made of objects; nnssl's {FILE_NAME} is expected.")
    return ((str(name), member) for name, member in members.items())
