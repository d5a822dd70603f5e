"""Intensity transforms: laws of each, scipy as oracle for the blur, neutral parameters change nothing."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from s3d.data.augmentation import ChannelParameters, IntensityParameters
from s3d.data.intensity_augmentation import apply_intensity, bend, blur, change_contrast, lower_resolution


@pytest.fixture
def volume() -> Tensor:
    return torch.from_numpy(np.random.default_rng(0).standard_normal((14, 15, 16), dtype=np.float32))


@pytest.fixture
def image(volume) -> Tensor:
    return torch.stack([volume, volume.flip(0) * 2])


def parameters(*channels: ChannelParameters, **noise: float) -> IntensityParameters:
    return IntensityParameters(channels=channels, **noise)


def test_neutral_parameters_leave_voxels_bit_equal(image):
    assert torch.equal(apply_intensity(image, parameters(ChannelParameters(), ChannelParameters())), image)


def test_only_the_channel_whose_parameters_say_so_changes_and_the_input_stays(image):
    before = image.clone()
    changed = apply_intensity(image, parameters(ChannelParameters(), ChannelParameters(brightness=1.2)))
    assert torch.equal(changed[0], image[0])
    assert torch.equal(changed[1], image[1] * 1.2)
    assert torch.equal(image, before)


def test_noise_has_the_stated_deviation_is_shared_by_channels_and_repeats_with_its_seed(image):
    plain = ChannelParameters()
    first, again, other = (
        apply_intensity(image, parameters(plain, plain, noise_deviation=0.1, noise_seed=seed)) for seed in (7, 7, 8)
    )
    added = first - image
    assert float(added.std()) == pytest.approx(0.1, rel=0.05)
    torch.testing.assert_close(added[0], added[1])
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_noise_does_not_touch_the_global_generator(image):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    apply_intensity(image, parameters(ChannelParameters(), ChannelParameters(), noise_deviation=0.1))
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("sigma", [(0.5, 0.7, 1.0), (0.0, 0.9, 0.0)])
def test_blur_equals_scipys_gaussian_filter(volume, sigma):
    expected = gaussian_filter(volume.numpy(), sigma, mode="nearest", radius=[int(np.ceil(3 * s)) for s in sigma])
    np.testing.assert_allclose(blur(volume, sigma).numpy(), expected, atol=1e-6)


def test_blur_works_on_volumes_thinner_than_its_kernel():
    constant = torch.full((1, 2, 3), 4.0)
    torch.testing.assert_close(blur(constant, (1.0, 1.0, 1.0)), constant)


def test_contrast_scales_distances_from_the_mean_within_the_old_range(volume):
    more = change_contrast(volume, 1.25)
    assert more.max() == volume.max()
    assert more.min() == volume.min()
    torch.testing.assert_close(
        change_contrast(volume, 0.75), (volume - volume.mean()) * 0.75 + volume.mean(), atol=1e-6, rtol=0
    )


def test_low_resolution_keeps_planes_and_takes_fine_detail_away():
    ramp = torch.arange(32.0).view(-1, 1, 1).expand(32, 8, 8)
    torch.testing.assert_close(lower_resolution(ramp, 0.5)[4:-4], ramp[4:-4], atol=0.51, rtol=0)
    checkers = torch.tensor([1.0, -1.0]).repeat(16).view(-1, 1, 1).expand(32, 8, 8)
    assert (lower_resolution(checkers, 0.6) - checkers).abs().mean() > 0.3
    assert lower_resolution(torch.rand(1, 1, 2), 0.5).shape == (1, 1, 2)


@pytest.mark.parametrize("exponent", [0.7, 1.5])
def test_gamma_keeps_order_mean_and_deviation(volume, exponent):
    bent = bend(volume, exponent)
    torch.testing.assert_close(bent.mean(), volume.mean(), atol=1e-5, rtol=0)
    torch.testing.assert_close(bent.std(), volume.std(), atol=1e-5, rtol=0)
    assert torch.equal(bent.flatten().argsort(), volume.flatten().argsort())
    assert (bent - volume).abs().max() > 0.05


def test_gamma_follows_the_power_law(volume):
    relative = (volume.double() - volume.min()) / (volume.max() - volume.min())
    powered = relative**1.5
    expected = (powered - powered.mean()) / powered.std() * volume.std() + volume.mean()
    torch.testing.assert_close(bend(volume, 1.5).double(), expected, atol=1e-4, rtol=0)


def test_inverted_gamma_is_gamma_of_the_negative(image):
    plain = ChannelParameters()
    changed = apply_intensity(image, parameters(ChannelParameters(inverted_gamma=1.4), plain))
    assert torch.equal(changed[0], -bend(-image[0], 1.4))
    assert not torch.allclose(changed[0], bend(image[0], 1.4), atol=1e-2)


@pytest.mark.parametrize(
    "change", [lambda v: bend(v, 0.7), lambda v: change_contrast(v, 1.2), lambda v: blur(v, (1, 1, 1))]
)
def test_an_empty_patch_stays_empty_and_finite(change):
    assert torch.equal(change(torch.zeros(6, 6, 6)), torch.zeros(6, 6, 6))


def test_the_transforms_follow_nnunets_order(image):
    all_of_them = ChannelParameters(
        blur_sigma_voxels=(0.5, 0.6, 0.7), brightness=1.2, contrast=0.8, resolution=0.6, inverted_gamma=1.4, gamma=0.8
    )
    expected = lower_resolution(change_contrast(blur(image[0], (0.5, 0.6, 0.7)) * 1.2, 0.8), 0.6)
    expected = bend(-bend(-expected, 1.4), 0.8)
    assert torch.equal(apply_intensity(image[:1], parameters(all_of_them))[0], expected)
