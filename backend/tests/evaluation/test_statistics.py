import math

import numpy as np
import pytest
from scipy import stats

from s3d.errors import DatasetError
from s3d.evaluation.statistics import bootstrap_interval, paired_difference

SCORES = np.random.default_rng(3).normal(0.8, 0.05, 30)


def test_the_interval_equals_scipys_percentile_bootstrap():
    interval = bootstrap_interval(SCORES)
    expected = stats.bootstrap((SCORES,), np.mean, n_resamples=10_000, method="percentile").confidence_interval
    assert interval.mean == pytest.approx(SCORES.mean())
    assert interval.low == pytest.approx(expected.low, abs=0.002)
    assert interval.high == pytest.approx(expected.high, abs=0.002)


def test_95_of_100_intervals_hold_the_true_mean():
    generator = np.random.default_rng(0)
    draws = [bootstrap_interval(generator.normal(0, 1, 40), samples=400, seed=seed) for seed in range(300)]
    assert 0.90 <= np.mean([draw.low <= 0 <= draw.high for draw in draws]) <= 0.98


def test_the_same_seed_gives_the_same_interval_and_another_seed_another():
    assert bootstrap_interval(SCORES, seed=1) == bootstrap_interval(SCORES, seed=1)
    assert bootstrap_interval(SCORES, seed=1) != bootstrap_interval(SCORES, seed=2)


def test_the_mean_of_a_table_is_the_mean_of_its_label_means():
    table = [[1.0, 0.0], [np.nan, 0.2], [np.nan, np.nan], [0.0, 0.4]]
    interval = bootstrap_interval(table)
    assert interval.mean == pytest.approx((0.5 + 0.2) / 2)
    assert interval.cases == 3
    assert interval.low <= interval.mean <= interval.high


def test_a_label_that_no_drawn_case_has_does_not_break_the_interval():
    interval = bootstrap_interval([[0.9, 0.1], [0.8, np.nan], [0.7, np.nan]], samples=500)
    assert 0.1 < interval.low <= interval.high < 0.9


def test_infinite_values_are_left_out_like_nan():
    assert bootstrap_interval([1.0, 2.0, math.inf, math.nan]) == bootstrap_interval([1.0, 2.0])


def test_one_case_has_a_mean_but_no_interval_and_none_has_neither():
    assert bootstrap_interval([0.7])[0] == 0.7
    assert math.isnan(bootstrap_interval([0.7]).low)
    assert bootstrap_interval([0.7]).cases == 1
    assert math.isnan(bootstrap_interval([]).mean)
    assert math.isnan(bootstrap_interval([math.nan]).mean)


def test_pairing_removes_what_the_cases_have_in_common():
    difficulty = np.random.default_rng(0).normal(0, 0.2, 12)
    gain = np.random.default_rng(1).normal(0.02, 0.01, 12)
    mean, low, high, cases = paired_difference(difficulty + gain, difficulty)
    assert mean == pytest.approx(gain.mean())
    assert 0 < low < mean < high < 0.04
    assert cases == 12


def test_swapping_the_two_methods_swaps_the_sign():
    first, second = SCORES[:15], SCORES[15:]
    forward, back = paired_difference(first, second), paired_difference(second, first)
    assert forward.mean == pytest.approx(-back.mean)
    assert forward.low == pytest.approx(-back.high, abs=0.002)


def test_a_case_scored_by_only_one_method_is_left_out_of_both():
    assert paired_difference([0.9, 0.5, math.nan], [0.8, math.inf, 0.1]).cases == 1
    assert paired_difference([0.9, 0.5, math.nan], [0.8, math.inf, 0.1]).mean == pytest.approx(0.1)


def test_methods_with_different_cases_cannot_be_paired():
    with pytest.raises(DatasetError, match=r"\(2,\).*\(3,\).*same cases"):
        paired_difference([1, 2], [1, 2, 3])
