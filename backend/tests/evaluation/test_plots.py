import io
import math
import subprocess
import sys

import numpy as np
import pytest
from matplotlib.image import imread

from s3d.evaluation.plots import curves_figure, paired_scores_figure, scores_figure, smooth

BLUE, VERMILION = (0, 114, 178), (213, 94, 0)


def pixels(png):
    return (imread(io.BytesIO(png))[..., :3] * 255).round().astype(int)


def columns_of(picture, color):
    """Columns that hold pixels of a colour, below the legend on top."""
    return np.flatnonzero((np.abs(picture[60:] - color).max(axis=-1) <= 8).any(axis=0))


@pytest.mark.parametrize("smoothing", [0.0, 0.5, 0.9])
def test_smoothing_equals_weighing_every_value_by_its_distance(smoothing):
    values = np.random.default_rng(0).normal(size=30)
    distances = np.abs(np.arange(30)[:, None] - np.arange(30))
    weights = smoothing**distances
    np.testing.assert_allclose(smooth(values, smoothing), weights @ values / weights.sum(axis=1))


def test_smoothing_keeps_a_constant_and_copes_with_one_value_or_none():
    np.testing.assert_allclose(smooth([2.0] * 9, 0.9), 2)
    np.testing.assert_allclose(smooth([3.0], 0.9), 3)
    assert smooth([], 0.9).size == 0


def test_a_higher_curve_is_drawn_higher():
    steps = list(range(20))
    picture = pixels(curves_figure({"Low": (steps, [1.0] * 20), "High": (steps, [2.0] * 20)}, smoothing=0))
    low, high = (
        np.argwhere(np.abs(picture[:, :600] - color).max(axis=-1) <= 8)[:, 0].mean() for color in (BLUE, VERMILION)
    )
    assert high < low


def test_a_logarithmic_axis_differs_from_a_linear_one():
    curves = {"Loss": ([0, 1, 2], [1.0, 0.1, 0.01])}
    assert curves_figure(curves, logarithmic=True) != curves_figure(curves)


def test_better_scores_lie_further_right_for_each_method():
    cases = ["a", "b", "c"]
    picture = pixels(paired_scores_figure(cases, [0.5, 0.52, 0.54], [0.8, 0.82, 0.84], ("First", "Second")))
    assert columns_of(picture, BLUE).max() < columns_of(picture, VERMILION).min()


def test_the_order_of_the_cases_does_not_matter():
    first = paired_scores_figure(["a", "b"], [0.5, 0.6], [0.7, 0.9], ("First", "Second"))
    assert paired_scores_figure(["b", "a"], [0.6, 0.5], [0.9, 0.7], ("First", "Second")) == first


@pytest.mark.parametrize("count", [1, 12, 90])
def test_any_number_of_cases_and_missing_scores_can_be_drawn(count):
    scores = np.linspace(0.5, 0.9, count)
    scores[0] = math.nan
    picture = pixels(paired_scores_figure([str(n) for n in range(count)], scores, scores, ("A", "B")))
    assert picture.shape[0] < 1500
    assert pixels(scores_figure({"Label": scores, "Nothing": [math.nan, math.inf]})).size


def test_the_same_scores_give_the_same_picture():
    assert scores_figure({"a": [0.1, 0.5]}) == scores_figure({"a": [0.5, 0.1]})


def test_drawing_leaves_matplotlibs_global_state_alone():
    code = "import sys, s3d.evaluation.pictures, s3d.evaluation.plots; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
