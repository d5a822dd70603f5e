"""Label maps on another grid: as the slow obvious way, whatever the values."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from s3d.data.label_resampling import resize_labels
from s3d.data.resampling import Triple, resize

SIZES = st.tuples(*[st.integers(2, 14)] * 3)
ORDERS = st.sampled_from([(1, 1, 1), (0, 1, 1), (1, 1, 0)])


def slowly(labels: np.ndarray, shape: Triple, orders: Triple) -> tuple[np.ndarray, np.ndarray]:
    """Every label's share over the whole volume, the largest wins; and where the winner leads clearly."""
    values = np.unique(np.append(labels, 0))
    shares = np.stack(
        [resize(torch.from_numpy((labels == value)[None].astype(np.float64)), shape, orders)[0] for value in values]
    )
    ordered = np.sort(shares, axis=0)
    lead = ordered[-1] - ordered[-2] if len(values) > 1 else np.ones(shape)
    return values[shares.argmax(axis=0)], lead > 1e-5


@settings(max_examples=60, deadline=None)
@given(SIZES, SIZES, ORDERS, st.integers(0, 2**32 - 1))
def test_the_largest_share_wins_as_computed_slowly(old: Triple, new: Triple, orders: Triple, seed: int) -> None:
    random = np.random.default_rng(seed)
    labels = random.choice(np.array([0, 0, 0, -(2**31), -7, 3, 700, 2**31 - 1], np.int32), size=old)
    expected, clear = slowly(labels, new, orders)
    found = resize_labels(labels, new, orders)
    assert (found.shape, found.dtype) == (new, labels.dtype)
    np.testing.assert_array_equal(found[clear], expected[clear])
    assert set(np.unique(found)) <= set(np.unique(labels)) | {0}


def test_of_equal_shares_the_larger_label_wins_and_background_loses() -> None:
    line = np.array([5, 9, 0, 5, 9, 0], np.int32).reshape(1, 1, 6)
    assert resize_labels(line, (1, 1, 3), (1, 1, 1)).ravel().tolist() == [9, 5, 9]


@pytest.mark.parametrize("value", [0, 4, -3])
def test_a_volume_of_one_label_stays_of_one_label(value: int) -> None:
    labels = np.full((5, 6, 7), value, np.int32)
    assert (resize_labels(labels, (7, 3, 11), (1, 1, 1)) == value).all()


def test_the_same_shape_leaves_the_labels_as_they_are() -> None:
    labels = np.random.default_rng(0).integers(-5, 5, size=(3, 4, 5)).astype(np.int32)
    np.testing.assert_array_equal(resize_labels(labels, (3, 4, 5), (1, 1, 1)), labels)


def test_a_ball_keeps_its_volume() -> None:
    place = np.stack(np.meshgrid(*[np.arange(30) - 14.5] * 3, indexing="ij"))
    ball = ((place**2).sum(axis=0) < 11**2).astype(np.int32) * 300
    larger = resize_labels(ball, (45, 45, 45), (1, 1, 1))
    assert (larger == 300).sum() / 1.5**3 == pytest.approx((ball == 300).sum(), rel=0.01)
