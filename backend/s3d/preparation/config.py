"""Options of the verbs catalog and preprocess."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from s3d.errors import ConfigError
from s3d.preparation.modality import KNOWN_MODALITIES, PAPER_MODALITIES, UNKNOWN, canonical_modality


@dataclass(frozen=True)
class Shard:
    """Every count-th item from the number-th (1-based) on: one of count jobs that share the work."""

    number: int
    count: int

    def label(self) -> str:
        """For file names, for example 2-of-4; empty where there is one job."""
        return "" if self.count == 1 else f"{self.number}-of-{self.count}"


def parse_shard(text: str) -> Shard:
    """'2/4' -> Shard(2, 4). Raises ConfigError."""
    match = re.fullmatch(r"(\d+)/(\d+)", text.strip())
    shard = Shard(int(match[1]), int(match[2])) if match else None
    if shard is None or not 1 <= shard.number <= shard.count:
        raise ConfigError(f"shard is {text!r}; write i/n with i from 1 to n, for example 1/4 (the first of four jobs).")
    return shard


@dataclass(frozen=True, kw_only=True)
class CatalogConfig:
    """List the images of an archive and decide which are fit for pre-training. Defaults: the paper's filters
    (method.md 0.7 and section 5)."""

    source: Path
    """Folder of images, BIDS folder, DICOM tree, or nnssl's pretrain_data.json."""
    output: Path
    """The catalogue to write, a .jsonl file; a summary goes beside it. A shard writes NAME.i-of-n.jsonl instead."""
    kind: Literal["auto", "folder", "bids", "dicom", "nnssl"] = "auto"
    """What source is; auto looks."""
    min_field_of_view_mm: float = 50.0
    """Images shorter than this along any axis, in mm, are dropped."""
    max_spacing_mm: float = 6.5
    """Images whose voxels are this long or longer along any axis, in mm, are dropped."""
    min_file_kilobytes: float = 200.0
    """Smaller files (for DICOM: the sum of the slices) are dropped; 1 kB = 1024 bytes."""
    modalities: tuple[str, ...] = PAPER_MODALITIES
    """Kinds of MRI to keep; the paper's four by default. Synonyms (T1w, FLAIR, MPRAGE) are understood."""
    assume_modality: str | None = None
    """What images are taken for whose names and tags do not tell, for example T1.
    By default they are dropped: such images are as often maps and functional series as anatomy."""
    check_voxels: bool = True
    """Read every image that passes the filters once, so that truncated, constant or NaN ones are dropped here.
    Off: only headers and hashes are read, and preprocess leaves them out."""
    workers: int = 2
    """Images looked at side by side (threads), 1 or more."""
    shard: str = "1/1"
    """Do only the i-th of n shares, 'i/n', i from 1; preprocess takes all shares together."""

    def __post_init__(self) -> None:
        _check_positive(self, "min_field_of_view_mm", "max_spacing_mm", "workers")
        if self.min_file_kilobytes < 0:
            raise ConfigError(f"min_file_kilobytes is {self.min_file_kilobytes}; give 0 or more.")
        if self.output.suffix != ".jsonl":
            raise ConfigError(f"output is {self.output}; a catalogue's name ends in .jsonl.")
        if not self.modalities:
            raise ConfigError("modalities is empty, so every image would be dropped; name at least one, such as T1.")
        for name in (*self.modalities, *([self.assume_modality] if self.assume_modality else [])):
            if canonical_modality(name) is None:
                raise ConfigError(f"Modality {name!r} is not known; known are {', '.join(KNOWN_MODALITIES)}.")
        parse_shard(self.shard)

    def wanted_modalities(self) -> tuple[str, ...]:
        """modalities in the catalogue's own spelling."""
        return tuple(canonical_modality(name) or name for name in self.modalities)

    def assumed(self) -> str:
        """assume_modality in the catalogue's own spelling; unknown where none is assumed."""
        return canonical_modality(self.assume_modality or UNKNOWN) or UNKNOWN


@dataclass(frozen=True, kw_only=True)
class PreprocessConfig:
    """Turn the kept images of a catalogue into a case store for pre-training (method.md section 5)."""

    catalog: Path
    """catalog.jsonl as written by `s3d catalog`; where it was written in shares, the name without -i-of-n."""
    output: Path
    """Folder of the case store; made, or continued: cases already there are skipped."""
    orientation: Literal["LPS", "as_stored"] = "LPS"
    """Axis order of the stored images."""
    spacing_mm: tuple[float, float, float] | None = (1.0, 1.0, 1.0)
    """Voxel size (z, y, x) in mm after resampling; None (JSON: null) keeps each image's own."""
    normalization: Literal["zscore", "none"] = "zscore"
    """Intensity scaling over the cropped image."""
    workers: int = 2
    """Images prepared side by side, 1 or more; each needs about 1 GB."""
    shard: str = "1/1"
    """Do only the i-th of n shares, 'i/n', i from 1; all shares write into the same store."""

    def __post_init__(self) -> None:
        _check_positive(self, "workers")
        if self.spacing_mm is not None and min(self.spacing_mm) <= 0:
            raise ConfigError(f"spacing_mm is {self.spacing_mm}; each value must be above 0.")
        parse_shard(self.shard)


def _check_positive(config: object, *names: str) -> None:
    for name in names:
        if not getattr(config, name) > 0:
            raise ConfigError(f"{name} is {getattr(config, name)}; it must be above 0.")
