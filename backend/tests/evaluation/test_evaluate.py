import csv
import dataclasses
import json
import math

import numpy as np
import pytest
import SimpleITK

from s3d.config import from_dict
from s3d.errors import ConfigError, DatasetError, GeometryError, ImageError, LabelError
from s3d.evaluation.config import EvaluateConfig
from s3d.evaluation.pairs import find_pairs, read_pair
from s3d.evaluation.run import evaluate
from s3d.evaluation.score_report import overlay_of_pair
from s3d.evaluation.scores import score_case
from s3d.progress import Progress, read_events

SPACING_MM = (2.0, 1.0, 1.5)
LABELS = {"head": 1, "tail": 2}


def write(path, voxels, spacing_mm=SPACING_MM, origin_mm=(1.0, 2.0, 3.0)):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = SimpleITK.GetImageFromArray(voxels)
    image.SetSpacing(spacing_mm[::-1])
    image.SetOrigin(origin_mm)
    SimpleITK.WriteImage(image, str(path))


def labels_of(seed):
    """A block of head and tail, somewhere."""
    z, y, x = np.random.default_rng(seed).integers(2, 6, 3)
    labels = np.zeros((16, 20, 18), dtype=np.uint8)
    labels[z : z + 8, y : y + 6, x : x + 8] = 1
    labels[z : z + 8, y + 6 : y + 12, x : x + 8] = 2
    return labels


@pytest.fixture
def folders(tmp_path):
    """Three references with dataset.json above them, and predictions that are a voxel off."""
    for seed, name in enumerate(("a", "b", "c")):
        write(tmp_path / "dataset" / "labelsTr" / f"{name}.nii.gz", labels_of(seed))
        write(tmp_path / "predicted" / f"{name}.nii.gz", np.roll(labels_of(seed), seed, axis=1))
    description = {
        "channel_names": {"0": "T1"},
        "labels": {"background": 0, **LABELS, "ignore": 3},
        "file_ending": ".nii.gz",
    }
    (tmp_path / "dataset" / "dataset.json").write_text(json.dumps(description))
    return tmp_path


def config_of(folders, **changes):
    values = {
        "predictions": "predicted",
        "references": "dataset/labelsTr",
        "output": "scores",
        "pictures": 0,
        **changes,
    }
    paths = ("predictions", "references", "output", "images")
    return from_dict(EvaluateConfig, {k: folders / v if k in paths and v else v for k, v in values.items()})


def rows_of(folders):
    with (folders / "scores" / "cases.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def summary_of(folders):
    return json.loads((folders / "scores" / "summary.json").read_text())


def test_a_run_writes_every_score_their_means_and_a_report(folders):
    report = evaluate(config_of(folders, pictures=3), Progress())
    assert report == folders / "scores" / "report.html"
    assert sorted(path.name for path in report.parent.iterdir()) == ["cases.csv", "report.html", "summary.json"]
    expected = [
        score
        for seed, name in enumerate("abc")
        for score in score_case(labels_of(seed), np.roll(labels_of(seed), seed, axis=1), SPACING_MM, LABELS, case=name)
    ]
    found = rows_of(folders)
    assert [(row["case"], row["label"]) for row in found] == [(score.case, score.label) for score in expected]
    assert [float(row["dice"]) for row in found] == [score.dice for score in expected]
    assert [float(row["hd95_mm"]) for row in found] == [score.hd95_mm for score in expected]
    summary = summary_of(folders)
    assert summary["foreground_mean"]["dice"] == pytest.approx(np.mean([score.dice for score in expected]))
    interval = summary["foreground_interval"]["dice"]
    assert interval["low"] < interval["mean"] < interval["high"]
    assert [label["label"] for label in summary["labels"]] == ["head", "tail"]
    assert (summary["label_values"], summary["ignore_value"]) == (LABELS, 3)
    text = report.read_text(encoding="utf-8")
    assert text.count("<img ") == 4  # scores, and three cases from worst to best
    assert text.index("Three slices of c") < text.index("Three slices of b") < text.index("Three slices of a")
    assert "not a medical device" in text


def test_a_missing_prediction_ends_the_run_before_anything_is_written(folders):
    (folders / "predicted" / "b.nii.gz").unlink()
    with pytest.raises(DatasetError, match=r"predicted holds no prediction for b\. .*allow_missing"):
        evaluate(config_of(folders), Progress())
    assert not (folders / "scores").exists()


def test_a_missing_prediction_counts_as_a_failure_where_that_is_allowed(folders):
    (folders / "predicted" / "a.nii.gz").unlink()
    progress = Progress(folders / "events.jsonl")
    text = evaluate(config_of(folders, allow_missing=True), progress).read_text(encoding="utf-8")
    progress.close()
    head = rows_of(folders)[0]
    assert (head["case"], float(head["dice"]), float(head["nsd"]), float(head["hd95_mm"])) == ("a", 0, 0, math.inf)
    assert summary_of(folders)["missing_predictions"] == ["a"]
    assert summary_of(folders)["labels"][0]["hd95_mm"]["infinite"] == 1
    assert "Without a prediction, counted as failures: a." in text
    assert [event["code"] for event in read_events(folders / "events.jsonl") if event["kind"] == "warning"] == [
        "W_MISSING_PREDICTION"
    ]


def test_a_prediction_without_reference_is_not_scored_but_named(folders):
    write(folders / "predicted" / "stranger.nii.gz", labels_of(0))
    assert "stranger" in evaluate(config_of(folders), Progress()).read_text(encoding="utf-8")
    assert summary_of(folders)["predictions_without_reference"] == ["stranger"]
    assert "stranger" not in {row["case"] for row in rows_of(folders)}


@pytest.mark.parametrize("change", [{"spacing_mm": (2.0, 1.0, 1.4)}, {"origin_mm": (1.0, 2.0, 8.0)}])
def test_a_prediction_on_another_grid_is_refused(folders, change):
    write(folders / "predicted" / "b.nii.gz", labels_of(1), **change)
    with pytest.raises(GeometryError, match=r"predicted/b\.nii\.gz does not lie on the grid of .*labelsTr/b\.nii\.gz"):
        evaluate(config_of(folders), Progress())
    assert not (folders / "scores").exists()


def test_a_label_value_that_dataset_json_does_not_name_is_refused(folders):
    write(folders / "predicted" / "b.nii.gz", labels_of(1) * 7)
    with pytest.raises(LabelError, match=r"predicted/b\.nii\.gz holds the label value 7, 14, which .*dataset\.json"):
        evaluate(config_of(folders), Progress())


def test_labels_of_the_config_are_scored_and_other_values_are_background(folders):
    (folders / "dataset" / "dataset.json").unlink()
    evaluate(config_of(folders, labels={"rear": 2}), Progress())
    assert {row["label"] for row in rows_of(folders)} == {"rear"}


def test_voxels_nobody_annotated_are_left_out(folders):
    reference = labels_of(0)
    reference[:8] = 3
    write(folders / "dataset" / "labelsTr" / "a.nii.gz", reference)
    evaluate(config_of(folders), Progress())
    assert float(rows_of(folders)[0]["dice"]) == 1  # elsewhere the prediction of a is right


def test_without_any_label_names_the_remedy_is_told(folders):
    (folders / "dataset" / "dataset.json").unlink()
    with pytest.raises(DatasetError, match=r"no dataset\.json in .*labelsTr or above it.*--labels"):
        evaluate(config_of(folders), Progress())


def test_a_tolerance_for_an_unknown_label_is_refused(folders):
    with pytest.raises(ConfigError, match="names 'nose'; the labels are head, tail"):
        evaluate(config_of(folders, label_tolerances_mm={"nose": 2.0}), Progress())


def test_a_label_tolerance_reaches_the_scores(folders):
    evaluate(config_of(folders, label_tolerances_mm={"tail": 9.0}), Progress())
    assert {float(row["nsd"]) for row in rows_of(folders) if row["label"] == "tail"} == {1.0}
    assert {float(row["nsd"]) for row in rows_of(folders) if row["label"] == "head"} != {1.0}


def test_files_pair_by_name_whatever_their_ending(folders):
    (folders / "predicted" / "b.nii.gz").unlink()
    write(folders / "predicted" / "b.nrrd", labels_of(1))
    evaluate(config_of(folders), Progress())
    assert [float(row["dice"]) for row in rows_of(folders) if row["case"] == "b"] == [1.0, 1.0]


def test_two_files_of_one_name_are_refused(folders):
    write(folders / "predicted" / "b.nrrd", labels_of(1))
    with pytest.raises(DatasetError, match=r"both b\.nii\.gz and b\.nrrd"):
        evaluate(config_of(folders), Progress())


def test_folders_that_do_not_exist_or_do_not_match_are_refused(folders):
    with pytest.raises(DatasetError, match=r"no folder .*nowhere"):
        evaluate(config_of(folders, predictions="nowhere"), Progress())
    (folders / "empty").mkdir()
    with pytest.raises(
        DatasetError, match=r"No file in .*empty \(no image files\) has the name of one in .*\(a, b, c\)"
    ):
        evaluate(config_of(folders, predictions="empty"), Progress())


def test_a_damaged_prediction_is_refused_by_name(folders):
    path = folders / "predicted" / "b.nii.gz"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ImageError, match=r"b\.nii\.gz"):
        evaluate(config_of(folders), Progress())


def test_images_are_drawn_behind_the_outlines(folders):
    noise = np.random.default_rng(0).normal(size=(16, 20, 18)).astype(np.float32)
    write(folders / "images" / "a_0000.nii.gz", noise)
    write(folders / "images" / "b.nii.gz", -noise)
    pairs, _ = find_pairs(folders / "dataset" / "labelsTr", folders / "predicted", folders / "images")
    assert [pair.image and pair.image.name for pair in pairs] == ["a_0000.nii.gz", "b.nii.gz", None]
    plain = dataclasses.replace(pairs[0], image=None)
    assert overlay_of_pair(pairs[0], "a") != overlay_of_pair(plain, "a")
    assert evaluate(config_of(folders, images="images", pictures=3), Progress()).is_file()


def test_the_picture_does_not_depend_on_the_axis_order_of_the_files(folders):
    pair = find_pairs(folders / "dataset" / "labelsTr", folders / "predicted")[0][2]
    for path in (pair.reference, pair.prediction):
        turned = SimpleITK.DICOMOrient(SimpleITK.ReadImage(str(path)), "SAR")
        SimpleITK.WriteImage(turned, str(path.parent / "turned.nii.gz"))
    other = dataclasses.replace(
        pair, reference=pair.reference.parent / "turned.nii.gz", prediction=pair.prediction.parent / "turned.nii.gz"
    )
    assert read_pair(other)[2].shape != read_pair(pair)[2].shape
    assert overlay_of_pair(other, "c") == overlay_of_pair(pair, "c")


def test_an_image_on_another_grid_is_not_drawn_but_refused(folders):
    noise = np.random.default_rng(0).normal(size=(16, 20, 17)).astype(np.float32)
    for name in "abc":
        write(folders / "images" / f"{name}.nii.gz", noise)
    with pytest.raises(GeometryError, match=r"images/.\.nii\.gz does not lie on the grid of its labels"):
        evaluate(config_of(folders, images="images", pictures=1), Progress())
    assert not (folders / "scores").exists()
