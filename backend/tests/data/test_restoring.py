"""From logits to labels on the native grid: as the slow obvious way, refused where it cannot fit."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from s3d.data.grid import Grid, Volume
from s3d.data.orientation import AxisOrder, reorient_grid
from s3d.data.preprocessing import Placement, PreprocessingPlan, preprocess_image
from s3d.data.restoring import restore_labels, restore_probabilities
from s3d.errors import GeometryError, LabelError

IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
ORDERS = st.builds(
    AxisOrder, st.permutations([0, 1, 2]).map(tuple), st.tuples(st.booleans(), st.booleans(), st.booleans())
)


def placement_of(order: AxisOrder = AxisOrder(), spacing_mm: tuple[float, float, float] = (1.4, 0.8, 1.1)) -> Placement:  # noqa: B008
    """Of a volume with a rim of zeros, stored in any axis order."""
    voxels = np.zeros((1, 9, 12, 11), np.float32)
    voxels[0, 1:8, 2:11, 1:9] = np.random.default_rng(0).normal(50, 5, size=(7, 9, 8))
    grid = Grid((9, 12, 11), spacing_mm, (1.0, 2.0, 3.0), IDENTITY)
    stored = Volume(np.ascontiguousarray(order.apply(voxels)), reorient_grid(grid, order))
    return preprocess_image(stored, PreprocessingPlan())[1]


def noise(classes: int, placement: Placement) -> torch.Tensor:
    return torch.randn(classes, *placement.working_shape, generator=torch.Generator().manual_seed(1))


def slowly(logits: torch.Tensor, placement: Placement) -> tuple[np.ndarray, np.ndarray]:
    """Classes and probabilities on the native grid, all at once, pasted and turned back."""
    resized = functional.interpolate(logits[None], placement.cropped_shape, mode="trilinear", align_corners=False)[0]
    (z0, z1), (y0, y1), (x0, x1) = placement.crop
    classes = np.zeros(placement.oriented_shape, np.int64)
    classes[z0:z1, y0:y1, x0:x1] = resized.argmax(dim=0).numpy()
    probabilities = np.zeros((len(logits), *placement.oriented_shape), np.float32)
    probabilities[0] = 1
    probabilities[:, z0:z1, y0:y1, x0:x1] = resized.softmax(dim=0).numpy()
    return placement.axis_order.undo(classes), placement.axis_order.undo(probabilities)


@settings(max_examples=20, deadline=None)
@given(ORDERS, st.integers(2, 5))
def test_labels_and_probabilities_equal_the_slow_way_in_any_axis_order(order: AxisOrder, classes: int) -> None:
    placement = placement_of(order)
    logits = noise(classes, placement)
    values = [0, 4, 300, 7, 70000][:classes]
    expected, probabilities = slowly(logits, placement)
    np.testing.assert_array_equal(restore_labels(logits, placement, values), np.array(values)[expected])
    np.testing.assert_allclose(restore_probabilities(logits, placement), probabilities, atol=1e-6)


def test_slices_far_apart_are_picked_not_mixed() -> None:
    placement = placement_of(spacing_mm=(5.0, 1.0, 1.0))
    logits = torch.full((2, *placement.working_shape), -1.0)
    for slice_number in range(7):  # each native slice became five
        logits[1, 5 * slice_number + 2] = 3.0 if slice_number % 2 else -3.0
    labels = restore_labels(logits, placement, (0, 1))[1:8, 2:11, 1:9]
    assert [bool(part.all()) for part in labels == 1] == [False, True] * 3 + [False]
    assert [bool(part.any()) for part in labels == 1] == [False, True] * 3 + [False]


@pytest.mark.parametrize(("values", "kind"), [((0, 255), np.uint8), ((0, 256), np.int32), ((0, -1), np.int32)])
def test_labels_come_in_the_small_type_where_they_fit(values: tuple[int, int], kind: type) -> None:
    placement = placement_of()
    labels = restore_labels(noise(2, placement), placement, values)
    assert labels.dtype == kind
    assert labels.flags.c_contiguous
    assert set(np.unique(labels)) == set(values)


def test_of_equal_logits_the_first_class_wins() -> None:
    placement = placement_of()
    assert not restore_labels(torch.zeros(3, *placement.working_shape), placement, (0, 1, 2)).any()


def test_the_logits_are_left_as_they_are() -> None:
    placement = placement_of(spacing_mm=(1.0, 1.0, 1.0))
    logits = noise(3, placement)
    before = logits.clone()
    restore_labels(logits, placement, (0, 1, 2))
    assert torch.equal(logits, before)


def test_what_does_not_fit_is_refused_with_both_numbers() -> None:
    placement = placement_of()
    with pytest.raises(LabelError, match="3 classes were computed, but 2 label values are given"):
        restore_labels(noise(3, placement), placement, (0, 1))
    for restore in (
        lambda logits: restore_labels(logits, placement, (0, 1)),
        lambda logits: restore_probabilities(logits, placement),
    ):
        with pytest.raises(GeometryError, match=r"Logits of \(2, 3, 4\) voxels do not fit the working grid of \("):
            restore(torch.zeros(2, 2, 3, 4))
