"""A labelled dataset on disk: the nnU-Net raw layout, or that of the Medical Segmentation Decathlon (MSD).

nnU-Net raw: imagesTr/CASE_0000.nii.gz (one file per channel) and labelsTr/CASE.nii.gz. MSD: dataset.json lists pairs of
files, a 4-D image holds the channels. Reading the dataset looks at names only; load_case reads and checks one case.
"""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from s3d.data.dataset_json import DatasetDescription, read_description
from s3d.data.image_files import Volume, read_channels, read_labels, same_grid
from s3d.errors import DatasetError, GeometryError, LabelError

_NUMBERED = re.compile(r"(.+)_(\d{4})")


@dataclass(frozen=True)
class LabelledCase:
    """One case's files."""

    name: str
    images: tuple[Path, ...]
    """One file per channel in order, or a single file that holds them all."""
    labels: Path


@dataclass(frozen=True)
class LabelledDataset:
    """What a dataset folder holds."""

    name: str
    folder: Path
    channels: tuple[str, ...]
    """Channel names in order."""
    labels: dict[str, int]
    """Label values by name, ascending, without background (0) and ignore."""
    ignore_value: int | None
    """Label value of voxels nobody annotated, or None."""
    cases: tuple[LabelledCase, ...]
    """Sorted by name; never empty."""


def read_dataset(folder: Path) -> LabelledDataset:
    """Find the cases of a dataset; every file it names exists.

    Raises DatasetError (no dataset.json, a file missing, no cases) or LabelError (labels of dataset.json), each naming
    the file and a remedy.
    """
    description = read_description(folder / "dataset.json")
    cases = _nnunet_cases(folder, description) if description.layout == "nnunet" else _msd_cases(folder, description)
    if not cases:
        raise DatasetError(f"{folder} holds no cases. Add images and labels, or check the path.")
    return LabelledDataset(
        name=description.name,
        folder=folder,
        channels=description.channels,
        labels=description.labels,
        ignore_value=description.ignore_value,
        cases=tuple(sorted(cases, key=lambda case: case.name)),
    )


def load_case(dataset: LabelledDataset, case: LabelledCase) -> tuple[Volume, np.ndarray]:
    """The image and its labels, int32 (z, y, x) on the image's grid, original values.

    Raises ImageError (unreadable, constant, NaN), GeometryError (labels on another grid), LabelError (a value that
    dataset.json does not name).
    """
    volume = read_channels(case.images, len(dataset.channels))
    labels, grid = read_labels(case.labels)
    if not same_grid(volume.grid, grid):
        raise GeometryError(
            f"{case.labels} does not lie on the grid of {case.images[0]}: {grid} against {volume.grid}. "
            "Draw or export the labels on the image's own grid."
        )
    ignore = () if dataset.ignore_value is None else (dataset.ignore_value,)
    known = np.array([0, *dataset.labels.values(), *ignore], dtype=labels.dtype)
    unknown = np.unique(labels[~np.isin(labels, known)])
    if unknown.size:
        shown = ", ".join(str(value) for value in unknown[:5])
        raise LabelError(
            f"{case.labels} holds the label value {shown}, which {dataset.folder / 'dataset.json'} does not name. "
            "Add it there under labels, or correct the file."
        )
    return volume, labels


def _nnunet_cases(folder: Path, description: DatasetDescription) -> list[LabelledCase]:
    ending = str(description.values.get("file_ending", ".nii.gz"))
    images: dict[str, dict[int, Path]] = {}
    for path in _files(folder / "imagesTr", ending):
        numbered = _NUMBERED.fullmatch(path.name.removesuffix(ending))
        if numbered is None:
            raise DatasetError(
                f"{path} has no channel number. Name images as nnU-Net does, CASE_0000{ending} for the first channel."
            )
        images.setdefault(numbered[1], {})[int(numbered[2])] = path
    labels = {path.name.removesuffix(ending): path for path in _files(folder / "labelsTr", ending)}
    for name in sorted(images.keys() ^ labels.keys()):
        have, lack = ("labels", f"imagesTr/{name}_0000") if name in labels else ("an image", f"labelsTr/{name}")
        raise DatasetError(f"Case {name!r} has {have} but no {folder / lack}{ending}. Add it, or take the case out.")
    return [
        LabelledCase(name, _in_order(folder, name, found, description.channels), labels[name])
        for name, found in images.items()
    ]


def _in_order(folder: Path, name: str, found: dict[int, Path], channels: tuple[str, ...]) -> tuple[Path, ...]:
    """A case's files by channel number, which must be those of dataset.json."""
    if sorted(found) != list(range(len(channels))):
        numbers = ", ".join(f"{number:04d}" for number in sorted(found))
        raise DatasetError(
            f"Case {name!r} in {folder / 'imagesTr'} has the channels {numbers}, but dataset.json names "
            f"{len(channels)} ({', '.join(channels)}). Add or remove files, or mend channel_names."
        )
    return tuple(found[number] for number in sorted(found))


def _files(folder: Path, ending: str) -> Iterable[Path]:
    """Files of that ending; hidden ones are left out (macOS puts ._NAME beside every file on foreign disks)."""
    if not folder.is_dir():
        raise DatasetError(f"There is no folder {folder}. The nnU-Net raw layout needs imagesTr and labelsTr.")
    return [path for path in sorted(folder.iterdir()) if path.name.endswith(ending) and not path.name.startswith(".")]


def _msd_cases(folder: Path, description: DatasetDescription) -> list[LabelledCase]:
    listed = description.values["training"]
    if not isinstance(listed, list):
        raise DatasetError(f'{folder / "dataset.json"}: "training" is not a list of image and label files. Mend it.')
    cases: dict[str, LabelledCase] = {}
    for entry in listed:
        image, labels = _listed_file(folder, entry, "image"), _listed_file(folder, entry, "label")
        if image.name.startswith("."):
            continue
        name = Path(image.name.removesuffix(".gz")).stem
        if name in cases:
            raise DatasetError(f"{folder / 'dataset.json'} lists the case {name!r} twice under training. Remove one.")
        cases[name] = LabelledCase(name, (image,), labels)
    return list(cases.values())


def _listed_file(folder: Path, entry: Any, key: str) -> Path:
    """The existing file an entry of the training list names; it must not lead out of the dataset."""
    relative = entry.get(key) if isinstance(entry, dict) else None
    if not isinstance(relative, str) or not relative:
        raise DatasetError(
            f'{folder / "dataset.json"}: the training entry {entry!r} names no {key}. Each needs "image" and "label".'
        )
    normal = Path(os.path.normpath(relative))
    if normal.anchor or normal.parts[:1] == ("..",):
        raise DatasetError(
            f"{folder / 'dataset.json'} lists {relative!r}, outside the dataset folder. Copy the file into the folder."
        )
    path = folder / normal
    if not path.is_file():
        raise DatasetError(f"{path}, listed in dataset.json, does not exist. Add the file or take the entry out.")
    return path
