"""There and back: a phantom of known shape in any grid comes back where it was."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from s3d.data.image_files import Grid, Volume, read_labels, read_volume, same_grid, write_labels, write_volume
from s3d.data.preprocessing import (
    PreprocessingPlan,
    nonzero_box,
    preprocess_image,
    preprocess_labels,
    preprocess_mask,
)
from s3d.data.restoring import restore_labels, restore_probabilities
from s3d.errors import GeometryError

PLAN = PreprocessingPlan()
IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)


def positions(grid: Grid) -> np.ndarray:
    """LPS position of every voxel, (z, y, x, 3)."""
    index = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), axis=-1)[..., ::-1]
    columns = np.reshape(grid.direction, (3, 3)) * np.asarray(grid.spacing_mm)[::-1]
    return np.asarray(index @ columns.T + np.asarray(grid.origin_mm))


def phantom(grid: Grid) -> np.ndarray:
    """An ellipsoid with a handle, given in millimetres about the grid's centre; no symmetry hides a flip. bool."""
    place = positions(grid)
    centre = place[tuple(size // 2 for size in grid.shape)]
    x, y, z = np.moveaxis(place - centre, -1, 0)
    body = (x / 9) ** 2 + (y / 12) ** 2 + (z / 10) ** 2 < 1
    handle = (x - 9) ** 2 + (y - 6) ** 2 + (z - 5) ** 2 < 25
    return np.asarray(body | handle)


def volume_of(grid: Grid) -> Volume:
    """Tissue of 100 with a rim of background, the phantom at 200."""
    voxels = np.where(phantom(grid), 200.0, 100.0).astype(np.float32)
    rim = np.zeros(grid.shape, dtype=bool)
    rim[1:-1, 1:-1, 1:-1] = True
    return Volume(np.where(rim, voxels, 0)[None].astype(np.float32), grid)


def segment(volume: Volume, plan: PreprocessingPlan = PLAN) -> np.ndarray:
    """A network that knows the phantom's brightness: logits on the working grid, then the way back."""
    image, placement = preprocess_image(volume, plan)
    middle = (image.max() + np.median(image)) / 2
    logits = torch.stack([torch.zeros(image.shape[1:]), torch.from_numpy(image[0] - middle)])
    return restore_labels(logits, placement, (0, 7))


def dice(first: np.ndarray, second: np.ndarray) -> float:
    return float(2 * (first & second).sum() / (first.sum() + second.sum()))


@st.composite
def grids(draw: st.DrawFn) -> Grid:
    """Oblique, flipped, anisotropic; large enough for the phantom."""
    spacing = draw(st.tuples(*[st.floats(0.8, 2.5)] * 3))
    permutation = draw(st.permutations([0, 1, 2]))
    signs = draw(st.tuples(*[st.sampled_from([1.0, -1.0])] * 3))
    degrees = draw(st.tuples(*[st.floats(-25, 25)] * 3))
    matrix = np.zeros((3, 3))
    matrix[permutation, range(3)] = signs
    direction = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix() @ matrix
    shape = tuple(int(np.ceil(44 / value)) for value in spacing)
    origin = draw(st.tuples(*[st.floats(-100, 100)] * 3))
    return Grid((shape[0], shape[1], shape[2]), spacing, origin, tuple(direction.flat))


@settings(max_examples=15, deadline=None)
@given(grids(), st.sampled_from([".nii.gz", ".nrrd"]))
def test_a_phantom_in_any_grid_comes_back_on_that_grid_through_files(
    tmp_path_factory: pytest.TempPathFactory, grid: Grid, ending: str
) -> None:
    folder = tmp_path_factory.mktemp("phantom")
    write_volume(folder / f"image{ending}", volume_of(grid))
    volume = read_volume(folder / f"image{ending}")
    write_labels(folder / f"labels{ending}", segment(volume), volume.grid)
    labels, back = read_labels(folder / f"labels{ending}")
    assert same_grid(back, grid)
    assert set(np.unique(labels)) == {0, 7}
    assert dice(labels == 7, phantom(grid)) > 0.95


def test_the_48_axis_orders_of_a_head_give_one_segmentation() -> None:
    reference: np.ndarray | None = None
    canonical = Grid((30, 34, 38), (1.5, 1.3, 1.1), (-20.0, -22.0, -21.0), IDENTITY)
    stored = volume_of(canonical)
    for permutation in itertools.permutations(range(3)):
        for flips in itertools.product((False, True), repeat=3):
            volume, undo = _stored_otherwise(stored, permutation, flips)
            labels = undo(segment(volume))
            reference = labels if reference is None else reference
            np.testing.assert_array_equal(labels, reference)
    assert reference is not None
    assert dice(reference == 7, phantom(canonical)) > 0.95


def _stored_otherwise(volume: Volume, permutation, flips):  # type: ignore[no-untyped-def]
    """The same voxels at the same places, counted along other axes; and the way back for an array."""
    from s3d.data.orientation import AxisOrder, reorient_grid

    order = AxisOrder(tuple(permutation), flips)  # type: ignore[arg-type]
    turned = Volume(np.ascontiguousarray(order.apply(volume.voxels)), reorient_grid(volume.grid, order))
    return turned, order.undo


def test_zscore_comes_before_resampling_and_over_the_cropped_box() -> None:
    random = np.random.default_rng(0)
    voxels = np.zeros((2, 20, 22, 24), np.float32)
    voxels[:, 3:15, 4:16, 5:17] = random.normal([[[[50]]], [[[900]]]], [[[[5]]], [[[80]]]], (2, 12, 12, 12))
    grid = Grid((20, 22, 24), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), IDENTITY)
    image, placement = preprocess_image(Volume(voxels, grid), PLAN)
    assert placement.crop == ((3, 15), (4, 16), (5, 17))
    np.testing.assert_allclose(image.mean(axis=(1, 2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(image.std(axis=(1, 2, 3)), 1, atol=1e-5)


def test_without_normalization_and_spacing_the_cropped_voxels_stay() -> None:
    volume = volume_of(Grid((40, 41, 42), (1.2, 1.1, 1.0), (0.0, 0.0, 0.0), IDENTITY))
    plan = PreprocessingPlan(orientation="as_stored", spacing_mm=None, normalization="none")
    image, placement = preprocess_image(volume, plan)
    np.testing.assert_array_equal(image, volume.voxels[:, 1:-1, 1:-1, 1:-1])
    assert placement.working_spacing_mm == (1.2, 1.1, 1.0)


def test_the_box_holds_everything_that_is_not_zero_in_any_channel() -> None:
    voxels = np.zeros((2, 5, 6, 7))
    voxels[0, 1, 2, 3], voxels[1, 4, 0, 5] = 1, -1
    assert nonzero_box(voxels) == ((1, 5), (0, 3), (3, 6))
    assert nonzero_box(np.zeros((1, 2, 3, 4))) == ((0, 2), (0, 3), (0, 4))


def test_labels_of_any_value_survive_the_way_there_and_back() -> None:
    grid = Grid((30, 30, 30), (1.6, 1.4, 1.5), (0.0, 0.0, 0.0), IDENTITY)
    labels = np.zeros(grid.shape, np.int32)
    labels[5:15, 5:15, 5:15], labels[15:25, 15:25, 15:25] = 300, 17
    volume = Volume((labels + 10).astype(np.float32)[None], grid)
    _, placement = preprocess_image(volume, PLAN)
    stored = preprocess_labels(labels, placement)
    assert stored.shape == placement.working_shape
    assert set(np.unique(stored)) == {0, 17, 300}
    values = (0, 17, 300)
    logits = torch.stack([torch.from_numpy(stored == value).float() for value in values])
    back = restore_labels(logits, placement, values)
    assert back.shape == grid.shape
    for value in values[1:]:
        assert dice(back == value, labels == value) > 0.95


def test_masks_and_labels_on_another_grid_are_refused() -> None:
    _, placement = preprocess_image(volume_of(Grid((40, 41, 42), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), IDENTITY)), PLAN)
    with pytest.raises(GeometryError, match="do not fit their image"):
        preprocess_labels(np.zeros((4, 5, 6), np.int32), placement)
    with pytest.raises(GeometryError, match="do not fit their image"):
        preprocess_mask(np.zeros((4, 5, 6), bool), placement)


def test_a_mask_follows_its_image() -> None:
    grid = Grid((40, 41, 42), (1.2, 1.1, 1.0), (0.0, 0.0, 0.0), IDENTITY)
    image, placement = preprocess_image(volume_of(grid), PLAN)
    mask = preprocess_mask(phantom(grid), placement)
    assert dice(mask, image[0] > (image.max() + np.median(image)) / 2) > 0.95


def test_probabilities_lie_on_the_native_grid_and_sum_to_one() -> None:
    grid = Grid((40, 41, 42), (1.2, 1.1, 1.0), (0.0, 0.0, 0.0), IDENTITY)
    image, placement = preprocess_image(volume_of(grid), PLAN)
    logits = torch.randn(3, *image.shape[1:], generator=torch.Generator().manual_seed(0))
    probabilities = restore_probabilities(logits, placement)
    assert probabilities.shape == (3, *grid.shape)
    np.testing.assert_allclose(probabilities.sum(axis=0), 1, atol=1e-5)
    assert (probabilities[0, 0] == 1).all()
    np.testing.assert_array_equal(probabilities.argmax(axis=0), restore_labels(logits, placement, (0, 1, 2)))


def test_a_real_head_comes_back_on_its_grid(test_data: Path) -> None:
    folder = test_data / "isles22_case0009/rawdata/sub-strokecase0009/ses-0001"
    volume = read_volume(folder / "sub-strokecase0009_ses-0001_dwi.nii.gz")
    image, placement = preprocess_image(volume, PLAN)
    logits = torch.stack([torch.zeros(image.shape[1:]), torch.from_numpy(image[0])])
    labels = restore_labels(logits, placement, (0, 1))
    bright = volume.voxels[0] > volume.voxels[0][volume.voxels[0] != 0].mean()
    assert labels.shape == volume.grid.shape
    assert dice(labels == 1, bright) > 0.7
