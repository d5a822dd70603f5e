"""Which cases train and which judge: folds that keep a patient on one side, and locked hold-out cases."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from s3d.errors import DatasetError

LEAVE_ONE_OUT_BELOW = 6


@dataclass(frozen=True)
class Fold:
    """Names of the cases that train and of those that judge; no patient is in both."""

    training: tuple[str, ...]
    judging: tuple[str, ...]


def read_patients(path: Path | None, cases: Sequence[str]) -> dict[str, str]:
    """Patient of each case, from a CSV with columns case,patient; without a file each case is its own patient."""
    if path is None:
        return {case: case for case in cases}
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(
            f"{path} cannot be read ({error}). Give a CSV file with the columns case,patient."
        ) from error
    if not rows or not {"case", "patient"} <= set(rows[0]):
        raise DatasetError(f"{path} needs a first line `case,patient` and a line per case.")
    patients = {row["case"]: row["patient"] for row in rows}
    missing = sorted(set(cases) - set(patients))
    if missing:
        raise DatasetError(f"{path} names no patient for case {missing[0]!r}; add a line for each of the cases.")
    return {case: patients[case] for case in cases}


def make_folds(patients: Mapping[str, str], folds: int, seed: int) -> list[Fold]:
    """Split cases into folds by patient; under 6 patients, or with fewer than `folds`, each patient is a fold.

    patients: patient by case. Every case judges in exactly one fold. Raises DatasetError with fewer than 2 patients.
    """
    groups = sorted(set(patients.values()))
    if len(groups) < 2:
        raise DatasetError("A cross-validation needs cases of at least 2 patients; choose folds 0.")
    count = len(groups) if len(groups) < LEAVE_ONE_OUT_BELOW else min(folds, len(groups))
    shuffled = [groups[index] for index in np.random.default_rng([seed, 1]).permutation(len(groups))]
    return [_fold(patients, set(shuffled[number::count])) for number in range(count)]


def lock_away(patients: Mapping[str, str], hold_out: int, seed: int) -> Fold:
    """Set hold_out patients aside to judge, the same ones for the same seed.

    Raises DatasetError if none would be left to train on.
    """
    groups = sorted(set(patients.values()))
    if hold_out >= len(groups):
        raise DatasetError(
            f"hold_out {hold_out} would leave nothing to train on: there are {len(groups)} patients. Choose fewer."
        )
    order = np.random.default_rng([seed, 2]).permutation(len(groups))
    return _fold(patients, {groups[index] for index in order[:hold_out]})


def for_selection(training: Sequence[str], patients: Mapping[str, str], seed: int) -> Fold:
    """Set a fifth of the training patients (at least one) aside to choose the best checkpoint."""
    own = {case: patients[case] for case in training}
    return lock_away(own, max(1, len(set(own.values())) // 5), seed)


def _fold(patients: Mapping[str, str], judging: set[str]) -> Fold:
    return Fold(
        tuple(case for case in sorted(patients) if patients[case] not in judging),
        tuple(case for case in sorted(patients) if patients[case] in judging),
    )
