"""One training on a set of cases: of a fold, or the final one on all."""

import copy
import dataclasses
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import torch
from torch import Tensor, nn

from s3d.config import to_dict
from s3d.data.augmentation_config import FINETUNING, NONE, QUICK, AugmentationConfig
from s3d.data.patches import PatchSampler
from s3d.data.prefetching import prefetched
from s3d.finetuning.config import FinetuneConfig
from s3d.finetuning.initial_weights import TransferReport, initial_network
from s3d.finetuning.material import Material
from s3d.finetuning.segmentation_task import SegmentationTask
from s3d.finetuning.strategies import schedule_of
from s3d.finetuning.time_budget import LONGEST_TRIAL, StepsRecord, steps_within
from s3d.progress import Progress
from s3d.training.checkpoint import Checkpoint
from s3d.training.device import Device
from s3d.training.distributed import Processes, least_of_processes
from s3d.training.interruption import StopRequest
from s3d.training.loop import BatchesOf, Hook, Surroundings, sample_numbers, train
from s3d.training.notices import tell_about_padding
from s3d.training.optimizers import PROFILES
from s3d.training.state import TrainingState

_FREE_TO_CHANGE = {
    "output", "dataset", "device", "cpu_threads", "reader_threads", "log_every", "save_every",
    "folds", "hold_out", "patients", "tolerance_mm", "name", "parent",
}  # fmt: skip
_VALIDATIONS = 10


@dataclasses.dataclass(frozen=True, kw_only=True)
class Workplace:
    """Where trainings run; the same for every fold."""

    device: Device
    processes: Processes
    progress: Progress
    stop: StopRequest


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a training gave."""

    weights: dict[str, Tensor]
    steps: int
    transfer: TransferReport
    mirror_axes: tuple[int, ...]
    """Axes along which training patches were mirrored."""


def train_on(
    cases: Sequence[str],
    material: Material,
    config: FinetuneConfig,
    folder: Path,
    title: str,
    workplace: Workplace,
    validate: Hook | None = None,
) -> Outcome:
    """Train one network on the named cases; an unfinished run in folder goes on, a finished one is read back."""
    model, report = initial_network(
        material.architecture, material.parent, material.label_names, material.strategy, config
    )
    task = SegmentationTask(material.label_values)
    config = dataclasses.replace(config, steps=_steps(cases, material, config, folder, model, workplace))
    steps, profile = config.steps, PROFILES[config.resolved_profile]
    schedule = schedule_of(material.strategy, steps, profile)
    state = TrainingState.start(model, profile, workplace.device)
    around = Surroundings(
        device=workplace.device,
        checkpoint=Checkpoint(folder / "checkpoint.safetensors", _identity(config, material, cases, workplace.device)),
        progress=workplace.progress,
        processes=workplace.processes,
        stop=workplace.stop,
        hooks=() if validate is None else (dataclasses.replace(validate, every=max(1, steps // _VALIDATIONS)),),
        title=title,
    )
    around.checkpoint.restore(state)
    if state.step < steps:
        sampler = _sampler(cases, material, config)
        tell_about_padding(sampler, material.patch_size, workplace.progress)
        train(state, _batches_of(sampler, config, workplace.device), task.loss, schedule, config, around)
    return Outcome(state.result(), state.step, report, _augmentation(config, material.mirror_axes).mirror_axes)


def _augmentation(config: FinetuneConfig, mirror_axes: tuple[int, ...]) -> AugmentationConfig:
    choice = config.augmentation
    if choice == "auto":
        choice = "nnunet" if config.resolved_profile == "paper" else "quick"
    value = {"nnunet": FINETUNING, "quick": QUICK, "none": NONE}[choice]
    allowed = tuple(axis for axis in value.mirror_axes if axis in mirror_axes)
    return dataclasses.replace(value, mirror_axes=allowed)


def _sampler(cases: Sequence[str], material: Material, config: FinetuneConfig) -> PatchSampler:
    return PatchSampler(
        material.store,
        material.patch_size,
        config.seed,
        names=cases,
        foreground_share=config.foreground_share,
        foreground_labels=material.label_values[1:],
        augmentation=_augmentation(config, material.mirror_axes),
    )


def _batches_of(sampler: PatchSampler, config: FinetuneConfig, device: Device) -> BatchesOf:
    return lambda numbers: prefetched(sampler, numbers, device.torch_device, config.reader_threads)


def _steps(
    cases: Sequence[str],
    material: Material,
    config: FinetuneConfig,
    folder: Path,
    model: nn.Module,
    workplace: Workplace,
) -> int:
    """config.steps, or what fits into config.minutes; decided once per run and kept beside its checkpoint."""
    if config.minutes is None:
        return config.steps
    record = StepsRecord(folder / "steps.json", config.minutes, config.steps)
    steps = record.read()
    if steps is None:
        steps = _fitting_steps(config.minutes, cases, material, config, model, workplace)
        if workplace.processes.is_first:
            record.write(steps)
    return steps


def _fitting_steps(
    minutes: float,
    cases: Sequence[str],
    material: Material,
    config: FinetuneConfig,
    model: nn.Module,
    workplace: Workplace,
) -> int:
    """Steps that fit, as slow as on the slowest process; config.steps at most."""
    trial = dataclasses.replace(config, steps=LONGEST_TRIAL)
    numbers = sample_numbers(trial, workplace.processes, 0, LONGEST_TRIAL)
    state = TrainingState.start(copy.deepcopy(model), PROFILES[trial.resolved_profile], workplace.device)
    task = SegmentationTask(material.label_values)
    sampler = _sampler(cases, material, trial)
    with closing(_batches_of(sampler, trial, workplace.device)(numbers)) as batches:
        fitting = steps_within(minutes, state, batches, task.loss, trial, workplace.device)
    return least_of_processes(min(fitting, config.steps), workplace.device.torch_device)


def _identity(config: FinetuneConfig, material: Material, cases: Sequence[str], device: Device) -> dict[str, object]:
    """What must not change between start and resume; where the data lies and how fast to compute may."""
    options = {key: value for key, value in to_dict(config).items() if key not in _FREE_TO_CHANGE}
    return options | {
        "precision": device.precision,
        "cases": sorted(cases),
        "labels": material.dataset.labels,
        "patch_size": list(material.patch_size),
        "parent": None if material.parent is None else material.parent.description.id,
        "data_fingerprint": material.store.fingerprint(cases),
    }


def set_cpu_threads(config: FinetuneConfig) -> None:
    """Limit torch's threads where the config says so."""
    if config.cpu_threads is not None:
        torch.set_num_threads(config.cpu_threads)
