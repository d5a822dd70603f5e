import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from s3d.data.case_store import CaseStore
from s3d.data.dataset import load_case, read_dataset
from s3d.data.dataset_store import build_store
from s3d.data.preprocessing import PreprocessingPlan, preprocess_image, preprocess_labels
from s3d.errors import DatasetError, ImageError, LabelError
from s3d.progress import Progress, read_events

PLAN = PreprocessingPlan(orientation="LPS", spacing_mm=(1.0, 1.0, 1.0), normalization="zscore")


@pytest.fixture
def folder(tiny: Any, tmp_path: Path) -> Path:
    return tiny.write_nnunet(tmp_path / "dataset")


def build(folder: Path, cases: tuple[str, ...] | None = None, progress: Progress | None = None) -> CaseStore:
    return build_store(read_dataset(folder), PLAN, folder.parent / "store", progress or Progress(), cases)


def written_times(store: CaseStore) -> dict[str, int]:
    return {name: (store.folder / "cases" / name / "case.json").stat().st_mtime_ns for name in store.names()}


def test_the_store_holds_every_case_preprocessed_with_its_original_label_values(folder: Path) -> None:
    built = build(folder)
    store = CaseStore.open(built.folder, plan=PLAN)
    assert store.names() == ("case_1", "case_10")
    assert store.description.channels == ("T1", "FLAIR")
    assert store.description.labels == {"Head": 3, "Tail": 700}
    dataset = read_dataset(folder)
    for case in dataset.cases:
        volume, labels = load_case(dataset, case)
        image, placement = preprocess_image(volume, PLAN)
        np.testing.assert_array_equal(store.read_image(case.name), image)
        np.testing.assert_array_equal(store.read_labels(case.name), preprocess_labels(labels, placement))
        assert set(store.foreground(case.name)) == {3, 700, 900}
        assert store.properties(case.name)["spacing_mm"] == [1.0, 1.0, 1.0]


def test_an_image_of_one_value_within_zeros_is_refused_by_case_and_channel(tiny: Any, folder: Path) -> None:
    voxels = np.zeros_like(tiny.make_labels(), dtype=np.float32)
    voxels[3:7, 3:7, 3:7] = 7
    for number in range(2):
        tiny.write_image(folder / "imagesTr" / f"case_10_000{number}.nii.gz", voxels)
    with pytest.raises(ImageError, match=r"Case 'case_10': Channel 0 has the value 7 everywhere"):
        build(folder)


def test_what_a_killed_run_left_in_the_store_is_removed(folder: Path) -> None:
    store = build(folder)
    (store.folder / "cases" / ".writing-x" / "case_7").mkdir(parents=True)
    build(folder)
    assert sorted(path.name for path in (store.folder / "cases").iterdir()) == ["case_1", "case_10"]


def test_a_second_run_keeps_what_has_not_changed(tiny: Any, folder: Path) -> None:
    store = build(folder, cases=("case_10",))
    assert store.names() == ("case_10",)
    before = written_times(store)
    assert written_times(build(folder))["case_10"] == before["case_10"]
    before = written_times(store)
    tiny.write_image(folder / "labelsTr" / "case_1.nii.gz", tiny.make_labels() * 0 + 3)
    after = written_times(build(folder))
    assert after["case_10"] == before["case_10"]
    assert after["case_1"] != before["case_1"]
    assert set(CaseStore.open(store.folder).foreground("case_1")) == {3}


def test_a_touched_image_is_preprocessed_again(folder: Path) -> None:
    before = written_times(build(folder))
    os.utime(folder / "imagesTr" / "case_1_0001.nii.gz", ns=(1, 1))
    after = written_times(build(folder))
    assert [name for name in after if after[name] != before[name]] == ["case_1"]


def test_a_damaged_case_is_preprocessed_again(folder: Path) -> None:
    store = build(folder)
    path = store.folder / "cases" / "case_1" / "image.b2nd"
    path.write_bytes(path.read_bytes()[:100])
    repaired = build(folder)
    assert repaired.read_image("case_1").any()


def test_progress_starts_behind_the_kept_cases(folder: Path, tmp_path: Path) -> None:
    build(folder, cases=("case_1",))
    progress = Progress(tmp_path / "events.jsonl")
    build(folder, progress=progress)
    progress.close()
    steps = [(event["stage"], event["step"], event["of"]) for event in read_events(tmp_path / "events.jsonl")]
    assert steps[0] == ("Preprocess", 1, 2)
    assert steps[-1] == ("Preprocess", 2, 2)


def test_a_case_that_left_the_dataset_leaves_the_store(folder: Path) -> None:
    build(folder)
    for path in folder.rglob("case_1[_.]*"):
        path.unlink()
    assert build(folder).names() == ("case_10",)


def test_other_cases_stay_when_only_some_are_asked_for(folder: Path) -> None:
    build(folder)
    assert build(folder, cases=("case_1",)).names() == ("case_1", "case_10")


def test_a_label_taken_out_of_dataset_json_is_noticed_in_kept_cases(tiny: Any, folder: Path) -> None:
    build(folder)
    tiny.write_description(folder, labels={"background": 0, "Head": 3, "ignore": 900})
    with pytest.raises(LabelError, match=r"'case_1': .* label value 700"):
        build(folder)


def test_a_case_that_cannot_be_read_is_named_and_the_others_stay(folder: Path) -> None:
    (folder / "imagesTr" / "case_10_0000.nii.gz").write_bytes(b"not an image")
    with pytest.raises(ImageError, match=r"^Case 'case_10': .*case_10_0000"):
        build(folder)
    assert CaseStore.open(folder.parent / "store").names() == ("case_1",)


def test_an_unknown_case_is_named(folder: Path) -> None:
    with pytest.raises(DatasetError, match="has no case 'case_2'; its cases are case_1, case_10"):
        build(folder, cases=("case_2",))


def test_another_plan_needs_another_folder(folder: Path) -> None:
    store = build(folder)
    other = PreprocessingPlan(orientation="LPS", spacing_mm=None, normalization="zscore")
    with pytest.raises(DatasetError, match=r"made with spacing_mm .* Choose another folder"):
        build_store(read_dataset(folder), other, store.folder, Progress())


def test_without_a_spacing_each_case_keeps_its_own(tiny: Any, tmp_path: Path) -> None:
    folder = tiny.write_nnunet(tmp_path / "dataset", names=("a",))
    for path in folder.rglob("*.nii.gz"):
        array = tiny.make_labels() if path.parent.name == "labelsTr" else tiny.make_intensities(0)
        tiny.write_image(path, array, spacing_mm=(0.5, 0.6, 2.0))
    plan = PreprocessingPlan(orientation="LPS", spacing_mm=None, normalization="zscore")
    store = build_store(read_dataset(folder), plan, tmp_path / "store", Progress())
    assert store.properties("a")["spacing_mm"] == pytest.approx([2.0, 0.6, 0.5])


def test_real_hippocampus_cases_keep_their_labels(test_data: Path, tmp_path: Path) -> None:
    dataset = read_dataset(test_data / "msd_task04_hippocampus")
    names = tuple(case.name for case in dataset.cases[:4])
    store = build_store(dataset, PLAN, tmp_path / "store", Progress(), cases=names)
    assert store.names() == names
    for case in dataset.cases[:4]:
        assert set(store.foreground(case.name)) == {1, 2}
        volume, labels = load_case(dataset, case)
        assert store.shape(case.name) == labels.shape  # stored at 1 mm
        for value in (1, 2):
            assert (store.read_labels(case.name) == value).sum() == (labels == value).sum()
        assert np.corrcoef(np.sort(store.read_image(case.name).ravel()), np.sort(volume.voxels.ravel()))[0, 1] > 0.999
