"""Every training of a run, decided and written down before the first step: who trains, who chooses, who judges."""

import dataclasses
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from s3d.atomic_files import write_json
from s3d.errors import CheckpointError
from s3d.finetuning.config import FinetuneConfig
from s3d.finetuning.folds import Fold, for_selection, lock_away, make_folds

PLAN_FILE = "folds.json"


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlannedTraining:
    """One network and its cases, by name; no patient is in two of the three groups."""

    name: str
    """Its folder within the run's: fold_0, fold_1, ..., final."""
    training: tuple[str, ...]
    """Cases whose patches it learns from."""
    choosing: tuple[str, ...]
    """Cases that choose its best checkpoint; none where the last one is taken."""
    judging: tuple[str, ...]
    """Cases that score it."""


def plan_trainings(
    config: FinetuneConfig, patients: Mapping[str, str], learnt: Collection[str] = ()
) -> tuple[PlannedTraining, ...]:
    """The folds, if any, and last the training whose network is kept.

    patients: patient by case; learnt: cases that taught the parent, so they never judge. Raises DatasetError.
    """
    folds = make_folds(patients, config.folds, config.seed, learnt) if config.folds else []
    final = Fold(tuple(sorted(patients)), ())
    if config.hold_out:
        final = lock_away(patients, config.hold_out, config.seed, learnt)
    named = {**{f"fold_{number}": fold for number, fold in enumerate(folds)}, "final": final}
    return tuple(_planned(name, fold, config, patients) for name, fold in named.items())


def write_plan(folder: Path, trainings: Collection[PlannedTraining]) -> None:
    """Write folds.json into the run's folder; trainings of an earlier plan there must have the same cases.

    Raises CheckpointError, StorageError.
    """
    path = folder / PLAN_FILE
    wanted: dict[str, Any] = {
        training.name: {key: list(cases) for key, cases in _groups(training).items()} for training in trainings
    }
    earlier = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    changed = [name for name in wanted if name in earlier and earlier[name] != wanted[name]]
    if changed:
        raise CheckpointError(
            f"{path} gave {changed[0]} other cases to train on or to judge than are asked for now. "
            "Choose another output folder, or the old cases and options to go on with that run."
        )
    write_json(path, wanted)


def _planned(name: str, fold: Fold, config: FinetuneConfig, patients: Mapping[str, str]) -> PlannedTraining:
    chosen = Fold(fold.training, ())
    if config.selection == "best":
        chosen = for_selection(fold.training, patients, config.seed)
    return PlannedTraining(name=name, training=chosen.training, choosing=chosen.judging, judging=fold.judging)


def _groups(training: PlannedTraining) -> dict[str, tuple[str, ...]]:
    return {"training": training.training, "choosing": training.choosing, "judging": training.judging}
