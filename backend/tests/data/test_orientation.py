"""Axis orders: undone exactly, and true to where voxels lie."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from s3d.data.image_files import Grid
from s3d.data.orientation import AxisOrder, axis_order_to_lps, reorient_grid

orders = st.builds(
    AxisOrder,
    st.permutations([0, 1, 2]).map(tuple),
    st.tuples(st.booleans(), st.booleans(), st.booleans()),
)


def positions(grid: Grid) -> np.ndarray:
    """LPS position of every voxel, (z, y, x, 3): origin + direction * spacing * index."""
    index = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), axis=-1)[..., ::-1]
    columns = np.reshape(grid.direction, (3, 3)) * np.asarray(grid.spacing_mm)[::-1]
    return np.asarray(index @ columns.T + np.asarray(grid.origin_mm))


def all_48_directions() -> list[tuple[float, ...]]:
    """Direction matrices of the 48 ways to store the same head."""
    found = []
    for permutation in itertools.permutations(range(3)):
        for signs in itertools.product((1.0, -1.0), repeat=3):
            matrix = np.zeros((3, 3))
            matrix[list(permutation), range(3)] = signs
            found.append(tuple(matrix.flat))
    return found


@given(orders)
def test_undo_is_the_inverse_of_apply(order: AxisOrder) -> None:
    array = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    np.testing.assert_array_equal(order.undo(order.apply(array)), array)
    np.testing.assert_array_equal(order.apply(order.undo(array)), array)


@given(orders)
def test_tensors_turn_as_arrays_do(order: AxisOrder) -> None:
    array = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    np.testing.assert_array_equal(order.apply(torch.from_numpy(array)).numpy(), order.apply(array))
    np.testing.assert_array_equal(order.undo(torch.from_numpy(array)).numpy(), order.undo(array))


@pytest.mark.parametrize("direction", all_48_directions())
def test_every_storage_order_turns_to_identity_with_each_voxel_at_its_place(direction: tuple[float, ...]) -> None:
    grid = Grid((3, 4, 5), (3.0, 2.0, 1.0), (7.0, -8.0, 9.0), direction)
    order = axis_order_to_lps(grid)
    turned = reorient_grid(grid, order)
    np.testing.assert_array_equal(np.reshape(turned.direction, (3, 3)), np.eye(3))
    expected = np.moveaxis(order.apply(np.moveaxis(positions(grid), -1, 0)), 0, -1)
    np.testing.assert_allclose(positions(turned), expected, atol=1e-9)


@given(st.integers(0, 47), st.lists(st.floats(-20, 20), min_size=3, max_size=3))
def test_oblique_grids_keep_each_voxel_at_its_place_and_come_near_to_lps(number: int, degrees: list[float]) -> None:
    tilt = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()
    direction = tilt @ np.reshape(all_48_directions()[number], (3, 3))
    grid = Grid((3, 4, 5), (3.0, 2.0, 1.0), (7.0, -8.0, 9.0), tuple(direction.flat))
    order = axis_order_to_lps(grid)
    turned = reorient_grid(grid, order)
    assert (np.diag(np.reshape(turned.direction, (3, 3))) > 0.5).all()
    expected = np.moveaxis(order.apply(np.moveaxis(positions(grid), -1, 0)), 0, -1)
    np.testing.assert_allclose(positions(turned), expected, atol=1e-9)
