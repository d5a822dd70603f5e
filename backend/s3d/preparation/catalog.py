"""The unlabelled catalogue: catalog.jsonl, one line per image of an archive, kept or dropped, and why.

Torch-free. Every job of a sharded run writes its own file (catalog.2-of-4.jsonl); reading takes them together.
"""

import dataclasses
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from s3d.atomic_files import write_text
from s3d.config import from_dict, to_dict
from s3d.errors import ConfigError, DatasetError
from s3d.preparation.config import Shard

DUPLICATE = "duplicate"


@dataclass(frozen=True, kw_only=True)
class CatalogEntry:
    """One line: one image file or one DICOM series."""

    path: Path
    """Image file; for DICOM the folder of the series. A relative path starts at the catalogue's folder."""
    importer: str
    """Who found it: folder, bids, dicom or nnssl."""
    series_id: str | None = None
    """DICOM series instance UID, needed to read the series."""
    subject: str
    """Patient, as the source names it; for DICOM a hash."""
    session: str | None = None
    """Visit, as the source names it."""
    modality: str
    """One of modality.KNOWN_MODALITIES."""
    shape: tuple[int, int, int] | None = None
    """Voxels (z, y, x); null where the header cannot be read."""
    spacing_mm: tuple[float, float, float] | None = None
    """Voxel size (z, y, x)."""
    bytes: int = 0
    """Size of the file, or of all slices together."""
    sha256: str | None = None
    """Hash of the file; for DICOM of the slices' sorted hashes."""
    kept: bool
    """Whether preprocess takes the image."""
    rule: str | None = None
    """Which rule dropped it (filtering.py), for counting."""
    reason: str | None = None
    """The same as a sentence with the value."""
    anonymization_mask: Path | None = None
    """Mask of removed or altered voxels (a face), left out of the loss."""
    anatomy_mask: Path | None = None
    """Mask of voxels that crops shall not be centred on."""


def dropped(entry: CatalogEntry, rule: str, reason: str) -> CatalogEntry:
    """entry as a dropped one."""
    return dataclasses.replace(entry, kept=False, rule=rule, reason=reason)


def without_duplicates(entries: Iterable[CatalogEntry]) -> list[CatalogEntry]:
    """entries in the order of their paths; of kept images with the same content only the first stays kept."""
    first: dict[str, CatalogEntry] = {}
    result = []
    for entry in sorted(entries, key=lambda entry: (str(entry.path), entry.series_id or "")):
        if entry.kept and entry.sha256 is not None:
            original = first.setdefault(entry.sha256, entry)
            if original is not entry:
                entry = dropped(entry, DUPLICATE, f"The same content as {original.path}.")
        result.append(entry)
    return result


def shard_path(path: Path, shard: Shard) -> Path:
    """catalog.jsonl, or catalog.2-of-4.jsonl for the second of four jobs; works for folders and any ending."""
    return path.with_name(f"{path.stem}.{shard.label()}{path.suffix}") if shard.label() else path


def write_catalog(path: Path, entries: Sequence[CatalogEntry]) -> None:
    """Write one JSON object per line, atomically. Raises StorageError."""
    text = "".join(json.dumps(to_dict(entry), ensure_ascii=False) + "\n" for entry in entries)
    # what is not UTF-8 in the name of a dropped image becomes JSON's own \udc.. and is read back as it was
    write_text(path, text.encode("utf-8", "backslashreplace").decode("utf-8"))


def read_catalog(path: Path) -> list[CatalogEntry]:
    """The entries of a catalogue, or of all its shards, duplicates between shards dropped.

    Raises DatasetError for a missing or damaged catalogue, naming file and line, and for a missing shard.
    """
    entries = [entry for file in _parts(path) for entry in _read_part(file)]
    if not entries:
        raise DatasetError(f"{path} is empty; run `s3d catalog` on a folder that holds images.")
    return without_duplicates(entries)


def _parts(path: Path) -> list[Path]:
    """The file itself, or its complete set of shards."""
    pattern = re.compile(rf"{re.escape(path.stem)}\.(\d+)-of-(\d+){re.escape(path.suffix)}")
    siblings = sorted(path.parent.iterdir()) if path.parent.is_dir() else []
    found = {(int(match[2]), int(match[1])): file for file in siblings if (match := pattern.fullmatch(file.name))}
    counts = {count for count, _ in found}
    if path.is_file():
        if found:
            raise DatasetError(f"Beside {path} lie shards of another run; remove what is out of date.")
        return [path]
    if not found:
        raise DatasetError(f"There is no catalogue at {path}. Write one with `s3d catalog`.")
    if len(counts) > 1:
        raise DatasetError(f"Beside {path} lie shards of different runs ({sorted(counts)} jobs); remove the old ones.")
    count = counts.pop()
    missing = [number for number in range(1, count + 1) if (count, number) not in found]
    if missing:
        raise DatasetError(f"Of the {count} shards of {path}, {missing} are missing; run `s3d catalog` for them.")
    return [found[count, number] for number in range(1, count + 1)]


def _read_part(file: Path) -> list[CatalogEntry]:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{file} cannot be read ({error}). Write the catalogue anew with `s3d catalog`.") from error
    return [_read_line(line, file, number) for number, line in enumerate(lines, start=1) if line.strip()]


def _read_line(line: str, file: Path, number: int) -> CatalogEntry:
    try:
        values = json.loads(line)
        if not isinstance(values, dict):
            raise ConfigError("the line is not an object")
        entry = from_dict(CatalogEntry, values, source=f"{file} line {number}")
    except (ValueError, ConfigError) as error:
        raise DatasetError(f"{file} line {number} is damaged ({error}). Write it anew with `s3d catalog`.") from error
    return dataclasses.replace(
        entry,
        path=file.parent / entry.path,
        anonymization_mask=entry.anonymization_mask and file.parent / entry.anonymization_mask,
        anatomy_mask=entry.anatomy_mask and file.parent / entry.anatomy_mask,
    )
