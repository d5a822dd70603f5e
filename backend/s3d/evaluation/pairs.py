"""Which prediction belongs to which reference: files of the same name in two folders, on the same grid."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from s3d.data.image_files import ENDINGS, Grid, read_labels, same_grid
from s3d.errors import DatasetError, GeometryError

_SHOWN_NAMES = 5


@dataclass(frozen=True)
class Pair:
    """The files of one case."""

    case: str
    reference: Path
    prediction: Path | None
    """None if there is none."""
    image: Path | None
    """First channel, to draw; None if there is none."""


def find_pairs(references: Path, predictions: Path, images: Path | None = None) -> tuple[list[Pair], list[str]]:
    """A pair per reference, sorted by name, and the names of predictions without a reference.

    Raises DatasetError if a folder is missing or holds two files of one name, or if not a single name matches.
    """
    true, predicted = volumes_by_name(references), volumes_by_name(predictions)
    if not true.keys() & predicted.keys():
        raise DatasetError(
            f"No file in {predictions} ({shorten(list(predicted))}) has the name of one in {references} "
            f"({shorten(list(true))}). Give each prediction the name of its reference."
        )
    drawn = {} if images is None else volumes_by_name(images)
    pairs = [
        Pair(name, path, predicted.get(name), drawn.get(f"{name}_0000", drawn.get(name))) for name, path in true.items()
    ]
    return pairs, [name for name in predicted if name not in true]


def read_pair(pair: Pair) -> tuple[np.ndarray, np.ndarray, Grid]:
    """Reference and prediction, int32 (z, y, x), and their grid; a missing prediction is empty.

    Raises GeometryError if the grids differ.
    """
    reference, grid = read_labels(pair.reference)
    if pair.prediction is None:
        return reference, np.zeros_like(reference), grid
    prediction, other = read_labels(pair.prediction)
    if not same_grid(grid, other):
        raise GeometryError(
            f"{pair.prediction} does not lie on the grid of {pair.reference}: {other} against {grid}. "
            "Segment the image the reference was drawn on, or resample the prediction onto that grid."
        )
    return reference, prediction, grid


def volumes_by_name(folder: Path) -> dict[str, Path]:
    """Image files of a folder by name without ending, sorted; hidden ones are left out. Raises DatasetError."""
    if not folder.is_dir():
        raise DatasetError(f"There is no folder {folder}. Check the path.")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        ending = next((ending for ending in ENDINGS if path.name.endswith(ending)), None)
        if ending is None or path.name.startswith("."):
            continue
        name = path.name.removesuffix(ending)
        if name in found:
            raise DatasetError(f"{folder} holds both {found[name].name} and {path.name}; keep one of them.")
        found[name] = path
    return found


def shorten(names: list[str]) -> str:
    """The first few names, and how many more there are."""
    more = len(names) - _SHOWN_NAMES
    return ", ".join(names[:_SHOWN_NAMES]) + (f" and {more} more" if more > 0 else "") if names else "no image files"
