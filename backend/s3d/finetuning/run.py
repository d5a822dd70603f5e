"""The verb `finetune`: from labelled cases to a segmentation bundle with an honest score."""

import dataclasses
from collections.abc import Sequence
from math import isfinite
from pathlib import Path
from typing import Any

from s3d.atomic_files import remove_leftovers, write_json
from s3d.bundle import SUFFIX, BundleDescription, Channel, Label, save_bundle
from s3d.evaluation.scores import CaseScore, summarize, write_csv
from s3d.finetuning.config import FinetuneConfig
from s3d.finetuning.lineage import LEARNT_IMAGES, learnt_images, says_what_it_learnt
from s3d.finetuning.material import Material, gather
from s3d.finetuning.plan import PlannedTraining, plan_trainings, write_plan
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
UNKNOWN_LINEAGE = "The parent does not tell which images trained it; the score is honest only if none of these did."


def finetune(config: FinetuneConfig, progress: Progress, stop: StopRequest | None = None) -> Path:
    """Train (folds first, where asked for), score, write the bundle; returns its folder.

    Raises UserError of any kind: dataset, parent, options, memory, divergence, stop request.
    """
    set_cpu_threads(config)
    with joined_processes() as processes:
        device = choose_device(config.device, config.precision, processes.local_rank)
        if processes.is_first:
            for folder in (config.output, *config.output.glob("*/")):  # what a killed run left half-written
                remove_leftovers(folder)
        material = gather(config, progress, processes)
        workplace = Workplace(
            device=device, processes=processes, progress=progress, stop=stop or StopRequest(config.output)
        )
        *folds, final = _plan(config, material, workplace)
        rows: list[CaseScore] = []
        for fold in folds:
            rows += _judge(_train(fold, material, config, workplace), fold.judging, material, config, workplace)
        outcome = _train(final, material, config, workplace)
        rows += _judge(outcome, final.judging, material, config, workplace)
        path = config.output / f"{config.name}{SUFFIX}"
        if processes.is_first:
            _save(path, outcome, final, rows, material, config)
        wait_for_all()
        return path


def _plan(config: FinetuneConfig, material: Material, workplace: Workplace) -> Sequence[PlannedTraining]:
    """Decide who trains and judges, write it down, and say what about it may surprise."""
    planned = plan_trainings(config, material.patients, material.learnt)
    if workplace.processes.is_first:
        write_plan(config.output, planned)
    if config.folds or config.hold_out:
        if material.learnt:
            workplace.progress.note(
                f"{len(material.learnt)} of the {len(material.patients)} cases have trained the parent already: they "
                "train again but do not judge."
            )
        if not says_what_it_learnt(material.ancestor):
            workplace.progress.warning(
                "W_UNKNOWN_CASES",
                UNKNOWN_LINEAGE,
            )
    return planned


def _train(planned: PlannedTraining, material: Material, config: FinetuneConfig, workplace: Workplace) -> Outcome:
    """Train on the planned cases; with some to choose, the result is the checkpoint they score best."""
    folder = config.output / planned.name
    title = "Train" if planned.name == "final" else f"Train {planned.name.replace('_', ' ')}"
    if not planned.choosing:
        return train_on(planned.training, material, config, folder, title, workplace)
    if len(planned.training) + len(planned.choosing) < _FEW_CASES:
        workplace.progress.warning(
            "W_FEW_CASES",
            f"With {len(planned.training) + len(planned.choosing)} cases, {len(planned.choosing)} of them choose the "
            "best checkpoint; that is mostly chance and costs training cases. Selection `last` is safer.",
        )

    def validate(state: TrainingState) -> None:
        weights = state.current_weights()
        rows = judge(weights, describe(material, config.name), planned.choosing, material, config, workplace)
        score = summarize(rows).foreground_mean["dice"]
        workplace.progress.metric(state.step, validation_dice=score)
        better = state.best_score is None or score > state.best_score
        if better and isfinite(score):
            state.best_score, state.best_weights = score, weights

    return train_on(planned.training, material, config, folder, title, workplace, Hook(every=1, run=validate))


def _judge(
    outcome: Outcome, cases: Sequence[str], material: Material, config: FinetuneConfig, workplace: Workplace
) -> list[CaseScore]:
    if not cases or not workplace.processes.is_first:
        return []
    return judge(outcome.weights, describe(material, config.name), cases, material, config, workplace)


def describe(material: Material, name: str, mirror_axes: tuple[int, ...] = ()) -> BundleDescription:
    """The card, still without the training record. mirror_axes: those that the training patches were mirrored along."""
    ancestor = material.ancestor
    return BundleDescription(
        name=name,
        kind="segmentation",
        architecture=material.architecture,
        channels=tuple(Channel(name=channel) for channel in material.dataset.channels),
        orientation=material.plan.orientation,
        spacing_mm=material.plan.spacing_mm,
        normalization=material.plan.normalization,
        patch_size=material.patch_size,
        labels=tuple(Label(value=value, name=label) for label, value in material.dataset.labels.items()),
        mirror_axes=mirror_axes,
        parent=None if ancestor is None else ancestor.id,
        licence="unspecified" if ancestor is None else ancestor.licence,
        citation="" if ancestor is None else ancestor.citation,
    )


def _save(
    path: Path,
    outcome: Outcome,
    final: PlannedTraining,
    rows: Sequence[CaseScore],
    material: Material,
    config: FinetuneConfig,
) -> None:
    how = "k-fold" if config.folds else "locked hold-out" if config.hold_out else "none"
    scores: dict[str, Any] = pooled(rows, how) if rows else {"how": "none"}
    if rows and not says_what_it_learnt(material.ancestor):
        scores["doubt"] = UNKNOWN_LINEAGE
    if rows:
        write_csv(config.output / "scores.csv", rows)
        write_json(config.output / "scores.json", scores)
    taught = (*final.training, *final.choosing)
    record = {
        "method": "from scratch" if material.ancestor is None else "fine-tuned",
        "config": options_on_card(config),
        "strategy": dataclasses.asdict(material.strategy),
        "steps": outcome.steps,
        "cases": len(final.training),
        "patients": len({material.patients[case] for case in final.training}),
        "choosing_cases": len(final.choosing),
        "data_fingerprint": material.store.fingerprint(final.training),
        LEARNT_IMAGES: learnt_images(material.ancestor, material.image_hashes, taught),
        "transferred_parameters": len(outcome.transfer.transferred),
        "kept_labels": list(outcome.transfer.kept_labels),
        "checkpoint": config.selection,
        "scores": scores,
        "versions": versions(),
    }
    description = dataclasses.replace(describe(material, config.name, outcome.mirror_axes), training=record)
    save_bundle(path, description, {name: value.numpy() for name, value in outcome.weights.items()})
