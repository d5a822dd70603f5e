"""Rules of preprocessing that one volume alone does not show: ties, limits, and what must stay untouched."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.spatial.transform import Rotation

from s3d.data.grid import Grid, Volume
from s3d.data.orientation import AxisOrder, axis_order_to_lps, reorient_grid
from s3d.data.preprocessing import PreprocessingPlan, preprocess_image, preprocess_labels, preprocess_mask
from s3d.data.resampling import axis_orders, resize
from s3d.errors import GeometryError, ImageError, LabelError

IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
GRID = Grid((8, 9, 10), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), IDENTITY)
PLAN = PreprocessingPlan()
ORDERS = st.builds(
    AxisOrder, st.permutations([0, 1, 2]).map(tuple), st.tuples(st.booleans(), st.booleans(), st.booleans())
)


def volume(grid: Grid = GRID) -> Volume:
    return Volume(np.random.default_rng(0).normal(80, 9, size=(1, *grid.shape)).astype(np.float32), grid)


@settings(max_examples=60, deadline=None)
@given(ORDERS, st.sampled_from(["x", "y", "z"]), st.sampled_from([45, 135, -45]), st.floats(-1e-6, 1e-6))
def test_a_head_turned_by_45_degrees_is_the_same_array_however_it_is_stored(
    order: AxisOrder, axis: str, degrees: float, noise: float
) -> None:
    """Two axes are equally near there; header rounding must not decide either."""
    turned = Rotation.from_euler(axis, degrees, degrees=True).as_matrix()
    head = volume(replace(GRID, direction=tuple(turned.flat)))
    stored_grid = reorient_grid(head.grid, order)
    stored_grid = replace(stored_grid, direction=tuple(value + noise for value in stored_grid.direction))
    stored = Volume(np.ascontiguousarray(order.apply(head.voxels)), stored_grid)
    np.testing.assert_array_equal(preprocess_image(stored, PLAN)[0], preprocess_image(head, PLAN)[0])


def test_already_turned_voxels_are_not_turned_again() -> None:
    tilted = replace(GRID, direction=tuple(Rotation.from_euler("xyz", (9, -12, 17), degrees=True).as_matrix().flat))
    assert axis_order_to_lps(tilted) == AxisOrder()


@pytest.mark.parametrize("plan", [PLAN, PreprocessingPlan(orientation="as_stored", spacing_mm=None)])
def test_the_volume_given_is_left_as_it_is(plan: PreprocessingPlan) -> None:
    head = volume()
    before = head.voxels.copy()
    image, _ = preprocess_image(head, plan)
    assert not np.shares_memory(image, head.voxels)
    np.testing.assert_array_equal(head.voxels, before)


def test_a_large_offset_does_not_spoil_the_zscore() -> None:
    voxels = np.random.default_rng(0).normal(0, 1, size=(1, 60, 60, 60)).astype(np.float32) + np.float32(10_000)
    image, _ = preprocess_image(Volume(voxels, replace(GRID, shape=(60, 60, 60))), PLAN)
    exact = (voxels.astype(np.float64) - voxels.astype(np.float64).mean()) / voxels.astype(np.float64).std()
    np.testing.assert_allclose(image, exact, atol=2e-3)
    assert float(image.mean(dtype=np.float64)) == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("value", [7.0, 0.1, -1e25])
def test_a_channel_of_one_value_within_the_box_is_refused(value: float) -> None:
    """Not constant as a file: zeros surround it."""
    voxels = np.zeros((2, *GRID.shape), np.float32)
    voxels[0, 2:6, 2:6, 2:6] = np.random.default_rng(0).normal(80, 9, size=(4, 4, 4))
    voxels[1, 2:6, 2:6, 2:6] = value
    with pytest.raises(ImageError, match=r"Channel 1 has the value .* everywhere .*Leave it out"):
        preprocess_image(Volume(voxels, GRID), PLAN)
    assert preprocess_image(Volume(voxels, GRID), replace(PLAN, normalization="none"))[0].any()


@pytest.mark.parametrize("factor", [1e-25, 1e25, 1e36])
def test_intensities_of_any_size_are_scaled_alike(factor: float) -> None:
    head = volume()
    scaled = Volume((head.voxels * factor).astype(np.float32), head.grid)
    np.testing.assert_allclose(preprocess_image(scaled, PLAN)[0], preprocess_image(head, PLAN)[0], atol=1e-4)


def test_intensities_too_far_apart_for_single_precision_are_refused() -> None:
    voxels = volume().voxels
    voxels[0], voxels[0, 4] = -3e38, 3e38
    with pytest.raises(ImageError, match=r"Channel 0 holds values from -3e\+38 to 3e\+38, too far apart"):
        preprocess_image(Volume(voxels, GRID), PLAN)


def test_a_spacing_in_another_unit_is_told_before_memory_is_asked_for() -> None:
    with pytest.raises(GeometryError, match=r"is 8000 x 9000 x 1e\+04 mm large by its header.*another unit"):
        preprocess_image(volume(replace(GRID, spacing_mm=(1000.0, 1000.0, 1000.0))), PLAN)


@pytest.mark.parametrize("value", [2**31 - 1, -(2**31), 100_000, -3])
def test_labels_of_any_value_of_32_bits_survive(value: int) -> None:
    _, placement = preprocess_image(volume(replace(GRID, spacing_mm=(1.3, 0.7, 1.1))), PLAN)
    labels = np.zeros(GRID.shape, np.int32)
    labels[2:6, 2:6, 2:6] = value
    assert np.unique(preprocess_labels(labels, placement)).tolist() == sorted([0, value])


@pytest.mark.parametrize("value", [2**31, -(2**31) - 1])
def test_labels_beyond_32_bits_are_refused_not_wrapped(value: int) -> None:
    _, placement = preprocess_image(volume(), PLAN)
    labels = np.zeros(GRID.shape, np.int64)
    labels[3, 3, 3] = value
    with pytest.raises(LabelError, match=f"{value}.*32 bits"):
        preprocess_labels(labels, placement)


def test_labels_and_masks_come_as_arrays_of_their_own() -> None:
    _, placement = preprocess_image(volume(), PLAN)
    labels = np.ones(GRID.shape, np.int32)
    stored = preprocess_labels(labels, placement)
    assert not np.shares_memory(stored, labels)
    assert (stored.dtype, preprocess_mask(labels, placement).dtype) == (np.int32, np.bool_)


def test_a_mask_may_mark_nothing_or_everything() -> None:
    _, placement = preprocess_image(volume(replace(GRID, spacing_mm=(1.3, 0.7, 1.1))), PLAN)
    assert not preprocess_mask(np.zeros(GRID.shape, bool), placement).any()
    assert preprocess_mask(np.ones(GRID.shape, bool), placement).all()


@pytest.mark.parametrize("spacing", [(0.24, 1.25, 1.25), (1.25, 0.24, 1.25), (1.25, 1.25, 0.24)])
def test_two_equally_coarse_axes_are_no_reason_to_pick_slices(spacing: tuple[float, float, float]) -> None:
    assert axis_orders(spacing, (1.0, 1.0, 1.0), 3) == (3, 3, 3)


def test_where_slices_are_picked_each_slice_keeps_its_own_range() -> None:
    stack = torch.zeros(1, 2, 8, 8)
    stack[0, 0, 4:], stack[0, 1, 4:] = 1, 100
    for number, highest in enumerate((1, 100)):
        slices = resize(stack, (4, 13, 13), (0, 3, 3))[0, 2 * number : 2 * number + 2]
        assert (float(slices.min()), float(slices.max())) == (0, highest)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 30), st.integers(1, 30))
def test_nearest_picks_as_scipy_does(old: int, new: int) -> None:
    line = np.arange(old, dtype=np.float64)
    expected = ndimage.zoom(line, new / old, order=0, mode="nearest", grid_mode=True) if old > 1 else np.zeros(new)
    found = resize(torch.from_numpy(line)[None, :, None, None], (new, 1, 1), (0, 0, 0)).flatten()
    np.testing.assert_array_equal(found, expected)
