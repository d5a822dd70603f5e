"""The verb `finetune`: from labelled cases to a segmentation bundle with an honest score."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from s3d.atomic_files import write_json
from s3d.bundle import SUFFIX, BundleDescription, Channel, Label, save_bundle
from s3d.evaluation.scores import CaseScore, case_means, write_csv
from s3d.finetuning.config import FinetuneConfig
from s3d.finetuning.folds import Fold, for_selection, lock_away, make_folds
from s3d.finetuning.material import Material, gather
from s3d.finetuning.scoring import judge, pooled
from s3d.finetuning.training import Outcome, Workplace, set_cpu_threads, train_on
from s3d.progress import Progress
from s3d.training.device import choose_device
from s3d.training.distributed import joined_processes, wait_for_all
from s3d.training.interruption import StopRequest
from s3d.training.loop import Hook
from s3d.training.record import options_on_card, versions
from s3d.training.state import TrainingState

_FEW_CASES = 5


def finetune(config: FinetuneConfig, progress: Progress, stop: StopRequest | None = None) -> Path:
    """Train (folds first, where asked for), score, write the bundle; returns its folder.

    Raises UserError of any kind: dataset, parent, options, memory, divergence, stop request.
    """
    set_cpu_threads(config)
    with joined_processes() as processes:
        device = choose_device(config.device, config.precision, processes.local_rank)
        material = gather(config, progress, processes)
        workplace = Workplace(
            device=device, processes=processes, progress=progress, stop=stop or StopRequest(config.output)
        )
        everyone = tuple(sorted(material.patients))
        rows: list[CaseScore] = []
        for number, fold in enumerate(_folds(config, material)):
            outcome = _train(fold.training, material, config, config.output / f"fold_{number}", workplace)
            rows += _judge(outcome, fold.judging, material, config, workplace)
        training = everyone
        if config.hold_out:
            fold = lock_away(material.patients, config.hold_out, config.seed)
            training = fold.training
        outcome = _train(training, material, config, config.output / "final", workplace)
        if config.hold_out:
            rows = _judge(outcome, fold.judging, material, config, workplace)
        path = config.output / f"{config.name}{SUFFIX}"
        if processes.is_first:
            _save(path, outcome, training, rows, material, config)
        wait_for_all()
        return path


def _folds(config: FinetuneConfig, material: Material) -> Sequence[Fold]:
    return make_folds(material.patients, config.folds, config.seed) if config.folds else ()


def _train(
    cases: Sequence[str], material: Material, config: FinetuneConfig, folder: Path, workplace: Workplace
) -> Outcome:
    """Train on the cases; with selection `best`, a fifth of them chooses the checkpoint instead."""
    title = "Train" if folder.name == "final" else f"Train {folder.name.replace('_', ' ')}"
    if config.selection == "last":
        return train_on(cases, material, config, folder, title, workplace)
    if len(cases) < _FEW_CASES:
        workplace.progress.warning(
            "W_FEW_CASES", f"With {len(cases)} cases the best checkpoint is chosen on a single one; `last` is safer."
        )
    fold = for_selection(cases, material.patients, config.seed)
    description = describe(material, config)

    def validate(state: TrainingState) -> None:
        weights = state.current_weights()
        rows = judge(weights, description, fold.judging, material, config, workplace)
        score = float(np.nanmean(list(case_means(rows, "dice").values())))
        workplace.progress.metric(state.step, validation_dice=score)
        if state.best_score is None or score > state.best_score:
            state.best_score, state.best_weights = score, weights

    return train_on(fold.training, material, config, folder, title, workplace, Hook(every=1, run=validate))


def _judge(
    outcome: Outcome, cases: Sequence[str], material: Material, config: FinetuneConfig, workplace: Workplace
) -> list[CaseScore]:
    if not workplace.processes.is_first:
        return []
    return judge(outcome.weights, describe(material, config), cases, material, config, workplace)


def describe(material: Material, config: FinetuneConfig) -> BundleDescription:
    """The card, still without the training record."""
    parent = None if material.parent is None else material.parent.description
    return BundleDescription(
        name=config.name,
        kind="segmentation",
        architecture=material.architecture,
        channels=tuple(Channel(name=name) for name in material.dataset.channels),
        orientation=material.plan.orientation,
        spacing_mm=material.plan.spacing_mm,
        normalization=material.plan.normalization,
        patch_size=material.patch_size,
        labels=tuple(Label(value=value, name=name) for name, value in material.dataset.labels.items()),
        mirror_axes=material.mirror_axes,
        parent=None if parent is None else parent.id,
        licence="unspecified" if parent is None else parent.licence,
        citation="" if parent is None else parent.citation,
    )


def _save(
    path: Path,
    outcome: Outcome,
    training: Sequence[str],
    rows: Sequence[CaseScore],
    material: Material,
    config: FinetuneConfig,
) -> None:
    how = "k-fold" if config.folds else "locked hold-out" if config.hold_out else "none"
    scores: dict[str, Any] = pooled(rows, how) if rows else {"how": "none"}
    if rows:
        write_csv(config.output / "scores.csv", rows)
        write_json(config.output / "scores.json", scores)
    record = {
        "method": "from scratch" if material.parent is None else "fine-tuned",
        "config": options_on_card(config),
        "strategy": dataclasses.asdict(material.strategy),
        "steps": outcome.steps,
        "cases": len(training),
        "patients": len({material.patients[case] for case in training}),
        "data_fingerprint": material.store.fingerprint(),
        "transferred_parameters": len(outcome.transfer.transferred),
        "kept_labels": list(outcome.transfer.kept_labels),
        "checkpoint": config.selection,
        "scores": scores,
        "versions": versions(),
    }
    description = dataclasses.replace(describe(material, config), training=record)
    save_bundle(path, description, {name: value.numpy() for name, value in outcome.weights.items()})
