"""What dataset.json says about channels and labels, in nnU-Net's spelling and in the Medical Segmentation Decathlon's.

nnU-Net: "channel_names": {"0": "T1"}, "labels": {"background": 0, "tumour": 1}, "file_ending": ".nii.gz".
MSD:     "modality":      {"0": "T1"}, "labels": {"0": "background", "1": "tumour"}, "training": [{"image":, "label":}].
Keys that are not needed here are left alone.
"""

import json
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from s3d.errors import DatasetError, LabelError

Layout = Literal["nnunet", "msd"]
_LIMIT = 2**31
"""The case store keeps labels as int32."""
_WHOLE_NUMBER = re.compile(r"-?[0-9]+")
_BACKGROUND = "background"
_IGNORE = "ignore"


@dataclass(frozen=True, kw_only=True)
class DatasetDescription:
    """dataset.json, checked."""

    layout: Layout
    """How the files are found."""
    name: str
    """For people; the folder's name if the file gives none."""
    channels: tuple[str, ...]
    """Channel names in order."""
    labels: dict[str, int]
    """Label values by name, without background and ignore, ascending."""
    ignore_value: int | None
    """Label value of voxels nobody annotated."""
    values: dict[str, Any]
    """The whole file."""


def read_description(path: Path) -> DatasetDescription:
    """Read a dataset.json. Raises DatasetError (missing, not JSON, layout unknown) or LabelError, naming the file."""
    values = _read_json(path)
    if "channel_names" in values:
        layout: Layout = "nnunet"
        channels = _channels(path, "channel_names", values["channel_names"])
    elif "modality" in values and "training" in values:
        layout = "msd"
        channels = _channels(path, "modality", values["modality"])
    else:
        raise DatasetError(
            f'{path} has neither "channel_names" (nnU-Net) nor "modality" with "training" (MSD). '
            'Add the channel names, for example "channel_names": {"0": "T1"}.'
        )
    labels = _label_values(path, values.get("labels"))
    ignore_value = _take_ignore(path, labels)
    if not labels:
        raise LabelError(f'{path}: "labels" names no structure. Add at least one, for example "hippocampus": 1.')
    return DatasetDescription(
        layout=layout,
        name=str(values.get("name") or path.parent.name),
        channels=channels,
        labels=dict(sorted(labels.items(), key=lambda item: item[1])),
        ignore_value=ignore_value,
        values=values,
    )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8-sig"))  # some MSD files begin with a byte order mark
    except OSError as error:
        raise DatasetError(
            f"{path} cannot be read ({error.strerror}). Give the folder of a labelled dataset: nnU-Net raw or MSD."
        ) from error
    except ValueError as error:
        raise DatasetError(f"{path} is not valid JSON ({error}). Mend the file.") from error
    if not isinstance(values, dict):
        raise DatasetError(f"{path} holds a {type(values).__name__}, not an object. Mend the file.")
    return values


def _channels(path: Path, key: str, names: Any) -> tuple[str, ...]:
    """Channel names in the order of their numbers (as numbers: "10" comes after "2")."""
    numbers = sorted(int(number) for number in names if str(number).isdecimal()) if isinstance(names, dict) else []
    if not numbers or numbers != list(range(len(names))):
        raise DatasetError(
            f'{path}: "{key}" is {names!r}; it must name channels "0", "1", ... without gaps. Mend the file.'
        )
    return tuple(str(names[str(number)]) for number in numbers)


def _label_values(path: Path, labels: Any) -> dict[str, int]:
    """Values by name, in either spelling, without background."""
    if not isinstance(labels, dict):
        raise LabelError(f'{path}: "labels" is {labels!r}; it must be an object that names the label values.')
    pairs = [_name_and_value(path, str(key), item) for key, item in labels.items()]
    for what, found in (("name", [name for name, _ in pairs]), ("value", [value for _, value in pairs])):
        twice, times = Counter(found).most_common(1)[0] if found else ("", 0)
        if times > 1:
            raise LabelError(f"{path}: two labels have the {what} {twice!r}. Give each its own.")
    for name, value in pairs:
        if name == _BACKGROUND and value != 0:
            raise LabelError(f"{path}: background has the value {value}; it must be 0. Change the value and the files.")
    return {name: value for name, value in pairs if value != 0}


def _name_and_value(path: Path, key: str, item: Any) -> tuple[str, int]:
    if isinstance(item, list):
        raise LabelError(
            f"{path}: label {key!r} is a region, the list {item}; overlapping regions are not supported. "
            "Give each structure one value of its own."
        )
    name, value = (item, key) if isinstance(item, str) and _WHOLE_NUMBER.fullmatch(key) else (key, item)
    if isinstance(value, str) and _WHOLE_NUMBER.fullmatch(value):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not -_LIMIT <= value < _LIMIT:
        raise LabelError(
            f"{path}: label {name!r} has the value {value!r}; a whole number that fits into 32 bits is needed."
        )
    return name, value


def _take_ignore(path: Path, labels: dict[str, int]) -> int | None:
    """Take the ignore label out of labels; like nnU-Net, its value must be the highest."""
    ignore_value = labels.pop(_IGNORE, None)
    highest = max(labels.values(), default=0)
    if ignore_value is not None and ignore_value < highest:
        raise LabelError(
            f"{path}: ignore has the value {ignore_value}, another label {highest}; ignore must be the highest. "
            "Change its value in dataset.json and in the label files."
        )
    return ignore_value
