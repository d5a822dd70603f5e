"""Matrix resizing against the libraries the official pipeline uses."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from s3d.data.resampling import axis_orders, resampled_shape, resize

sizes = st.tuples(*[st.integers(2, 12)] * 3)


def noise(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape)


@settings(max_examples=30, deadline=None)
@given(sizes, sizes)
def test_cubic_equals_scipy_zoom_with_clipping(old: tuple[int, int, int], new: tuple[int, int, int]) -> None:
    volume = noise(old)
    factors = [b / a for a, b in zip(old, new, strict=True)]
    expected = ndimage.zoom(volume, factors, order=3, mode="nearest", grid_mode=True)
    found = resize(torch.from_numpy(volume)[None], new, (3, 3, 3))[0].numpy()
    np.testing.assert_allclose(found, np.clip(expected, volume.min(), volume.max()), atol=1e-10)


@settings(max_examples=30, deadline=None)
@given(sizes, sizes)
def test_linear_equals_torch_interpolation(old: tuple[int, int, int], new: tuple[int, int, int]) -> None:
    volume = torch.from_numpy(noise((2, *old)))
    expected = torch.nn.functional.interpolate(volume[None], new, mode="trilinear", align_corners=False)[0]
    torch.testing.assert_close(resize(volume, new, (1, 1, 1)), expected, rtol=0, atol=1e-10)


def test_nearest_repeats_slices_and_invents_no_value() -> None:
    volume = torch.arange(4.0).reshape(1, 4, 1, 1)
    assert resize(volume, (8, 1, 1), (0, 3, 3)).flatten().tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


def test_the_same_shape_is_left_untouched() -> None:
    volume = torch.from_numpy(noise((1, 3, 4, 5)))
    assert resize(volume, (3, 4, 5), (3, 3, 3)) is volume


@pytest.mark.parametrize(
    ("spacing", "new", "expected"),
    [
        ((1.0, 1.0, 1.0), (1.0, 1.0, 1.0), (3, 3, 3)),
        ((6.5, 0.9, 0.9), (1.0, 1.0, 1.0), (0, 3, 3)),
        ((0.9, 0.9, 6.5), (1.0, 1.0, 1.0), (3, 3, 0)),
        ((1.0, 1.0, 1.0), (1.0, 4.0, 1.0), (3, 0, 3)),
        ((3.0, 1.0, 1.0), (1.0, 1.0, 1.0), (3, 3, 3)),
    ],
)
def test_a_strongly_anisotropic_axis_is_resized_by_nearest_neighbour(
    spacing: tuple[float, ...], new: tuple[float, ...], expected: tuple[int, ...]
) -> None:
    assert axis_orders(spacing, new, 3) == expected


def test_the_new_shape_follows_the_spacing_and_never_vanishes() -> None:
    assert resampled_shape((20, 256, 256), (6.5, 0.9, 0.9), (1.0, 1.0, 1.0)) == (130, 230, 230)
    assert resampled_shape((1, 10, 10), (0.2, 1.0, 1.0), (1.0, 1.0, 1.0)) == (1, 10, 10)
