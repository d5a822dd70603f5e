"""Batches of training patches by sample number: read from the store, augmented on the training device."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from s3d.data.array_files import Box
from s3d.data.augmentation import SampleParameters, draw_parameters
from s3d.data.augmentation_config import NONE, AugmentationConfig
from s3d.data.case_store import CaseStore
from s3d.data.intensity_augmentation import apply_intensity
from s3d.data.patch_places import PatchPlaces
from s3d.data.spatial_augmentation import Window, apply_spatial, window_box
from s3d.errors import ConfigError, DatasetError

Triple = tuple[int, int, int]


@dataclass(frozen=True)
class PatchBatch:
    """What a training step gets."""

    image: Tensor
    """float32 (batch, channel, z, y, x), 0 outside the volume."""
    labels: Tensor | None
    """int64 (batch, z, y, x), original label values, 0 outside the volume; None without supervision."""
    excluded: Tensor | None
    """bool (batch, 1, z, y, x), true where the loss must not look; None where no case has such a mask."""
    numbers: tuple[int, ...]
    """Global sample numbers."""
    case_names: tuple[str, ...]
    """Where each comes from."""


@dataclass(frozen=True)
class ReadSample:
    """A sample as read, with all that is to be done to it."""

    number: int
    case_name: str
    start: Triple
    box: Box
    window: Window
    parameters: SampleParameters


class PatchSampler:
    """Gives the patches of any sample numbers. Sample i is a pure function of (seed, i), the cases and the options.

    With foreground labels or a foreground share it is supervised: labels are read, anonymised voxels count. Without,
    it is for pre-training: no labels, anonymised voxels excluded, no centre inside an anatomy mask. Where a case has an
    anonymisation mask, what lies outside its volume is excluded too; other cases count it as 0 (as nnssl does).
    """

    def __init__(
        self,
        store: CaseStore,
        patch_size: Triple,
        seed: int,
        names: Sequence[str] | None = None,
        *,
        foreground_share: float = 0.0,
        foreground_labels: Sequence[int] | None = None,
        augmentation: AugmentationConfig | None = None,
    ) -> None:
        """names: cases to draw from, all if None, their order is of no matter; foreground_labels: None means any label.

        Raises DatasetError (no case, unknown case), ConfigError (a patch, seed or share that cannot be).
        """
        _check(patch_size, seed, foreground_share)
        self._store = store
        self._patch_size = patch_size
        self._seed = seed
        self._augmentation = augmentation or NONE
        self._supervised = foreground_labels is not None or foreground_share > 0
        self._places = PatchPlaces(
            store=store,
            names=_known(store, names),
            patch_size=patch_size,
            seed=seed,
            foreground_share=foreground_share,
            foreground_labels=None if foreground_labels is None else frozenset(foreground_labels),
        )
        self._has_excluded = not self._supervised and any(
            "excluded" in store.record(name).arrays for name in self._places.names
        )

    @property
    def padded_cases(self) -> tuple[str, ...]:
        """Cases smaller than the patch along some axis: their patches are filled up with zeros."""
        return tuple(
            name
            for name in self._places.names
            if any(size < patch for size, patch in zip(self._store.shape(name), self._patch_size, strict=True))
        )

    def batch(self, numbers: Sequence[int], device: torch.device | str = "cpu") -> PatchBatch:
        """The patches of these sample numbers, on the device."""
        return self.finish(self.read(numbers), device)

    def read(self, numbers: Sequence[int]) -> list[ReadSample]:
        """First half of batch: disk and CPU only, any thread may do it. Raises DatasetError."""
        return [self._read_one(number) for number in numbers]

    @torch.no_grad()
    def finish(self, samples: Sequence[ReadSample], device: torch.device | str) -> PatchBatch:
        """Second half of batch: move to the device, transform, stack. Always float32, also under autocast."""
        with torch.autocast(torch.device(device).type, enabled=False):
            patches = [self._transform(sample, device) for sample in samples]
        labels = [patch.labels.long() for patch in patches if patch.labels is not None]
        return PatchBatch(
            image=torch.stack([patch.image for patch in patches]),
            labels=torch.stack(labels) if self._supervised else None,
            excluded=torch.stack([_excluded(patch) for patch in patches]) if self._has_excluded else None,
            numbers=tuple(sample.number for sample in samples),
            case_names=tuple(sample.case_name for sample in samples),
        )

    def _read_one(self, number: int) -> ReadSample:
        name, start = self._places.place(number)
        record = self._store.record(name)
        parameters = draw_parameters(self._augmentation, self._seed, number, record.channels)
        box = window_box(start, self._patch_size, record.shape, parameters.spatial)
        window = Window(
            image=torch.from_numpy(self._store.read_image(name, box)),
            labels=torch.from_numpy(self._store.read_labels(name, box)) if self._supervised else None,
            counted=self._read_counted(name, box) if self._has_excluded else None,
        )
        return ReadSample(number, name, start, box, window, parameters)

    def _read_counted(self, name: str, box: Box) -> Tensor | None:
        record = self._store.record(name)
        if "excluded" not in record.arrays:
            return None
        indices = (np.arange(low, high) for low, high in box)
        inside = [(index >= 0) & (index < size) for index, size in zip(indices, record.shape, strict=True)]
        in_volume = inside[0][:, None, None] & inside[1][:, None] & inside[2]
        return torch.from_numpy(in_volume & ~self._store.read_excluded(name, box))

    def _transform(self, sample: ReadSample, device: torch.device | str) -> Window:
        window, parameters = sample.window.to(device), sample.parameters
        patch = apply_spatial(window, sample.box, sample.start, self._patch_size, parameters.spatial)
        return Window(apply_intensity(patch.image, parameters.intensity), patch.labels, patch.counted)


def _excluded(patch: Window) -> Tensor:
    if patch.counted is None:
        return torch.zeros_like(patch.image[:1], dtype=torch.bool)
    return ~patch.counted[None]


def _known(store: CaseStore, names: Sequence[str] | None) -> tuple[str, ...]:
    present = store.names()
    chosen = present if names is None else tuple(sorted(set(names)))
    if not chosen:
        raise DatasetError(f"There are no cases to train on in {store.folder}. Preprocess or name some first.")
    missing = sorted(set(chosen) - set(present))
    if missing:
        raise DatasetError(f"The case store {store.folder} has no case {missing[0]!r}. Preprocess it, or leave it out.")
    return chosen


def _check(patch_size: Triple, seed: int, foreground_share: float) -> None:
    if len(patch_size) != 3 or min(patch_size) < 1:
        raise ConfigError(f"patch_size is {patch_size}; give three sizes (z, y, x) of at least 1 voxel.")
    if seed < 0:
        raise ConfigError(f"seed is {seed}; it must be 0 or above.")
    if not 0 <= foreground_share <= 1:
        raise ConfigError(f"foreground_share is {foreground_share}; it must lie between 0 and 1.")
