"""What a fine-tuning works on: the labelled cases, preprocessed as the parent wants them, and who may judge."""

import math
from dataclasses import dataclass

import numpy as np

from s3d.bundle import Bundle, BundleDescription, load_bundle
from s3d.data.case_store import CaseStore
from s3d.data.dataset import LabelledDataset, read_dataset
from s3d.data.dataset_store import build_store
from s3d.data.left_right import mirror_axes_allowed
from s3d.data.preprocessing import PreprocessingPlan
from s3d.errors import BundleError, DatasetError
from s3d.finetuning.config import FinetuneConfig
from s3d.finetuning.folds import read_patients
from s3d.finetuning.initial_weights import network_shape
from s3d.finetuning.lineage import image_hash, learnt_by
from s3d.finetuning.strategies import Strategy, strategy_of
from s3d.inference.network import check_window
from s3d.models.presets import Architecture
from s3d.progress import Progress
from s3d.training.distributed import Processes, wait_for_all

_LARGEST_PATCH = 160


@dataclass(frozen=True, kw_only=True)
class Material:
    """Everything that is the same for every fold."""

    dataset: LabelledDataset
    store: CaseStore
    plan: PreprocessingPlan
    parent: Bundle | None
    patients: dict[str, str]
    """Patient by case; its keys are the cases that take part."""
    image_hashes: dict[str, str]
    """By case (lineage.py)."""
    architecture: Architecture
    strategy: Strategy
    patch_size: tuple[int, int, int]

    @property
    def label_names(self) -> tuple[str, ...]:
        """In order of their output channels, without background."""
        return tuple(self.dataset.labels)

    @property
    def label_values(self) -> tuple[int, ...]:
        """Voxel value of each output channel, background first."""
        return (0, *self.dataset.labels.values())

    @property
    def ancestor(self) -> BundleDescription | None:
        """Card of the parent whose weights go in; None from scratch, also where a parent lends only its shape."""
        return None if self.parent is None or self.strategy.transfer == "none" else self.parent.description

    @property
    def learnt(self) -> frozenset[str]:
        """Cases that have taught the parent with their labels."""
        known = learnt_by(self.ancestor)
        return frozenset(case for case, value in self.image_hashes.items() if value in known)

    @property
    def mirror_axes(self) -> tuple[int, ...]:
        """Axes along which mirroring keeps every label's name right (architecture.md, left and right)."""
        return mirror_axes_allowed(self.label_names, self.plan.orientation)


def gather(config: FinetuneConfig, progress: Progress, processes: Processes) -> Material:
    """Read dataset and parent, preprocess the cases (the first process does, the others wait)."""
    dataset = read_dataset(config.dataset)
    names = _chosen(config, dataset)
    parent = None if config.parent is None else load_bundle(config.parent)
    _check_channel_order(parent, dataset)
    plan = _plan(config, parent)
    patients = read_patients(config.patients, names)
    if processes.is_first:
        build_store(dataset, plan, config.output / "store", progress, cases=names)
    wait_for_all()
    store = CaseStore.open(config.output / "store")
    channels = len(dataset.channels)
    architecture = network_shape(config, parent, channels, len(dataset.labels))
    kind = None if parent is None else parent.description.kind
    more_channels = parent is not None and channels > len(parent.description.channels)
    return Material(
        dataset=dataset,
        store=store,
        plan=plan,
        parent=parent,
        patients=patients,
        image_hashes={case.name: image_hash(case) for case in dataset.cases if case.name in names},
        architecture=architecture,
        strategy=strategy_of(config, kind, more_channels),
        patch_size=_patch_size(config, parent, store, names, architecture.total_stride),
    )


def _chosen(config: FinetuneConfig, dataset: LabelledDataset) -> tuple[str, ...]:
    known = tuple(case.name for case in dataset.cases)
    missing = sorted(set(config.cases) - set(known))
    if missing:
        raise DatasetError(f"{dataset.folder} has no case {missing[0]!r}; its cases are {', '.join(known[:5])} ...")
    return tuple(sorted(set(config.cases))) or known


def _check_channel_order(parent: Bundle | None, dataset: LabelledDataset) -> None:
    """Weights belong to channels: a dataset that has the parent's own channels must have them in its order."""
    given = () if parent is None else tuple(channel.name for channel in parent.description.channels)
    if given != dataset.channels and sorted(given) == sorted(dataset.channels):
        raise BundleError(
            f"The parent takes the channels {', '.join(given)}, but {dataset.folder / 'dataset.json'} names them "
            f"{', '.join(dataset.channels)}. Renumber the dataset's channels to the parent's order."
        )


def _plan(config: FinetuneConfig, parent: Bundle | None) -> PreprocessingPlan:
    if parent is None:
        return PreprocessingPlan(orientation="LPS", spacing_mm=config.spacing_mm, normalization="zscore")
    card = parent.description
    return PreprocessingPlan(orientation=card.orientation, spacing_mm=card.spacing_mm, normalization=card.normalization)


def _patch_size(
    config: FinetuneConfig, parent: Bundle | None, store: CaseStore, names: tuple[str, ...], stride: int
) -> tuple[int, int, int]:
    """The configured patch, the parent's, or one that holds the median case. Raises ConfigError if it cannot be."""
    if config.patch_size is not None:
        patch = config.patch_size
    elif parent is not None:
        patch = parent.description.patch_size
    else:
        z, y, x = np.median([store.shape(name) for name in names], axis=0)
        patch = _rounded_up(z, stride), _rounded_up(y, stride), _rounded_up(x, stride)
    check_window(patch, stride)
    return patch


def _rounded_up(size: float, stride: int) -> int:
    return min(math.ceil(size / stride), _LARGEST_PATCH // stride) * stride
