"""Rotation, scaling and mirroring: laws, and scipy as the slow obvious version."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates
from torch import Tensor

from s3d.data.array_files import Box
from s3d.data.augmentation import SpatialParameters
from s3d.data.spatial_augmentation import Window, apply_spatial, window_box

PATCH = (12, 14, 10)
CUBE = (11, 11, 11)


def cut(volume: Tensor, box: Box) -> Tensor:
    """The box of a volume (..., z, y, x), zeros outside: what a store reads."""
    size = volume.shape[-3:]
    out = volume.new_zeros(*volume.shape[:-3], *(high - low for low, high in box))
    inside = [(max(low, 0), min(high, n)) for (low, high), n in zip(box, size, strict=True)]
    target = tuple(slice(low - start, high - start) for (low, high), (start, _) in zip(inside, box, strict=True))
    out[(..., *target)] = volume[(..., *(slice(low, high) for low, high in inside))]
    return out


def transformed(
    volume: Window, start: tuple[int, int, int], patch: tuple[int, int, int], p: SpatialParameters
) -> Window:
    box = window_box(start, patch, volume.image.shape[1:], p)
    return apply_spatial(volume.map(lambda voxels: cut(voxels, box)), box, start, patch, p)


def source_coordinates(start: tuple[int, int, int], patch: tuple[int, int, int], p: SpatialParameters) -> np.ndarray:
    """Volume coordinates (3, Z, Y, X) of each patch voxel, written out plainly, before mirroring."""
    half = (np.array(patch) - 1) / 2
    offsets = np.stack(np.meshgrid(*(np.arange(n) for n in patch), indexing="ij")) - half[:, None, None, None]
    return np.einsum("ij,jzyx->izyx", p.matrix, offsets) + (np.array(start) + half)[:, None, None, None]


def noise(*shape: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(4).standard_normal(shape, dtype=np.float32))


@st.composite
def any_parameters(draw: st.DrawFn, interpolation: str = "linear") -> SpatialParameters:
    angle, factor = st.floats(-math.pi / 6, math.pi / 6), st.floats(0.7, 1.4)
    return SpatialParameters(
        rotation_rad=(draw(angle), draw(angle), draw(angle)),
        scale=(draw(factor), draw(factor), draw(factor)),
        mirror_axes=tuple(draw(st.sets(st.integers(0, 2)))),
        interpolation=interpolation,
    )


def test_identity_leaves_voxels_bit_equal_and_shares_their_memory():
    volume = noise(2, 30, 31, 32)
    patch = transformed(Window(volume), (5, 6, 7), PATCH, SpatialParameters())
    assert torch.equal(patch.image, volume[:, 5:17, 6:20, 7:17])


@pytest.mark.parametrize("axes", [(0,), (1,), (2,), (0, 2), (0, 1, 2)])
def test_mirroring_turns_round_exactly_the_named_axes_of_image_labels_and_mask(axes):
    volume = Window(noise(1, 20, 20, 20), torch.arange(8000, dtype=torch.int32).view(20, 20, 20), noise(20, 20, 20) > 0)
    plain = transformed(volume, (3, 3, 3), PATCH, SpatialParameters())
    mirrored = transformed(volume, (3, 3, 3), PATCH, SpatialParameters(mirror_axes=axes))
    back = mirrored.map(lambda voxels: voxels.flip([axis - 3 for axis in axes]))
    assert not torch.equal(mirrored.image, plain.image)
    for name in ("image", "labels", "counted"):
        assert torch.equal(getattr(back, name), getattr(plain, name))


@pytest.mark.parametrize("interpolation", ["linear", "cubic"])
@pytest.mark.parametrize(("axis", "plane"), [(0, (-2, -1)), (1, (-1, -3)), (2, (-3, -2))])
def test_a_quarter_turn_equals_rot90(axis, plane, interpolation):
    angles = tuple(math.pi / 2 if index == axis else 0.0 for index in range(3))
    volume = noise(1, 40, 40, 40)
    labels = torch.from_numpy(np.random.default_rng(1).integers(0, 5, (40, 40, 40)).astype(np.int32))
    parameters = SpatialParameters(rotation_rad=angles, interpolation=interpolation)
    patch = transformed(Window(volume, labels), (15, 14, 13), CUBE, parameters)
    plain = transformed(Window(volume, labels), (15, 14, 13), CUBE, SpatialParameters())
    tolerance = 2e-3 if interpolation == "cubic" else 1e-4
    torch.testing.assert_close(patch.image, torch.rot90(plain.image, -1, plane), atol=tolerance, rtol=0)
    assert torch.equal(patch.labels, torch.rot90(plain.labels, -1, plane))


@pytest.mark.parametrize("interpolation", ["linear", "cubic"])
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_images_equal_scipys_interpolation_of_the_volume_surrounded_by_zeros(interpolation, data):
    parameters = data.draw(any_parameters(interpolation))
    start = tuple(data.draw(st.integers(-6, 12)) for _ in range(3))
    volume = noise(1, 21, 19, 17)
    border = 24
    surrounded = np.pad(volume[0].numpy().astype(np.float64), border)
    order = {"linear": 1, "cubic": 3}[interpolation]
    expected = map_coordinates(surrounded, source_coordinates(start, PATCH, parameters) + border, order=order)
    expected = np.flip(expected, parameters.mirror_axes)
    patch = transformed(Window(volume), start, PATCH, parameters)
    tolerance = 5e-3 if interpolation == "cubic" else 1e-4  # six voxels of margin for the spline
    np.testing.assert_allclose(patch.image[0].numpy(), expected, atol=tolerance)


@settings(max_examples=15, deadline=None)
@given(parameters=any_parameters())
def test_labels_equal_the_largest_interpolated_share(parameters):
    values = np.array([0, 3, -7, 255, 9])
    labels = values[np.random.default_rng(2).integers(0, 5, (8, 8, 8))].repeat(3, 0).repeat(3, 1).repeat(3, 2)
    start = (5, 6, 7)
    points = source_coordinates(start, PATCH, parameters)
    order = [0, -7, 3, 9, 255]  # background wins a tie, then the smaller value
    one_hot = [(labels == value).astype(np.float64) for value in order]
    shares = np.stack([map_coordinates(mask, points, order=1, mode="grid-constant") for mask in one_hot])
    shares[0] = 1 - shares[1:].sum(0)
    expected = np.flip(np.array(order)[shares.argmax(0)], parameters.mirror_axes)
    window = Window(torch.zeros(1, 24, 24, 24), torch.from_numpy(labels.astype(np.int32)))
    found = transformed(window, start, PATCH, parameters).labels.numpy()
    second, first = np.sort(np.flip(shares, [axis + 1 for axis in parameters.mirror_axes]), axis=0)[-2:]
    clear = first - second > 1e-4
    assert clear.mean() > 0.9
    np.testing.assert_array_equal(found[clear], expected[clear])


def test_more_labels_than_are_sampled_at_once_and_the_ignore_value_survive():
    labels = torch.zeros(40, 40, 40, dtype=torch.int32)
    for index in range(20):
        labels[2 * index : 2 * index + 2] = -1 if index == 10 else index + 1
    parameters = SpatialParameters(scale=(1.0, 1.3, 1.3))
    found = transformed(Window(torch.zeros(1, 40, 40, 40), labels), (0, 15, 15), (40, 10, 10), parameters).labels
    assert torch.equal(found, labels[:, 15:25, 15:25])


def test_between_two_labels_background_wins_and_then_the_smaller_value():
    labels = torch.zeros(4, 4, 8, dtype=torch.int32)  # 8 voxels: all coordinates are exact in binary
    labels[:, 0] = torch.arange(1, 9)  # more values than are sampled at once
    labels[:, 1] = torch.tensor([0, 3, 3, 0, 0, 12, 12, 3])
    parameters = SpatialParameters(scale=(1.0, 1.0, 2.0))
    found = transformed(Window(torch.zeros(1, 4, 4, 8), labels), (0, 0, 2), (4, 4, 4), parameters).labels
    assert found[1, 1].tolist() == [0, 0, 0, 3]


def test_scale_above_one_zooms_out():
    volume = torch.zeros(1, 60, 60, 60)
    volume[:, 20:40, 20:40, 20:40] = 1
    sizes = {}
    for factor in (0.8, 1.0, 1.25):
        patch = transformed(Window(volume), (15, 15, 15), (30, 30, 30), SpatialParameters(scale=(factor,) * 3))
        sizes[factor] = float(patch.image.sum()) ** (1 / 3)
    assert sizes[0.8] == pytest.approx(25, abs=0.3)
    assert sizes[1.25] == pytest.approx(16, abs=0.3)


@settings(max_examples=25, deadline=None)
@given(parameters=any_parameters(), centre=st.tuples(*[st.integers(18, 30)] * 3))
def test_a_labelled_ball_stays_on_its_label_under_any_transform(parameters, centre):
    distance = np.linalg.norm(np.indices((48, 48, 48)) - np.reshape(centre, (3, 1, 1, 1)), axis=0)
    ball = torch.from_numpy(distance < 8)
    volume = Window(torch.stack([ball, torch.ones_like(ball)]).float(), ball.to(torch.int32) * 4, ~ball)
    patch = transformed(volume, (8, 8, 8), (32, 32, 32), parameters)
    share, inside = patch.image[0], patch.image[1] > 0.999
    clear = inside & ((share - 0.5).abs() > 1e-3)
    assert torch.equal((patch.labels == 4)[clear], (share > 0.5)[clear])
    assert torch.equal(patch.counted[clear], (share < 0.5)[clear])
    assert (patch.labels == 4).any()


def test_outside_the_volume_is_zero_background_and_not_counted():
    ones = torch.ones(10, 10, 10)
    volume = Window(ones[None], ones.to(torch.int32) * 2, ones.bool())
    patch = transformed(volume, (-7, -7, -7), (24, 24, 24), SpatialParameters(rotation_rad=(0.3, 0.2, 0.1)))
    corner = (slice(0, 4),) * 3
    assert not patch.image[0][corner].any()
    assert not patch.labels[corner].any()
    assert not patch.counted[corner].any()
    assert patch.image[0, 12, 12, 12] == pytest.approx(1, abs=1e-5)
    assert patch.labels[12, 12, 12] == 2


@settings(max_examples=50, deadline=None)
@given(parameters=any_parameters(), start=st.tuples(*[st.integers(-20, 40)] * 3))
def test_the_window_holds_every_voxel_of_the_volume_that_is_needed_and_is_no_larger_than_needed(parameters, start):
    shape = (50, 45, 40)
    box = window_box(start, PATCH, shape, parameters)
    points = source_coordinates(start, PATCH, parameters)
    for axis, (low, high) in enumerate(box):
        lowest, highest = np.floor(points[axis].min()), np.ceil(points[axis].max())
        assert low <= max(lowest, 0) or high <= low
        assert high - 1 >= min(highest, shape[axis] - 1)
        assert low >= min(lowest, shape[axis]) - 1e-6
        assert high - 1 <= max(highest, -1) + 1e-6


def test_an_untransformed_sample_asks_for_exactly_its_patch():
    assert window_box((1, -2, 3), PATCH, (9, 9, 9), SpatialParameters()) == ((1, 13), (-2, 12), (3, 13))


def test_a_volume_of_one_slice_can_be_transformed():
    parameters = SpatialParameters(rotation_rad=(0.3, 0.0, 0.0), interpolation="cubic")
    patch = transformed(Window(torch.ones(1, 1, 40, 40)), (-1, 10, 10), (4, 16, 16), parameters)
    assert patch.image[0, 1].mean() == pytest.approx(1, abs=0.01)
    assert not torch.isnan(patch.image).any()


@pytest.mark.parametrize("values", [(-7, 3, 1035), (-(2**31), 5, 2**31 - 1)])
def test_labels_of_any_value_of_32_bits_survive_a_rotation(values):
    labels = torch.zeros(24, 24, 24, dtype=torch.int32)
    for number, value in enumerate(values):
        labels[4:20, 4:20, 6 * number : 6 * number + 5] = value
    window, parameters = Window(torch.zeros(1, 24, 24, 24), labels), SpatialParameters(rotation_rad=(0.1, 0.2, 0.1))
    found = transformed(window, (0, 0, 0), (24, 24, 24), parameters).labels
    assert found.dtype == torch.int32
    assert found.unique().tolist() == sorted([0, *values])
