"""What a fine-tuning works on: the labelled cases, preprocessed as the parent wants them, and who may judge."""

from dataclasses import dataclass

import numpy as np

from s3d.bundle import Bundle, load_bundle
from s3d.data.case_store import CaseStore
from s3d.data.dataset import LabelledDataset, read_dataset
from s3d.data.dataset_store import build_store
from s3d.data.left_right import mirror_axes_allowed
from s3d.data.preprocessing import PreprocessingPlan
from s3d.errors import DatasetError
from s3d.finetuning.config import FinetuneConfig
from s3d.finetuning.folds import read_patients
from s3d.finetuning.initial_weights import network_shape
from s3d.finetuning.strategies import Strategy, strategy_of
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
    def mirror_axes(self) -> tuple[int, ...]:
        """Axes along which mirroring keeps every label's name right (architecture.md, left and right)."""
        return mirror_axes_allowed(self.label_names, self.plan.orientation)


def gather(config: FinetuneConfig, progress: Progress, processes: Processes) -> Material:
    """Read dataset and parent, preprocess the cases (the first process does, the others wait)."""
    dataset = read_dataset(config.dataset)
    names = _chosen(config, dataset)
    parent = None if config.parent is None else load_bundle(config.parent)
    plan = _plan(config, parent)
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
        patients=read_patients(config.patients, names),
        architecture=architecture,
        strategy=strategy_of(config, kind, more_channels),
        patch_size=_patch_size(config, parent, store, names, architecture.total_stride),
    )


def _chosen(config: FinetuneConfig, dataset: LabelledDataset) -> tuple[str, ...]:
    known = tuple(case.name for case in dataset.cases)
    missing = sorted(set(config.cases) - set(known))
    if missing:
        raise DatasetError(f"{dataset.folder} has no case {missing[0]!r}; its cases are {', '.join(known[:5])} ...")
    return tuple(sorted(config.cases)) or known


def _plan(config: FinetuneConfig, parent: Bundle | None) -> PreprocessingPlan:
    if parent is None:
        return PreprocessingPlan(orientation="LPS", spacing_mm=config.spacing_mm, normalization="zscore")
    card = parent.description
    return PreprocessingPlan(orientation=card.orientation, spacing_mm=card.spacing_mm, normalization=card.normalization)


def _patch_size(
    config: FinetuneConfig, parent: Bundle | None, store: CaseStore, names: tuple[str, ...], stride: int
) -> tuple[int, int, int]:
    if config.patch_size is not None:
        return config.patch_size
    if parent is not None:
        return parent.description.patch_size
    median = np.median([store.shape(name) for name in names], axis=0)
    z, y, x = (int(min(_LARGEST_PATCH, -(-size // stride) * stride)) for size in median)
    return z, y, x
