"""From a labelled dataset to a case store: every case read, checked and preprocessed once."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from s3d.data.case_record import StoreDescription
from s3d.data.case_store import CaseStore
from s3d.data.dataset import LabelledCase, LabelledDataset, load_case
from s3d.data.preprocessing import PreprocessingPlan, preprocess_image, preprocess_labels
from s3d.errors import DatasetError, UserError
from s3d.progress import Progress

_SOURCE_FILES = "source_files"


def build_store(
    dataset: LabelledDataset,
    plan: PreprocessingPlan,
    folder: Path,
    progress: Progress,
    cases: Sequence[str] | None = None,
) -> CaseStore:
    """Preprocess the cases (all, unless named) into the store at folder; labels keep their original values.

    An unfinished or older store goes on: a case is kept if its files have the size and time they had, and its labels
    are still known. Without cases the store ends with exactly the dataset's; with cases others stay in it.
    Only one process at a time may do this: what a killed one left behind is removed.
    Raises UserError of any kind, naming the case; DatasetError if folder holds a store of another dataset or plan.
    """
    chosen = _chosen(dataset, cases)
    store = CaseStore.create(folder, _description(dataset, plan))
    store.remove_leftovers()
    if cases is None:
        for stale in set(store.names()) - {case.name for case in chosen}:
            store.remove(stale)
    missing = [case for case in chosen if not _is_kept(store, dataset, case)]
    with progress.stage("Preprocess", total=len(chosen), start=len(chosen) - len(missing)) as stage:
        for case in missing:
            _add_case(store, dataset, case)
            stage.advance(case=case.name)
    return store


def _description(dataset: LabelledDataset, plan: PreprocessingPlan) -> StoreDescription:
    return StoreDescription(
        source=dataset.name,
        plan=plan,
        channels=dataset.channels,
        labels=dataset.labels,
        ignore_value=dataset.ignore_value,
    )


def _chosen(dataset: LabelledDataset, names: Sequence[str] | None) -> list[LabelledCase]:
    if names is None:
        return list(dataset.cases)
    by_name = {case.name: case for case in dataset.cases}
    unknown = sorted(set(names) - by_name.keys())
    if unknown:
        known = ", ".join(list(by_name)[:5])
        raise DatasetError(f"{dataset.folder} has no case {unknown[0]!r}; its cases are {known}, ... Check the name.")
    return [by_name[name] for name in sorted(set(names))]


def _is_kept(store: CaseStore, dataset: LabelledDataset, case: LabelledCase) -> bool:
    """Whether the store holds this case undamaged, from the very files it has now, with labels still known."""
    try:
        store.check(case.name)
    except DatasetError:
        return False
    known = {*dataset.labels.values(), dataset.ignore_value}
    same_files = store.properties(case.name).get(_SOURCE_FILES) == _source_files(dataset, case)
    return same_files and set(store.record(case.name).foreground) <= known


def _source_files(dataset: LabelledDataset, case: LabelledCase) -> list[list[Any]]:
    """Name, size and time of change of the files a case is made from: cheap to compare, changes when they do."""
    statistics = [(path, path.stat()) for path in (*case.images, case.labels)]
    return [
        [path.relative_to(dataset.folder).as_posix(), found.st_size, found.st_mtime_ns] for path, found in statistics
    ]


def _add_case(store: CaseStore, dataset: LabelledDataset, case: LabelledCase) -> None:
    source_files = _source_files(dataset, case)  # before reading: a file changed meanwhile is read again next time
    try:
        volume, labels = load_case(dataset, case)
        image, placement = preprocess_image(volume, store.plan)
        stored = preprocess_labels(labels, placement)
    except UserError as error:
        raise type(error)(f"Case {case.name!r}: {error}") from error
    store.write(
        case.name,
        image,
        labels=stored,
        properties={_SOURCE_FILES: source_files, "spacing_mm": list(placement.working_spacing_mm)},
    )
