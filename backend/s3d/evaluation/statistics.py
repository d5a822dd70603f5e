"""How far an average over cases can be trusted.

The intervals answer one question: how much would this mean move if *other cases* of the same kind had been scored? They
ignore the noise of training: two runs that differ in nothing but the seed can have a paired difference whose interval
excludes 0 (measured: evidence.md). A claim that one way of training is better needs several runs and an interval over
runs.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from s3d.errors import DatasetError

_CONFIDENCE = 0.95
_SAMPLES_AT_ONCE = 1000  # bounds the memory: this many times the number of cases


class Interval(NamedTuple):
    """A mean over cases with its 95 % bootstrap interval."""

    mean: float
    """NaN if there is nothing to average."""
    low: float
    """Lower end; NaN for fewer than two cases."""
    high: float
    """Upper end; NaN for fewer than two cases."""
    cases: int
    """Cases with at least one value."""


def bootstrap_interval(values: ArrayLike, samples: int = 10_000, seed: int = 0) -> Interval:
    """Percentile interval of the mean, from `samples` draws of cases with replacement.

    values: one number per case, or (case, label), whose mean is the mean of the label means (method.md section 9). NaN
    and infinite entries are left out. With few cases (under about 20) the interval is somewhat too narrow.
    """
    table = np.asarray(values, dtype=np.float64)
    table = table[:, None] if table.ndim == 1 else table
    table = table[np.isfinite(table).any(axis=1)]
    cases = len(table)
    mean = float(_means(np.ones((1, cases)), table)[0]) if cases else float("nan")
    if cases < 2:
        return Interval(mean, float("nan"), float("nan"), cases)
    generator = np.random.default_rng(seed)
    drawn: list[np.ndarray] = []
    for start in range(0, samples, _SAMPLES_AT_ONCE):
        count = min(_SAMPLES_AT_ONCE, samples - start)
        times_drawn = generator.multinomial(cases, np.full(cases, 1 / cases), size=count)
        drawn.append(_means(times_drawn.astype(np.float64), table))
    tail = (1 - _CONFIDENCE) / 2
    low, high = np.quantile(np.concatenate(drawn), (tail, 1 - tail))
    return Interval(mean, float(low), float(high), cases)


def paired_difference(first: ArrayLike, second: ArrayLike, samples: int = 10_000, seed: int = 0) -> Interval:
    """Mean of first - second over the same cases, with its interval; above 0 means first is larger.

    first, second: as values of bootstrap_interval, the same cases in the same order; an entry that is not finite in one
    is left out of both. Raises DatasetError if the two do not pair up.
    """
    one, other = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if one.shape != other.shape:
        raise DatasetError(
            f"Scores of shape {one.shape} cannot be paired with scores of shape {other.shape}; "
            "score the same cases and labels with both."
        )
    usable = np.isfinite(one) & np.isfinite(other)
    difference = np.subtract(one, other, out=np.full(one.shape, np.nan), where=usable)
    return bootstrap_interval(difference, samples, seed)


def _means(times_drawn: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Mean of label means for each row of times_drawn (sample, case); a label no drawn case has is left out."""
    present = np.isfinite(table)
    sums = times_drawn @ np.where(present, table, 0)
    counts = times_drawn @ present
    has_label = counts > 0
    label_means = np.divide(sums, counts, out=np.zeros_like(sums), where=has_label)
    result: np.ndarray = label_means.sum(axis=1) / has_label.sum(axis=1)
    return result
