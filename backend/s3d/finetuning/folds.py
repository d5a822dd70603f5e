"""Which cases train and which judge: folds that keep a patient on one side, and locked hold-out cases."""

import csv
from collections.abc import Collection, Mapping, Sequence
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
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(
            f"{path} cannot be read ({error}). Give a CSV file with the columns case,patient."
        ) from error
    separator = ";" if lines and ";" in lines[0] else ","  # what spreadsheets write in half of Europe
    table = csv.DictReader(lines, delimiter=separator)
    rows = [{key.strip(): (value or "").strip() for key, value in row.items() if key} for row in table]
    if not rows or not {"case", "patient"} <= set(rows[0]):
        raise DatasetError(f"{path} needs a first line `case,patient` and a line per case.")
    patients: dict[str, str] = {}
    for row in rows:
        if row["patient"] and patients.setdefault(row["case"], row["patient"]) != row["patient"]:
            raise DatasetError(
                f"{path} gives case {row['case']!r} to two patients, {patients[row['case']]!r} and {row['patient']!r}. "
                "Keep one line per case."
            )
    missing = sorted(set(cases) - set(patients))
    if missing:
        raise DatasetError(f"{path} names no patient for case {missing[0]!r}; add a line for each of the cases.")
    return {case: patients[case] for case in cases}


def make_folds(patients: Mapping[str, str], folds: int, seed: int, learnt: Collection[str] = ()) -> list[Fold]:
    """Split cases into folds by patient; under 6 patients, or with fewer than `folds`, each patient is a fold.

    patients: patient by case; learnt: cases that taught the parent: their patients train in every fold and judge in
    none. Every other case judges in exactly one fold. Raises DatasetError if nobody could train or judge.
    """
    if len(set(patients.values())) < 2:
        raise DatasetError("A cross-validation needs cases of at least 2 patients; choose folds 0.")
    groups = _judges(patients, learnt)
    count = len(groups) if len(groups) < LEAVE_ONE_OUT_BELOW else min(folds, len(groups))
    shuffled = [groups[index] for index in np.random.default_rng([seed, 1]).permutation(len(groups))]
    return [_fold(patients, set(shuffled[number::count])) for number in range(count)]


def lock_away(patients: Mapping[str, str], hold_out: int, seed: int, learnt: Collection[str] = ()) -> Fold:
    """Set hold_out patients aside to judge, the same ones for the same seed; none that taught the parent.

    Raises DatasetError if there are too few, or none would be left to train on.
    """
    groups = _judges(patients, learnt)
    everyone = len(set(patients.values()))
    if hold_out >= everyone:
        raise DatasetError(
            f"hold_out {hold_out} would leave nothing to train on: there are {everyone} patients. Choose fewer."
        )
    if hold_out > len(groups):
        raise DatasetError(
            f"hold_out is {hold_out}, but only {len(groups)} patients have not trained the parent already. "
            "Choose fewer, or add cases."
        )
    order = np.random.default_rng([seed, 2]).permutation(len(groups))
    return _fold(patients, {groups[index] for index in order[:hold_out]})


def for_selection(training: Sequence[str], patients: Mapping[str, str], seed: int) -> Fold:
    """Set a fifth of the training patients (at least one) aside to choose the best checkpoint.

    Raises DatasetError if there is one patient only.
    """
    own = {case: patients[case] for case in training}
    count = len(set(own.values()))
    if count < 2:
        raise DatasetError(
            "One training patient cannot both train and choose the best checkpoint; choose selection last."
        )
    return lock_away(own, max(1, count // 5), seed)


def _judges(patients: Mapping[str, str], learnt: Collection[str]) -> list[str]:
    """Patients none of whose cases taught the parent."""
    groups = sorted(set(patients.values()) - {patients[case] for case in learnt})
    if not groups:
        raise DatasetError(
            "All these cases have trained the parent already, so a score on them would mean nothing. Add new cases, or "
            "choose folds 0 and hold_out 0."
        )
    return groups


def _fold(patients: Mapping[str, str], judging: set[str]) -> Fold:
    return Fold(
        tuple(case for case in sorted(patients) if patients[case] not in judging),
        tuple(case for case in sorted(patients) if patients[case] in judging),
    )
