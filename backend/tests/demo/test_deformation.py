"""Laws of the random deformations: they never fold, can be undone, and move no point farther than they say."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s3d.demo.deformation import (
    DeformationOptions,
    displaced,
    draw_deformation,
    flow,
    jacobian_determinant,
    random_velocity,
)
from s3d.errors import ConfigError

SIZE_MM = (120.0, 150.0, 108.0)
SPACING_MM = 3.0
POINTS_MM = np.indices((41, 51, 37), dtype=np.float32) * np.float32(SPACING_MM)
INSIDE = (slice(None), *[slice(5, -5)] * 3)
seeds = st.integers(0, 2**32 - 1)


@given(seeds)
@settings(max_examples=15, deadline=None)
def test_the_largest_allowed_deformation_never_folds(seed: int) -> None:
    largest = DeformationOptions(displacement_mm=(10, 10))
    mapped = draw_deformation(POINTS_MM, SIZE_MM, largest, np.random.default_rng(seed))
    assert jacobian_determinant(mapped, SPACING_MM).min() > 0.2


def test_the_jacobian_tells_a_fold() -> None:
    mirrored = POINTS_MM * np.array([-1, 1, 1], np.float32).reshape(3, 1, 1, 1)
    assert jacobian_determinant(mirrored, SPACING_MM).max() == pytest.approx(-1)


@given(seeds)
@settings(max_examples=5, deadline=None)
def test_the_flow_backwards_undoes_the_flow(seed: int) -> None:
    velocity = random_velocity(SIZE_MM, 8.0, np.random.default_rng(seed))
    there = displaced(POINTS_MM, flow(velocity))
    back = displaced(there, flow(-velocity))
    moved = np.linalg.norm(there - POINTS_MM, axis=0)
    wrong = np.linalg.norm(back - POINTS_MM, axis=0)[INSIDE[1:]]
    assert moved.max() > 4.0
    assert wrong.max() < 0.5
    assert wrong.mean() < 0.03 * moved.mean()


@given(seeds, st.floats(1, 12))
@settings(max_examples=10, deadline=None)
def test_no_point_moves_farther_than_asked_and_some_nearly_as_far(seed: int, largest_mm: float) -> None:
    velocity = random_velocity(SIZE_MM, largest_mm, np.random.default_rng(seed))
    moved = np.linalg.norm(flow(velocity), axis=0).max()
    assert 0.5 * largest_mm < moved <= largest_mm * 1.001


def test_no_displacement_turn_or_scaling_leaves_every_point_where_it_is() -> None:
    still = DeformationOptions(displacement_mm=(0, 0), rotation_degrees=0, scaling=0)
    mapped = draw_deformation(POINTS_MM, SIZE_MM, still, np.random.default_rng(0))
    np.testing.assert_allclose(mapped, POINTS_MM, atol=1e-4)


@pytest.mark.parametrize("wrong", [{"displacement_mm": (8, 5)}, {"displacement_mm": (0, 40)}, {"scaling": 0.5}])
def test_deformations_that_could_fold_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=r"displacement_mm|scaling"):
        DeformationOptions(**wrong)
