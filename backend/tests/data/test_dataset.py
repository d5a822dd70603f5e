import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from s3d.data.dataset import load_case, read_dataset
from s3d.errors import DatasetError, GeometryError, ImageError, LabelError


def test_nnunet_raw_is_read_in_the_order_of_its_channel_numbers(tiny: Any, tmp_path: Path) -> None:
    dataset = read_dataset(tiny.write_nnunet(tmp_path))
    assert dataset.name == "Tiny"
    assert dataset.channels == ("T1", "FLAIR")
    assert dataset.labels == {"Head": 3, "Tail": 700}
    assert dataset.ignore_value == 900
    assert [case.name for case in dataset.cases] == ["case_1", "case_10"]
    assert [path.name for path in dataset.cases[1].images] == ["case_10_0000.nii.gz", "case_10_0001.nii.gz"]
    assert dataset.cases[1].labels == tmp_path / "labelsTr" / "case_10.nii.gz"


def test_msd_lists_its_cases_and_its_labels_the_other_way_round(tiny: Any, tmp_path: Path) -> None:
    dataset = read_dataset(tiny.write_msd(tmp_path))
    assert dataset.channels == ("T1", "FLAIR")
    assert dataset.labels == {"Head": 3, "Tail": 700}
    assert dataset.ignore_value == 900
    assert [case.name for case in dataset.cases] == ["brain_001", "brain_002"]
    assert dataset.cases[0].images == (tmp_path / "imagesTr" / "brain_001.nii.gz",)


def test_both_layouts_load_the_voxels_that_were_written(tiny: Any, tmp_path: Path) -> None:
    nnunet = read_dataset(tiny.write_nnunet(tmp_path / "nnunet"))
    volume, labels = load_case(nnunet, nnunet.cases[1])
    expected = np.stack([tiny.make_intensities(10), tiny.make_intensities(11)])
    np.testing.assert_array_equal(volume.voxels, expected)
    np.testing.assert_array_equal(labels, tiny.make_labels())
    assert labels.dtype == np.int32
    msd = read_dataset(tiny.write_msd(tmp_path / "msd"))
    volume, labels = load_case(msd, msd.cases[1])
    np.testing.assert_array_equal(volume.voxels, tiny.make_intensities(1, expected.shape))
    np.testing.assert_array_equal(labels, tiny.make_labels())


def test_msd_modalities_are_ordered_as_numbers(tiny: Any, tmp_path: Path) -> None:
    modality = {str(number): f"echo {number}" for number in (10, 2, 1, 0, 9, 8, 7, 6, 5, 4, 3)}
    dataset = read_dataset(tiny.write_msd(tmp_path, modality=modality))
    assert dataset.channels == tuple(f"echo {number}" for number in range(11))


def test_files_in_another_format_and_strange_names_are_found(tiny: Any, tmp_path: Path) -> None:
    names = ("a+b (1)", "x_0000", "x_0000_0001", "[y]")
    dataset = read_dataset(tiny.write_nnunet(tmp_path, names=names, ending=".nrrd"))
    assert [case.name for case in dataset.cases] == sorted(names)
    for case in dataset.cases:
        assert [path.name for path in case.images] == [f"{case.name}_{channel:04d}.nrrd" for channel in range(2)]


def test_hidden_files_and_other_endings_are_skipped(tiny: Any, tmp_path: Path) -> None:
    tiny.write_nnunet(tmp_path)
    (tmp_path / "imagesTr" / "._case_1_0000.nii.gz").write_bytes(b"resource fork")
    (tmp_path / "labelsTr" / "._case_1.nii.gz").write_bytes(b"resource fork")
    (tmp_path / "imagesTr" / "notes.txt").write_text("none")
    assert len(read_dataset(tmp_path).cases) == 2


def test_hidden_files_listed_by_msd_are_skipped(tiny: Any, tmp_path: Path) -> None:
    tiny.write_msd(tmp_path)
    hidden = tmp_path / "imagesTr" / "._brain_001.nii.gz"
    hidden.write_bytes(b"resource fork")
    values = json.loads((tmp_path / "dataset.json").read_text(encoding="utf-8-sig"))
    values["training"].append({"image": "imagesTr/._brain_001.nii.gz", "label": "labelsTr/brain_001.nii.gz"})
    (tmp_path / "dataset.json").write_text(json.dumps(values))
    assert len(read_dataset(tmp_path).cases) == 2


@pytest.mark.parametrize(
    ("removed", "message"),
    [
        ("imagesTr/case_1_0001.nii.gz", "'case_1' in .*imagesTr has the channels 0000, but dataset.json names 2"),
        ("imagesTr/case_10_0000.nii.gz", "'case_10' in .*imagesTr has the channels 0001, but"),
        ("labelsTr/case_1.nii.gz", r"'case_1' has an image but no .*labelsTr/case_1\.nii\.gz. Add it"),
    ],
)
def test_a_missing_file_is_named(tiny: Any, tmp_path: Path, removed: str, message: str) -> None:
    tiny.write_nnunet(tmp_path)
    (tmp_path / removed).unlink()
    with pytest.raises(DatasetError, match=message):
        read_dataset(tmp_path)


def test_labels_without_an_image_are_refused(tiny: Any, tmp_path: Path) -> None:
    tiny.write_nnunet(tmp_path)
    tiny.write_image(tmp_path / "labelsTr" / "case_100.nii.gz", tiny.make_labels())
    with pytest.raises(DatasetError, match=r"'case_100' has labels but no .*imagesTr/case_100_0000\.nii\.gz"):
        read_dataset(tmp_path)


def test_an_image_without_channel_number_is_refused(tiny: Any, tmp_path: Path) -> None:
    tiny.write_nnunet(tmp_path)
    (tmp_path / "imagesTr" / "case_10_0000.nii.gz").rename(tmp_path / "imagesTr" / "case_10.nii.gz")
    with pytest.raises(DatasetError, match=r"case_10\.nii\.gz has no channel number.*CASE_0000\.nii\.gz"):
        read_dataset(tmp_path)


def test_an_empty_dataset_is_refused(tiny: Any, tmp_path: Path) -> None:
    tiny.write_nnunet(tmp_path / "nnunet", names=())
    with pytest.raises(DatasetError, match=r"There is no folder .*imagesTr"):
        read_dataset(tmp_path / "nnunet")
    (tmp_path / "nnunet" / "imagesTr").mkdir()
    (tmp_path / "nnunet" / "labelsTr").mkdir()
    with pytest.raises(DatasetError, match="nnunet holds no cases"):
        read_dataset(tmp_path / "nnunet")
    (tmp_path / "msd").mkdir()
    with pytest.raises(DatasetError, match="msd holds no cases"):
        read_dataset(tiny.write_msd(tmp_path / "msd", names=()))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, r"dataset\.json cannot be read \(No such file"),
        ("{", "not valid JSON"),
        ("[]", "holds a list"),
        ('{"labels": {"a": 1}}', 'neither "channel_names" .* nor "modality"'),
        ('{"channel_names": {}, "labels": {"a": 1}}', "without gaps"),
        ('{"channel_names": {"0": "T1", "2": "T2"}, "labels": {"a": 1}}', "without gaps"),
        ('{"channel_names": ["T1"], "labels": {"a": 1}}', "without gaps"),
        ('{"modality": {"0": "MR"}, "training": 3, "labels": {"1": "a"}}', '"training" is not a list'),
    ],
)
def test_a_wrong_dataset_json_is_refused(tmp_path: Path, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / "dataset.json").write_text(text)
    with pytest.raises(DatasetError, match=message):
        read_dataset(tmp_path)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (None, '"labels" is None'),
        ({"background": 0}, "names no structure"),
        ({"background": 0, "ignore": 1}, "names no structure"),
        ({"background": 0, "whole": [1, 2], "core": 2}, r"'whole' is a region, the list \[1, 2\]; overlapping"),
        ({"a": 1, "b": 1}, "two labels have the value 1"),
        ({"1": "a", "2": "a"}, "two labels have the name 'a'"),
        ({"background": 1, "a": 2}, "background has the value 1; it must be 0"),
        ({"a": 2**31}, "'a' has the value 2147483648; a whole number that fits into 32 bits"),
        ({"a": -(2**31) - 1}, "fits into 32 bits"),
        ({"a": "--1"}, "'a' has the value '--1'"),
        ({"a": 1.5}, "'a' has the value 1.5"),
        ({"a": True}, "'a' has the value True"),
        ({"a": "one"}, "'a' has the value 'one'"),
        ({"a": 5, "ignore": 4}, "ignore has the value 4, another label 5; ignore must be the highest"),
    ],
)
def test_wrong_labels_in_dataset_json_are_refused(tiny: Any, tmp_path: Path, labels: Any, message: str) -> None:
    tiny.write_nnunet(tmp_path)
    tiny.write_description(tmp_path, labels=labels)
    with pytest.raises(LabelError, match=message) as caught:
        read_dataset(tmp_path)
    assert "dataset.json" in str(caught.value)


def test_a_dataset_without_ignore_has_none(tiny: Any, tmp_path: Path) -> None:
    tiny.write_nnunet(tmp_path)
    labels = {"Tail": 100_000, "Head": "3", "Below": -2, "-5": "Low", "background": 0}
    tiny.write_description(tmp_path, labels=labels, name=None, file_ending=None)
    dataset = read_dataset(tmp_path)
    assert list(dataset.labels.items()) == [("Low", -5), ("Below", -2), ("Head", 3), ("Tail", 100_000)]
    assert dataset.ignore_value is None
    assert dataset.name == tmp_path.name


@pytest.mark.parametrize("outside", ["../secret.nii.gz", "imagesTr/../../secret.nii.gz", "/secret.nii.gz"])
def test_msd_paths_may_not_lead_out_of_the_folder(tiny: Any, tmp_path: Path, outside: str) -> None:
    tiny.write_image(tmp_path / "secret.nii.gz", tiny.make_labels())
    folder = tiny.write_msd(tmp_path / "set", training=[{"image": outside, "label": "labelsTr/brain_001.nii.gz"}])
    with pytest.raises(DatasetError, match="outside the dataset folder"):
        read_dataset(folder)


@pytest.mark.parametrize(
    ("training", "message"),
    [
        (["imagesTr/brain_001.nii.gz"], "names no image"),
        ([{"image": "imagesTr/brain_001.nii.gz"}], "names no label"),
        ([{"image": "imagesTr/gone.nii.gz", "label": "labelsTr/gone.nii.gz"}], r"gone\.nii\.gz, listed.*not exist"),
        ([{"image": "imagesTr/brain_001.nii.gz", "label": "labelsTr/brain_001.nii.gz"}] * 2, "'brain_001' twice"),
    ],
)
def test_a_wrong_training_list_is_refused(tiny: Any, tmp_path: Path, training: Any, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        read_dataset(tiny.write_msd(tmp_path, training=training))


def test_labels_on_another_grid_are_refused(tiny: Any, tmp_path: Path) -> None:
    dataset = read_dataset(tiny.write_nnunet(tmp_path))
    tiny.write_image(dataset.cases[0].labels, tiny.make_labels(), spacing_mm=(1.0, 1.0, 1.1))
    with pytest.raises(GeometryError, match=r"labelsTr.case_1\.nii\.gz does not lie on the grid of .*case_1_0000"):
        load_case(dataset, dataset.cases[0])
    tiny.write_image(dataset.cases[0].labels, tiny.make_labels()[:, :, :-1])
    with pytest.raises(GeometryError, match="does not lie on the grid"):
        load_case(dataset, dataset.cases[0])


def test_an_unknown_label_value_is_named_with_its_file(tiny: Any, tmp_path: Path) -> None:
    dataset = read_dataset(tiny.write_nnunet(tmp_path))
    labels = tiny.make_labels()
    labels[0, 0, 0] = 4
    tiny.write_image(dataset.cases[1].labels, labels)
    with pytest.raises(LabelError, match=r"case_10\.nii\.gz holds the label value 4, which .*dataset\.json"):
        load_case(dataset, dataset.cases[1])


def test_a_truncated_image_is_named(tiny: Any, tmp_path: Path) -> None:
    dataset = read_dataset(tiny.write_nnunet(tmp_path))
    path = dataset.cases[0].images[1]
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:-500]))
    with pytest.raises(ImageError, match=r"case_1_0001\.nii\.gz"):
        load_case(dataset, dataset.cases[0])


def test_a_4d_image_must_hold_the_channels_its_modality_names(tiny: Any, tmp_path: Path) -> None:
    modality = {"0": "T1", "1": "FLAIR", "2": "T2"}
    dataset = read_dataset(tiny.write_msd(tmp_path, modality=modality))
    with pytest.raises(ImageError, match=r"brain_001\.nii\.gz"):
        load_case(dataset, dataset.cases[0])


def test_the_real_hippocampus_task_is_read_whole(test_data: Path) -> None:
    """Label values and numbers from the task's own dataset.json and ATTRIBUTION.txt (118, 010 and 281 are no pairs)."""
    dataset = read_dataset(test_data / "msd_task04_hippocampus")
    names = {case.name for case in dataset.cases}
    assert len(names) == len(dataset.cases) == 200
    assert dataset.labels == {"Anterior": 1, "Posterior": 2}
    assert dataset.ignore_value is None
    assert not names & {"hippocampus_010", "hippocampus_118", "hippocampus_281"}
    for case in dataset.cases[::40]:
        volume, labels = load_case(dataset, case)
        assert volume.voxels.shape == (1, *labels.shape)
        assert set(np.unique(labels)) == {0, 1, 2}
