"""Who pre-trains, who trains, who judges: the groups that make the demo's scores honest."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from s3d.data.dataset import LabelledDataset
from s3d.demo import cases as demo_cases
from s3d.demo.cases import DemoCases, get_cases, store_unlabelled
from s3d.demo.config import DemoConfig
from s3d.errors import ConfigError, DatasetError
from s3d.progress import Progress

MakeDataset = Callable[..., Path]


def groups(folder: Path, **options: int) -> DemoCases:
    chosen = {"training_cases": 3, "test_cases": 4, "unlabelled_cases": 60} | options
    return get_cases(DemoConfig(data=folder, output=folder.parent / "demo", **chosen), Progress())  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("unlabelled", "expected"), [(60, 6), (5, 5), (3, 3)])
def test_nobody_judges_who_trained_or_pretrained(
    seed: int, unlabelled: int, expected: int, make_dataset: MakeDataset
) -> None:
    found = groups(make_dataset(10), seed=seed, unlabelled_cases=unlabelled)
    assert (len(found.unlabelled), len(found.training), len(found.test)) == (expected, 3, 4)
    assert set(found.training) <= set(found.unlabelled)
    assert not set(found.test) & set(found.unlabelled)
    for group in (found.unlabelled, found.training, found.test):
        assert len(set(group)) == len(group)
    assert not found.is_virtual


def test_the_groups_are_a_function_of_the_seed(make_dataset: MakeDataset) -> None:
    folder = make_dataset(10)
    assert groups(folder, seed=4) == groups(folder, seed=4)
    assert len({groups(folder, seed=seed).test for seed in range(5)}) == 5


def test_the_test_cases_stay_when_more_pretrain(make_dataset: MakeDataset) -> None:
    folder = make_dataset(10)
    assert groups(folder, unlabelled_cases=3).test == groups(folder, unlabelled_cases=6).test


def test_too_few_cases_are_refused_with_both_numbers(make_dataset: MakeDataset) -> None:
    folder = make_dataset(6)
    with pytest.raises(DatasetError, match=r"has 6 cases, the demo needs 7\. Give more, or smaller training_cases"):
        groups(folder)


def test_fewer_unlabelled_than_training_cases_make_no_sense() -> None:
    with pytest.raises(ConfigError, match="unlabelled_cases is 2; it must be at least training_cases"):
        DemoConfig(unlabelled_cases=2)


def test_virtual_subjects_are_made_once_and_said_to_be_virtual(
    tmp_path: Path, make_dataset: MakeDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Path] = []

    def make(folder: Path, count: int, _seed: int, _progress: Progress) -> None:
        make_dataset(count).rename(folder)
        made.append(folder)

    monkeypatch.setattr(demo_cases, "make_virtual_subjects", make)
    config = DemoConfig(data=None, output=tmp_path)
    first, second = get_cases(config, Progress()), get_cases(config, Progress())
    assert made == [tmp_path / "virtual_subjects"]
    assert first == second
    assert first.is_virtual


def test_every_channel_becomes_a_case_of_the_store(tmp_path: Path, make_dataset: MakeDataset) -> None:
    found = groups(make_dataset(8, channels=2), unlabelled_cases=3)
    store_unlabelled(found, tmp_path / "store", Progress())
    store = demo_cases.CaseStore.open(tmp_path / "store")
    assert store.names() == tuple(sorted(f"{name}_{channel}" for name in found.unlabelled for channel in (0, 1)))
    for name in store.names():
        image = store.read_image(name)
        assert image.shape[0] == 1
        assert np.isclose(image.mean(), 0, atol=1e-4)
        assert list(store.record(name).arrays) == ["image"], "labels have no business here"


def test_label_files_are_not_opened(tmp_path: Path, make_dataset: MakeDataset) -> None:
    folder = make_dataset(8)
    found = groups(folder)
    for path in (folder / "labelsTr").iterdir():
        path.write_bytes(b"not labels")
    store_unlabelled(found, tmp_path / "store", Progress())


def test_a_second_run_keeps_what_is_stored_and_takes_out_what_is_now_held_out(
    tmp_path: Path, make_dataset: MakeDataset
) -> None:
    folder = make_dataset(10)
    few, many = groups(folder, test_cases=2), groups(folder, test_cases=5)
    store_unlabelled(few, tmp_path / "store", Progress())
    kept = tmp_path / "store" / "cases" / f"{many.unlabelled[0]}_0" / "image.b2nd"
    before = kept.stat().st_mtime_ns
    store_unlabelled(many, tmp_path / "store", Progress())
    names = demo_cases.CaseStore.open(tmp_path / "store").names()
    assert names == tuple(f"{name}_0" for name in many.unlabelled)
    assert not {f"{name}_0" for name in many.test} & set(names)
    assert kept.stat().st_mtime_ns == before


def test_a_dataset_of_another_name_is_not_mixed_into_the_store(tmp_path: Path, make_dataset: MakeDataset) -> None:
    found = groups(make_dataset(8))
    store_unlabelled(found, tmp_path / "store", Progress())
    other = LabelledDataset(**{**vars(found.dataset), "name": "Balls"})
    with pytest.raises(DatasetError, match="was made with source 'Boxes', but 'Balls' is asked for"):
        store_unlabelled(DemoCases(**{**vars(found), "dataset": other}), tmp_path / "store", Progress())
