"""Preprocessed cases on disk, read a box at a time while training.

    STORE/store.json                     schema, plan, channels, labels (StoreDescription)
    STORE/cases/NAME/case.json           shape, size and hash of each array, properties (CaseRecord)
    STORE/cases/NAME/image.b2nd          float32 (channel, z, y, x)
    STORE/cases/NAME/labels.b2nd         int32 (z, y, x), original label values        (optional, as the next two)
    STORE/cases/NAME/excluded.b2nd       bool, True where the loss must not look       (anonymised voxels)
    STORE/cases/NAME/anatomy.b2nd        bool, True where no training patch may centre (method.md section 5)
    STORE/cases/NAME/foreground.npy      int32 (n, 3), up to 10,000 positions of each label value, values ascending

A case's folder is written under a temporary name, synced and renamed: it is whole or absent, so a killed writer leaves
a usable store, and several processes may write different cases into one store.
"""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from s3d.atomic_files import atomic_path, remove_leftovers, remove_path, storage_errors, write_json
from s3d.config import to_dict
from s3d.data.array_files import Box, check_array_file, file_sha256, read_box, write_array
from s3d.data.case_name import check_case_name, check_spelling
from s3d.data.case_record import (
    ArrayRecord,
    CaseRecord,
    StoreDescription,
    check_goes_on,
    check_same_plan,
    read_case_record,
    read_store_description,
)
from s3d.data.foreground import read_positions, sample_positions
from s3d.data.preprocessing import PreprocessingPlan
from s3d.errors import DatasetError

_DESCRIPTION = "store.json"
_RECORD = "case.json"
_FOREGROUND = "foreground.npy"
_DTYPES: dict[str, type[np.generic]] = {
    "image": np.float32,
    "labels": np.int32,
    "excluded": np.bool_,
    "anatomy": np.bool_,
}


class CaseStore:
    """A folder of preprocessed cases. Any number of threads may read; one writer per case at a time."""

    def __init__(self, folder: Path, description: StoreDescription, threads: int) -> None:
        """Use create or open. threads: what blosc2 uses inside one read or write."""
        self.folder = folder
        self.description = description
        self._threads = threads
        self._records: dict[str, CaseRecord] = {}
        self._undamaged: set[Path] = set()
        self._spellings: dict[str, str] = {}

    @classmethod
    def create(cls, folder: Path, description: StoreDescription | None = None, threads: int = 1) -> "CaseStore":
        """Start a store, or go on with one that holds the same source, plan and channels.

        Labels may change between two calls: cases keep their original values. Raises DatasetError, StorageError.
        """
        wanted = description or StoreDescription()
        if (folder / _DESCRIPTION).exists():
            check_goes_on(folder, read_store_description(folder / _DESCRIPTION), wanted)
        with storage_errors(folder):
            (folder / "cases").mkdir(parents=True, exist_ok=True)
        write_json(folder / _DESCRIPTION, to_dict(wanted))
        return cls(folder, wanted, threads)

    @classmethod
    def open(cls, folder: Path, plan: PreprocessingPlan | None = None, threads: int = 1) -> "CaseStore":
        """Open a store for reading; with a plan, only one that was made by it.

        Raises DatasetError: no store, other schema, other plan, no cases.
        """
        store = cls(folder, read_store_description(folder / _DESCRIPTION), threads)
        if plan is not None:
            check_same_plan(folder, store.plan, plan)
        if not store.names():
            raise DatasetError(f"The case store {folder} is empty. Preprocess some cases into it first.")
        return store

    @property
    def plan(self) -> PreprocessingPlan:
        """How every case was preprocessed."""
        return self.description.plan

    def names(self) -> tuple[str, ...]:
        """Every whole case, sorted; what other processes add meanwhile appears."""
        folder = self.folder / "cases"
        found = folder.iterdir() if folder.is_dir() else ()
        return tuple(sorted(path.name for path in found if not path.name.startswith(".")))

    def write(
        self,
        name: str,
        image: np.ndarray,
        labels: np.ndarray | None = None,
        excluded: np.ndarray | None = None,
        properties: dict[str, Any] | None = None,
        anatomy: np.ndarray | None = None,
    ) -> None:
        """Add a case, or replace it; whole or not at all.

        image: float32 (channel, z, y, x); labels: int32 (z, y, x); excluded, anatomy: bool (z, y, x);
        properties: JSON values. Raises DatasetError (unusable name, shapes that differ), StorageError.
        """
        given = {"image": image, "labels": labels, "excluded": excluded, "anatomy": anatomy}
        arrays = {kind: _as_stored(kind, array) for kind, array in given.items() if array is not None}
        self._check_fits(name, arrays)
        _, depth, height, width = image.shape
        counts, positions = ({}, None) if labels is None else sample_positions(arrays["labels"])
        with atomic_path(self._case(name)) as folder:
            folder.mkdir()
            record = CaseRecord(
                channels=len(image),
                shape=(depth, height, width),
                arrays={kind: self._write_array(folder, kind, array) for kind, array in arrays.items()},
                foreground=counts,
                properties=properties or {},
            )
            if positions is not None:
                np.save(folder / _FOREGROUND, positions)
            text = json.dumps(to_dict(record), indent=2, ensure_ascii=False, allow_nan=False)
            (folder / _RECORD).write_text(text + "\n", encoding="utf-8")
        self._forget(name)
        self._records[name] = record
        self._spellings[name.casefold()] = name

    def remove(self, name: str) -> None:
        """Take a case out; at no moment is half of it left under its name. Raises StorageError."""
        self._forget(name)
        remove_path(self._case(name))

    def remove_leftovers(self) -> None:
        """Remove what killed writers left behind. Only where nobody else is writing into the store."""
        remove_leftovers(self.folder / "cases")

    def shape(self, name: str) -> tuple[int, int, int]:
        """Voxels of a case (z, y, x)."""
        return self.record(name).shape

    def properties(self, name: str) -> dict[str, Any]:
        """What the writer kept beside the arrays."""
        return self.record(name).properties

    def read_image(self, name: str, box: Box | None = None) -> np.ndarray:
        """float32 (channel, z, y, x) of the box, 0 outside the volume; without box the whole volume."""
        return self._read(name, "image", box, 0.0)

    def read_labels(self, name: str, box: Box | None = None, pad_value: int = 0) -> np.ndarray:
        """int32 (z, y, x) original label values of the box; pad_value (0 or the ignore value) outside the volume.

        Raises DatasetError if the case has no labels.
        """
        return self._read(name, "labels", box, pad_value)

    def read_excluded(self, name: str, box: Box | None = None) -> np.ndarray:
        """bool (z, y, x), True where the loss must not look; all False where a case has no such mask."""
        return self._read_mask(name, "excluded", box)

    def read_anatomy(self, name: str, box: Box | None = None) -> np.ndarray:
        """bool (z, y, x), True where no patch may be centred; all False where a case has no such mask."""
        return self._read_mask(name, "anatomy", box)

    def foreground(self, name: str) -> dict[int, np.ndarray]:
        """Up to 10,000 random positions int32 (n, 3) of each label value but 0 (ignore included); read only."""
        return read_positions(self._case(name) / _FOREGROUND, self.record(name).foreground)

    def fingerprint(self, names: Iterable[str] | None = None) -> str:
        """sha256 over the names, shapes and array hashes of the cases (all, unless named).

        The same voxels give the same fingerprint on every machine; only the small JSON files are read.
        """
        lines = []
        for name in sorted(set(self.names() if names is None else names)):
            record = self.record(name)
            hashes = {kind: array.sha256 for kind, array in record.arrays.items()}
            lines.append([name, record.channels, list(record.shape), hashes])
        return hashlib.sha256(json.dumps(lines, sort_keys=True).encode()).hexdigest()

    def record(self, name: str) -> CaseRecord:
        """case.json of a case, kept in memory once read. Raises DatasetError."""
        if name not in self._records:
            self._records[name] = read_case_record(self._case(name) / _RECORD)
        return self._records[name]

    def check(self, name: str) -> None:
        """Raise DatasetError unless every array of the case is there and undamaged (nothing is decompressed)."""
        for kind in self.record(name).arrays:
            self._whole_file(name, kind)
        self.foreground(name)

    def _case(self, name: str) -> Path:
        return self.folder / "cases" / name

    def _read_mask(self, name: str, kind: str, box: Box | None) -> np.ndarray:
        if kind in self.record(name).arrays:
            return self._read(name, kind, box, 0)
        shape = self.shape(name) if box is None else tuple(stop - start for start, stop in box)
        return np.zeros(shape, np.bool_)

    def _read(self, name: str, kind: str, box: Box | None, pad_value: float) -> np.ndarray:
        return read_box(self._whole_file(name, kind), box, pad_value, self._threads)

    def _whole_file(self, name: str, kind: str) -> Path:
        """Path of an array file that has its full length and, looked at before the first read, its hash."""
        record = self.record(name).arrays.get(kind)
        if record is None:
            raise DatasetError(f"Case {name!r} of the store {self.folder} has no {kind}. Preprocess it with them.")
        path = _array_path(self._case(name), kind)
        check_array_file(path, record.bytes, None if path in self._undamaged else record.file_sha256)
        self._undamaged.add(path)
        return path

    def _forget(self, name: str) -> None:
        """What is known of a case that is replaced or removed."""
        self._records.pop(name, None)
        self._spellings.pop(name.casefold(), None)
        self._undamaged -= {_array_path(self._case(name), kind) for kind in _DTYPES}

    def _write_array(self, folder: Path, kind: str, array: np.ndarray) -> ArrayRecord:
        path = _array_path(folder, kind)
        size = write_array(path, array, self._threads)
        voxels = hashlib.sha256(array.reshape(-1).data).hexdigest()
        return ArrayRecord(bytes=size, sha256=voxels, file_sha256=file_sha256(path))

    def _check_fits(self, name: str, arrays: dict[str, np.ndarray]) -> None:
        """Refuse what could not be read back as it was meant."""
        check_case_name(name)
        if not self._spellings:  # listed once: a store may hold many thousand cases
            self._spellings.update({other.casefold(): other for other in self.names()})
        check_spelling(name, self._spellings.get(name.casefold(), name))
        image, channels = arrays["image"], self.description.channels
        if channels and len(image) != len(channels):
            raise DatasetError(
                f"Case {name!r} has {len(image)} channels; the store {self.folder} holds {len(channels)} "
                f"({', '.join(channels)}). Give every case the same channels."
            )
        for kind, array in arrays.items():
            if array.shape[-3:] != image.shape[1:] or array.size == 0:
                raise DatasetError(
                    f"Case {name!r}: {kind} has shape {array.shape}, the image {image.shape}; the voxels do not match."
                )


def _array_path(case: Path, kind: str) -> Path:
    return case / f"{kind}.b2nd"


def _as_stored(kind: str, array: np.ndarray) -> np.ndarray:
    """The array in the type and memory order in which it is hashed and stored."""
    return np.ascontiguousarray(array, dtype=_DTYPES[kind])
