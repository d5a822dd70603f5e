"""Where each label is: a sample of its voxels, so that patches can be centred on it without reading the volume."""

from pathlib import Path

import numpy as np

from s3d.errors import DatasetError

POSITIONS_PER_VALUE = 10_000
"""Positions kept of one label value (nnU-Net keeps about as many)."""


def sample_positions(labels_ZYX: np.ndarray) -> tuple[dict[int, int], np.ndarray]:
    """How many positions of each label value but 0 are kept, and the positions int32 (n, 3), values ascending.

    Of a value with more than POSITIONS_PER_VALUE voxels a random sample is kept, the same at every call.
    """
    nonzero = np.flatnonzero(labels_ZYX)
    values = labels_ZYX.reshape(-1)[nonzero]
    order = np.argsort(values, kind="stable")
    present, starts = np.unique(values[order], return_index=True)
    kept = [
        _sample(found, int(value)) for value, found in zip(present, np.split(nonzero[order], starts[1:]), strict=False)
    ]
    counts = {int(value): len(found) for value, found in zip(present, kept, strict=True)}
    flat = np.concatenate(kept) if kept else nonzero
    return counts, np.stack(np.unravel_index(flat, labels_ZYX.shape), axis=1).astype(np.int32)


def _sample(found: np.ndarray, value: int) -> np.ndarray:
    if len(found) <= POSITIONS_PER_VALUE:
        return found
    chosen = np.random.default_rng(abs(value)).choice(found, POSITIONS_PER_VALUE, replace=False, shuffle=False)
    return np.sort(chosen)


def read_positions(path: Path, counts: dict[int, int]) -> dict[int, np.ndarray]:
    """The positions of each value of counts, as views of the memory-mapped file. Raises DatasetError."""
    if not counts:
        return {}
    try:
        positions = np.asarray(np.load(path, mmap_mode="r"))
        if len(positions) != sum(counts.values()):
            raise ValueError(f"{len(positions)} positions instead of {sum(counts.values())}")
    except (OSError, ValueError) as error:
        raise DatasetError(
            f"{path} is missing or damaged ({error}). Delete the folder {path.parent} and preprocess the case again."
        ) from error
    ends = np.cumsum(list(counts.values()))
    return dict(zip(counts, np.split(positions, ends[:-1]), strict=True))
