"""The demo's cases: where they come from, who pre-trains, who trains, who judges."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from s3d.data.case_record import StoreDescription
from s3d.data.case_store import CaseStore
from s3d.data.dataset import LabelledDataset, read_dataset
from s3d.data.image_files import read_channels
from s3d.data.preprocessing import PreprocessingPlan, preprocess_image
from s3d.demo.config import DemoConfig
from s3d.demo.virtual_subjects import make_virtual_subjects
from s3d.errors import DatasetError
from s3d.progress import Progress

PLAN = PreprocessingPlan(orientation="LPS", spacing_mm=None, normalization="zscore")
"""The cases' own grid is kept: the demo's data sets are on one grid each, and small."""

_VIRTUAL_SUBJECTS = 48


@dataclass(frozen=True)
class DemoCases:
    """A dataset and three groups of its cases; unlabelled contains training, test stands apart."""

    dataset: LabelledDataset
    is_virtual: bool
    unlabelled: tuple[str, ...]
    training: tuple[str, ...]
    test: tuple[str, ...]


def get_cases(config: DemoConfig, progress: Progress) -> DemoCases:
    """Read config.data or make virtual subjects, and draw the groups. Raises DatasetError with too few cases."""
    folder = config.data
    if folder is None:
        folder = config.output / "virtual_subjects"
        if not (folder / "dataset.json").exists():
            make_virtual_subjects(folder, _VIRTUAL_SUBJECTS, config.seed, progress)
    dataset = read_dataset(folder)
    names = sorted(case.name for case in dataset.cases)
    needed = config.training_cases + config.test_cases
    if len(names) < needed:
        raise DatasetError(
            f"{folder} has {len(names)} cases, the demo needs {needed}. Give more, or smaller training_cases and "
            "test_cases."
        )
    drawn = [names[index] for index in np.random.default_rng([config.seed, 3]).permutation(len(names))]
    test, others = drawn[: config.test_cases], drawn[config.test_cases :]
    return DemoCases(
        dataset=dataset,
        is_virtual=config.data is None,
        unlabelled=tuple(sorted(others[: config.unlabelled_cases])),
        training=tuple(sorted(others[: config.training_cases])),
        test=tuple(sorted(test)),
    )


def store_unlabelled(cases: DemoCases, folder: Path, progress: Progress) -> None:
    """Preprocess the unlabelled images; every channel becomes a one-channel case. Label files are not opened.

    An unfinished store goes on; what an earlier demo with other groups left in it is taken out.
    """
    store = CaseStore.create(folder, StoreDescription(source=cases.dataset.name, plan=PLAN, channels=("MR",)))
    channels = len(cases.dataset.channels)
    for stale in set(store.names()) - {f"{name}_{channel}" for name in cases.unlabelled for channel in range(channels)}:
        store.remove(stale)
    stored = set(store.names())
    images = {case.name: case.images for case in cases.dataset.cases}
    with progress.stage("Preprocess", len(cases.unlabelled)) as bar:
        for name in cases.unlabelled:
            if f"{name}_{channels - 1}" not in stored:
                image, _ = preprocess_image(read_channels(images[name], channels), PLAN)
                for channel in range(channels):
                    store.write(f"{name}_{channel}", image[channel : channel + 1])
            bar.advance()
