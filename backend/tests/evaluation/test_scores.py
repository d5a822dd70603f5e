import csv
import json
import math

import numpy as np
import pytest

from s3d.errors import DatasetError, GeometryError
from s3d.evaluation.metrics import dice, hausdorff_95, surface_dice, volume_ml
from s3d.evaluation.scores import CaseScore, case_means, score_case, score_table, summarize, summary_to_json, write_csv

SPACING_MM = (2.0, 1.0, 1.0)
LABELS = {"head": 1, "tail": 7}


def row(case, label, dice_value, nsd=0.5, hd95=1.0):
    return CaseScore(case, label, dice_value, nsd, hd95, 1.0, 2.0)


ROWS = [
    row("b", "head", 0.8, hd95=2.0),
    row("b", "tail", math.nan, math.nan, math.nan),
    row("a", "head", 0.6, hd95=4.0),
    row("a", "tail", 0.0, 0.0, math.inf),
]


@pytest.fixture
def volumes(ball):
    reference = np.where(ball, 1, 0)
    reference[:, :, 11:] *= 7
    return reference, np.roll(reference, 1, axis=1)


def test_each_label_is_scored_as_a_mask_of_its_own(volumes):
    reference, prediction = volumes
    head, tail = score_case(reference, prediction, SPACING_MM, LABELS, case="x")
    assert (head.case, head.label, tail.label) == ("x", "head", "tail")
    masks = reference == 7, prediction == 7
    assert tail.dice == dice(*masks)
    assert tail.nsd == surface_dice(*masks, SPACING_MM, 1.0)
    assert tail.hd95_mm == hausdorff_95(*masks, SPACING_MM)
    assert tail.reference_ml == volume_ml(masks[0], SPACING_MM)


def test_a_label_may_have_its_own_tolerance(volumes):
    head, tail = score_case(*volumes, SPACING_MM, LABELS, 0.5, {"tail": 3.0}, case="x")
    masks = volumes[0] == 1, volumes[1] == 1
    assert head.nsd == surface_dice(*masks, SPACING_MM, 0.5)
    assert tail.nsd == pytest.approx(1)


def test_what_nobody_annotated_does_not_change_any_score(volumes):
    reference, prediction = volumes
    reference[:9] = 9
    other = prediction.copy()
    other[:9] = np.random.default_rng(0).integers(0, 8, other[:9].shape)
    scores = score_case(reference, prediction, SPACING_MM, LABELS, ignore_value=9, case="x")
    assert score_case(reference, other, SPACING_MM, LABELS, ignore_value=9, case="x") == scores
    assert score_case(reference, other, SPACING_MM, LABELS, case="x") != scores


def test_volumes_of_different_shape_are_refused(volumes):
    with pytest.raises(GeometryError, match="same grid"):
        score_case(volumes[0], volumes[1][1:], SPACING_MM, LABELS, ignore_value=9, case="x")


def test_means_leave_out_nan_and_infinite_values_and_count_them():
    head, tail = summarize(ROWS).labels
    assert head.dice.mean == pytest.approx(0.7)
    assert (head.dice.counted, head.dice.undefined, head.dice.infinite) == (2, 0, 0)
    assert tail.dice.mean == 0
    assert (tail.dice.counted, tail.dice.undefined) == (1, 1)
    assert math.isnan(tail.hd95_mm.mean)
    assert (tail.hd95_mm.counted, tail.hd95_mm.undefined, tail.hd95_mm.infinite) == (0, 1, 1)


def test_the_foreground_mean_is_the_mean_of_the_label_means():
    foreground = summarize(ROWS).foreground_mean
    assert foreground["dice"] == pytest.approx((0.7 + 0) / 2)
    assert foreground["hd95_mm"] == pytest.approx(3.0)  # the tail has no finite distance


def test_nothing_to_summarize_is_refused():
    with pytest.raises(DatasetError, match="no scores"):
        summarize([])


def test_a_table_has_cases_by_name_and_labels_in_their_order():
    cases, table = score_table(ROWS, "dice")
    assert cases == ("a", "b")
    np.testing.assert_array_equal(table, [[0.6, 0.0], [0.8, math.nan]])


def test_a_case_mean_goes_over_the_labels_it_has():
    assert case_means(ROWS, "dice") == pytest.approx({"a": 0.3, "b": 0.8})


def test_the_csv_keeps_every_digit_and_stable_columns(tmp_path):
    third = CaseScore("case, one", "tail", 1 / 3, math.nan, math.inf, 0.1, 2.0)
    write_csv(tmp_path / "cases.csv", [third])
    with (tmp_path / "cases.csv").open(newline="") as file:
        header, line = csv.reader(file)
    assert header == ["case", "label", "dice", "nsd", "hd95_mm", "reference_ml", "prediction_ml"]
    assert line[0] == "case, one"
    assert float(line[2]) == 1 / 3
    assert line[3:5] == ["nan", "inf"]


def test_the_summary_is_valid_json_with_null_for_nan():
    values = json.loads(json.dumps(summary_to_json(summarize(ROWS)), allow_nan=False))
    assert values["cases"] == 2
    assert values["labels"][1]["hd95_mm"] == {"mean": None, "counted": 0, "undefined": 1, "infinite": 1}
    assert values["foreground_mean"]["dice"] == pytest.approx(0.35)
