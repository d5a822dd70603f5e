"""Which files make up which case, and where each result goes."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from s3d.data.file_name import check_name
from s3d.data.image_files import ENDINGS
from s3d.errors import ConfigError, DatasetError, ImageError

_CHANNEL = re.compile(r"(?P<case>.+)_(?P<channel>\d{4})")


@dataclass(frozen=True)
class InputCase:
    """Images of one case and the path of its result."""

    name: str
    images: tuple[Path, ...]
    """A file per channel in order, or one file with all of them."""
    result: Path
    """Label file to be written; the ending is that of the first image unless the user named a file."""
    missing: str | None = None
    """Name of a channel file that should be there: 0001 where there are 0000 and 0002."""


def find_cases(inputs: Sequence[Path], output: Path) -> list[InputCase]:
    """The cases of SegmentConfig.input, sorted by name.

    Raises ImageError (a missing file, a name that is not UTF-8), DatasetError (a folder without images, two cases of
    one name), ConfigError (several folders, an output with an ending that cannot be written, or a result that would
    overwrite an image).
    """
    for path in inputs:
        if not path.exists():
            raise ImageError(f"There is no file or folder {path}. Check the path of the input.")
    folders = [path for path in inputs if path.is_dir()]
    if not folders:
        cases = [_single_case(tuple(inputs), output)]
    elif len(inputs) == 1:
        cases = _cases_of_folder(inputs[0], output)
    else:
        raise ConfigError(f"{folders[0]} is a folder among other inputs; give one folder, or the files of one case.")
    for path in (path for case in cases for path in (*case.images, case.result)):
        check_name(path)
    _check_overwriting(cases)
    return cases


def image_ending(path: Path) -> str | None:
    """The ending of an image file that can also be written (.nii.gz counts as one), or None."""
    return next((ending for ending in ENDINGS if path.name.lower().endswith(ending)), None)


def _stem(path: Path) -> str:
    ending = image_ending(path)
    return path.name[: -len(ending)] if ending else path.stem


def _single_case(images: tuple[Path, ...], output: Path) -> InputCase:
    stem = _stem(images[0])
    match = _CHANNEL.fullmatch(stem)
    name = match["case"] if match and int(match["channel"]) == 0 else stem
    if not output.is_dir():
        if image_ending(output):
            return InputCase(name, images, output)
        if output.suffix:
            raise ConfigError(
                f"The output {output} ends in {output.suffix}, which cannot be written; end it in "
                f"{', '.join(ENDINGS)}, or name a folder that is there or has no ending."
            )
    return InputCase(name, images, output / f"{name}{image_ending(images[0]) or '.nii.gz'}")


def _cases_of_folder(folder: Path, output: Path) -> list[InputCase]:
    if image_ending(output) or output.is_file():
        raise ConfigError(f"The input {folder} is a folder, so the output must be one, too; {output} names a file.")
    files = sorted(path for path in folder.iterdir() if image_ending(path) and not path.name.startswith("."))
    if not files:
        raise DatasetError(f"{folder} holds no image ({', '.join(ENDINGS)}). Check the path of the input.")
    grouped: dict[tuple[str, str], dict[int, Path]] = {}
    for path in files:
        name, channel = _case_and_channel(path)
        channels = grouped.setdefault((name, image_ending(path) or ""), {})
        if channel in channels:
            raise DatasetError(f"{channels[channel]} and {path.name} are the same channel of case {name}; rename one.")
        channels[channel] = path
    cases = []
    for (name, ending), channels in sorted(grouped.items()):
        images = tuple(channels[index] for index in sorted(channels))
        gaps = sorted(set(range(max(channels))) - set(channels))
        missing = f"{name}_{gaps[0]:04d}{ending}" if gaps else None
        cases.append(InputCase(name, images, output / f"{name}{ending}", missing))
    return cases


def _case_and_channel(path: Path) -> tuple[str, int]:
    """Name and channel by nnU-Net's rule; a name that only looks like it (no _0000 beside it) is a case of its own."""
    stem, ending = _stem(path), path.name[len(_stem(path)) :]
    match = _CHANNEL.fullmatch(stem)
    if match and path.with_name(f"{match['case']}_0000{ending}").exists():
        return match["case"], int(match["channel"])
    return stem, 0


def _check_overwriting(cases: Sequence[InputCase]) -> None:
    images = {image.resolve() for case in cases for image in case.images}
    for case in cases:
        if case.result.resolve() in images:
            raise ConfigError(f"The result would overwrite the image {case.result}; choose another output.")
