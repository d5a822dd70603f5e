"""The verb `pretrain`: from a store of unlabelled images to a pre-trained bundle."""

import dataclasses
from collections.abc import Generator, Iterator, Sequence
from functools import partial
from pathlib import Path

import torch

from s3d.bundle import SUFFIX, BundleDescription, Channel, save_bundle
from s3d.config import to_dict
from s3d.data.augmentation_config import NONE, PRETRAINING, AugmentationConfig
from s3d.data.case_store import CaseStore
from s3d.data.patches import PatchBatch, PatchSampler
from s3d.data.prefetching import prefetched
from s3d.errors import DatasetError
from s3d.models.initialization import initialize_for_pretraining
from s3d.models.spark import SparkAutoencoder
from s3d.pretraining.config import PretrainConfig
from s3d.pretraining.masked_autoencoder import MaskedAutoencoding, error_of_predicting_zero
from s3d.pretraining.preview import write_preview
from s3d.progress import Progress
from s3d.training.checkpoint import Checkpoint
from s3d.training.device import Device, choose_device
from s3d.training.distributed import Processes, joined_processes, wait_for_all
from s3d.training.interruption import StopRequest
from s3d.training.loop import Hook, Surroundings, train
from s3d.training.notices import tell_about_padding
from s3d.training.optimizers import PROFILES
from s3d.training.record import options_on_card, versions
from s3d.training.schedules import Schedule, single_stage
from s3d.training.state import TrainingState

_FREE_TO_CHANGE = {
    "output", "device", "cpu_threads", "reader_threads", "log_every", "save_every", "preview_every",
    "store", "name",
}  # fmt: skip


def pretrain(config: PretrainConfig, progress: Progress, stop: StopRequest | None = None) -> Path:
    """Train the masked autoencoder; returns the bundle's folder. An unfinished run in config.output goes on.

    Raises UserError of any kind: empty store, other options than the unfinished run's, no memory, diverged, stopped.
    """
    if config.cpu_threads is not None:
        torch.set_num_threads(config.cpu_threads)
    with joined_processes() as processes:
        device = choose_device(config.device, config.precision, processes.local_rank)
        store = _open_store(config.store)
        sampler = PatchSampler(
            store, config.patch_size, config.seed, foreground_share=0.0, augmentation=_augmentation(config)
        )
        tell_about_padding(sampler, config.patch_size, progress)
        task = MaskedAutoencoding(
            patch_size=config.patch_size, block=config.block, mask_ratio=config.mask_ratio, seed=config.seed
        )
        state = _start(config, device)
        around = _surroundings(config, store, device, processes, progress, stop or StopRequest(config.output))
        around.checkpoint.restore(state)

        def batches_of(numbers: Iterator[Sequence[int]]) -> Generator[PatchBatch, None, None]:
            return prefetched(sampler, numbers, device.torch_device, config.reader_threads)

        if processes.is_first:
            zero = error_of_predicting_zero(task, [sampler.batch(range(min(8, len(store.names()))))])
            progress.metric(state.step, loss_of_predicting_zero=zero)
            preview = partial(_preview, config, task, sampler, progress)
            around = dataclasses.replace(around, hooks=(Hook(every=config.preview_every, run=preview),))
        train(state, batches_of, task.loss, _schedule(config), config, around)
        path = config.output / f"{config.name}{SUFFIX}"
        if processes.is_first:
            _save(path, config, state, store)
        wait_for_all()
        return path


def _open_store(folder: Path) -> CaseStore:
    """Raises DatasetError: no store, no cases, cases of several channels."""
    store = CaseStore.open(folder)
    for name in store.names():
        channels = store.record(name).channels
        if channels != 1:
            raise DatasetError(
                f"The case {name!r} of {folder} has {channels} channels; pre-training takes images of one. "
                "Store every channel as a case of its own."
            )
    return store


def _augmentation(config: PretrainConfig) -> AugmentationConfig:
    return PRETRAINING if config.augment else NONE


def _schedule(config: PretrainConfig) -> Schedule:
    profile = PROFILES[config.resolved_profile]
    return single_stage(config.steps, config.learning_rate or profile.pretraining_rate, profile.warm_up_steps)


def _start(config: PretrainConfig, device: Device) -> TrainingState:
    model = SparkAutoencoder(config.network, config.spark)
    initialize_for_pretraining(model, config.seed)
    return TrainingState.start(model, PROFILES[config.resolved_profile], device)


def _surroundings(
    config: PretrainConfig,
    store: CaseStore,
    device: Device,
    processes: Processes,
    progress: Progress,
    stop: StopRequest,
) -> Surroundings:
    return Surroundings(
        device=device,
        checkpoint=Checkpoint(config.output / "checkpoint.safetensors", _identity(config, store, device)),
        progress=progress,
        processes=processes,
        stop=stop,
        title="Pre-train",
    )


def _identity(config: PretrainConfig, store: CaseStore, device: Device) -> dict[str, object]:
    """What must not change between start and resume; where the data lies and how fast to compute may."""
    options = {key: value for key, value in to_dict(config).items() if key not in _FREE_TO_CHANGE}
    return options | {"precision": device.precision, "data_fingerprint": store.fingerprint()}


def _preview(
    config: PretrainConfig, task: MaskedAutoencoding, sampler: PatchSampler, progress: Progress, state: TrainingState
) -> None:
    path = config.output / "previews" / f"step-{state.step:07d}.png"
    write_preview(path, state.model, task, sampler.batch([0]))
    progress.preview("reconstruction", path)


def _save(path: Path, config: PretrainConfig, state: TrainingState, store: CaseStore) -> None:
    plan = store.plan
    description = BundleDescription(
        name=config.name,
        kind="pretrained",
        architecture=config.network,
        channels=(Channel(name="MR"),),
        orientation=plan.orientation,
        spacing_mm=plan.spacing_mm,
        normalization=plan.normalization,
        patch_size=config.patch_size,
        mirror_axes=(0, 1, 2),
        training={
            "method": "S3D",
            "config": options_on_card(config),
            "steps": state.step,
            "cases": len(store.names()),
            "data_fingerprint": store.fingerprint(),
            "versions": versions(),
        },
        citation="Wald et al., Revisiting MAE pre-training for 3D medical image segmentation, CVPR 2025.",
    )
    save_bundle(path, description, {name: value.numpy() for name, value in state.result().items()})
