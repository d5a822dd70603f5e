"""The two small JSON files of a case store: store.json (same for all cases) and case.json (one per case)."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from s3d.config import from_dict, to_dict
from s3d.data.preprocessing import PreprocessingPlan
from s3d.errors import ConfigError, DatasetError

SCHEMA_VERSION = 2
"""2: labels of 32 bits, hashes of the files."""


@dataclass(frozen=True, kw_only=True)
class StoreDescription:
    """What store.json says: the same for all cases."""

    schema_version: int = SCHEMA_VERSION
    """Version of the whole layout."""
    source: str = ""
    """Name of the dataset or catalogue the cases come from."""
    plan: PreprocessingPlan = field(default_factory=PreprocessingPlan)
    """How every case was preprocessed; default as in the paper."""
    channels: tuple[str, ...] = ()
    """Channel names in order; empty: not checked."""
    labels: dict[str, int] = field(default_factory=dict)
    """Label values by name, without background and ignore."""
    ignore_value: int | None = None
    """Label value of voxels nobody annotated."""


@dataclass(frozen=True, kw_only=True)
class ArrayRecord:
    """One array file of a case."""

    bytes: int
    """Size of the file: a truncated one is noticed before it is read."""
    sha256: str
    """Of the voxels, not of the compressed bytes, which change with the library's version."""
    file_sha256: str
    """Of the compressed file: damage is noticed before it is read, and nothing need be decompressed for it."""


@dataclass(frozen=True, kw_only=True)
class CaseRecord:
    """What case.json says."""

    channels: int
    """Channels of the image."""
    shape: tuple[int, int, int]
    """Voxels (z, y, x)."""
    arrays: dict[str, ArrayRecord]
    """By kind: image, labels, excluded, anatomy."""
    foreground: dict[int, int]
    """Positions kept of each label value, values ascending; background left out, ignore not."""
    properties: dict[str, Any]
    """Whatever the writer wanted to keep (JSON)."""


def read_store_description(path: Path) -> StoreDescription:
    """store.json, checked. Raises DatasetError: missing, damaged, other schema."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DatasetError(
            f"{path.parent} is not a case store: its {path.name} cannot be read ({error.strerror}). "
            "Give the folder that `s3d preprocess` wrote."
        ) from error
    except ValueError as error:
        raise DatasetError(f"{path} is not valid JSON ({error}). Preprocess into a new folder.") from error
    version = values.get("schema_version") if isinstance(values, dict) else None
    if version != SCHEMA_VERSION:
        raise DatasetError(
            f"{path} has store schema {version!r}; this program reads schema {SCHEMA_VERSION}. "
            "Preprocess into a new folder."
        )
    try:
        return from_dict(StoreDescription, values, source=str(path))
    except (ConfigError, TypeError, ValueError) as error:
        raise DatasetError(f"{error} The store is damaged; preprocess into a new folder.") from error


def read_case_record(path: Path) -> CaseRecord:
    """case.json, checked. Raises DatasetError: missing, damaged."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(values, dict):
            raise TypeError(f"a {type(values).__name__} instead of an object")
        return from_dict(CaseRecord, values, source=str(path))
    except FileNotFoundError as error:
        raise DatasetError(
            f"The case store {path.parents[2]} has no whole case {path.parent.name!r}. Preprocess it again."
        ) from error
    except (OSError, TypeError, ValueError, ConfigError) as error:
        raise DatasetError(
            f"{path} is damaged ({error}). Delete the folder {path.parent} and preprocess the case again."
        ) from error


def check_same_plan(folder: Path, found: PreprocessingPlan, wanted: PreprocessingPlan) -> None:
    """Raise DatasetError naming the first setting in which a store's plan differs from the one asked for."""
    _check_same(folder, to_dict(found), to_dict(wanted))


def check_goes_on(folder: Path, found: StoreDescription, wanted: StoreDescription) -> None:
    """Raise DatasetError unless cases described by wanted may join a store described by found.

    Labels may change: cases keep their original values.
    """
    _check_same(folder, _fixed(found), _fixed(wanted))


def _fixed(description: StoreDescription) -> dict[str, Any]:
    """What must not change between two runs that write into one store."""
    return {"source": description.source, "channels": list(description.channels), **to_dict(description.plan)}


def _check_same(folder: Path, found: dict[str, Any], wanted: dict[str, Any]) -> None:
    for key, value in wanted.items():
        if found.get(key) != value:
            raise DatasetError(
                f"The case store {folder} was made with {key} {found.get(key)!r}, but {value!r} is asked for. "
                "Choose another folder, or delete this one and preprocess again."
            )
