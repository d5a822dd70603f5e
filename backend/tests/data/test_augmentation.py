"""The drawing of parameters: pure in (seed, number), as often and as wide as the configuration says."""

import dataclasses
import math

import numpy as np
import pytest

from s3d.config import from_dict, to_dict
from s3d.data.augmentation import ChannelParameters, SampleParameters, SpatialParameters, draw_parameters
from s3d.data.augmentation_config import FINETUNING, NONE, PRETRAINING, QUICK, AugmentationConfig
from s3d.data.sample_randomness import Stream, generator
from s3d.errors import ConfigError

COUNT = 3000


def draw_many(config: AugmentationConfig, channels: int = 1) -> list[SampleParameters]:
    return [draw_parameters(config, 11, number, channels) for number in range(COUNT)]


def assert_share(flags: list[bool], probability: float) -> None:
    """Within four standard deviations of the binomial."""
    assert abs(np.mean(flags) - probability) <= 4 * math.sqrt(probability * (1 - probability) / len(flags))


def test_a_draw_depends_on_seed_and_number_only():
    assert draw_parameters(QUICK, 3, 14, 2) == draw_parameters(QUICK, 3, 14, 2)
    assert draw_parameters(FINETUNING, 3, 14) != draw_parameters(FINETUNING, 3, 15)
    assert draw_parameters(FINETUNING, 3, 14) != draw_parameters(FINETUNING, 4, 14)


def test_the_streams_of_a_sample_are_different_and_differ_from_a_stream_without_name():
    firsts = {generator(1, 2, stream).random() for stream in Stream} | {np.random.default_rng((1, 2)).random()}
    assert len(firsts) == len(Stream) + 1


def test_changing_one_probability_leaves_all_other_draws():
    often = dataclasses.replace(FINETUNING, blur_probability=1.0, rotation_probability=0.0)
    for number in range(50):
        a, b = draw_parameters(FINETUNING, 0, number), draw_parameters(often, 0, number)
        same = dataclasses.replace(b.intensity.channels[0], blur_sigma_voxels=a.intensity.channels[0].blur_sigma_voxels)
        assert same == a.intensity.channels[0]
        assert (a.spatial.scale, a.spatial.mirror_axes) == (b.spatial.scale, b.spatial.mirror_axes)


def test_none_gives_the_parameters_that_change_nothing():
    drawn = draw_parameters(NONE, 0, 5, 2)
    assert drawn.spatial == SpatialParameters()
    assert not drawn.spatial.interpolates
    assert set(drawn.intensity.channels) == {ChannelParameters()}
    assert drawn.intensity.noise_deviation == 0


@pytest.mark.parametrize("config", [FINETUNING, QUICK, PRETRAINING], ids=["finetuning", "quick", "pretraining"])
def test_transforms_happen_as_often_as_configured(config):
    drawn = draw_many(config)
    channels = [sample.intensity.channels[0] for sample in drawn]
    assert_share([any(sample.spatial.rotation_rad) for sample in drawn], config.rotation_probability)
    scaled = 1 - (1 - config.scaling_probability) * (1 - config.anisotropic_scaling_probability)
    assert_share([sample.spatial.scale != (1, 1, 1) for sample in drawn], scaled)
    for axis in range(3):
        probability = config.mirror_probability if axis in config.mirror_axes else 0
        assert_share([axis in sample.spatial.mirror_axes for sample in drawn], probability)
    assert_share([sample.intensity.noise_deviation > 0 for sample in drawn], config.noise_probability)
    blurred = config.blur_probability * config.blur_channel_probability
    assert_share([any(channel.blur_sigma_voxels) for channel in channels], blurred)
    coarse = config.low_resolution_probability * config.low_resolution_channel_probability
    assert_share([channel.resolution != 1 for channel in channels], coarse)
    for name in ("brightness", "contrast", "inverted_gamma", "gamma"):
        assert_share([getattr(channel, name) != 1 for channel in channels], getattr(config, f"{name}_probability"))


def test_values_fill_their_ranges_and_stay_inside():
    always = AugmentationConfig(
        **{field.name: 1.0 for field in dataclasses.fields(AugmentationConfig) if field.name.endswith("probability")},
    )
    isotropic = dataclasses.replace(always, anisotropic_scaling_probability=0.0)
    channels = [sample.intensity.channels[0] for sample in draw_many(always)]
    spatial = [sample.spatial for sample in draw_many(isotropic)]
    values = {
        "rotation": (np.degrees([s.rotation_rad for s in spatial]), (-30, 30)),
        "scale": ([s.scale for s in spatial], always.scaling_range),
        "blur": ([c.blur_sigma_voxels for c in channels], always.blur_sigma_voxels),
        "brightness": ([c.brightness for c in channels], always.brightness_range),
        "contrast": ([c.contrast for c in channels], always.contrast_range),
        "resolution": ([c.resolution for c in channels], always.low_resolution_range),
        "inverted gamma": ([c.inverted_gamma for c in channels], always.gamma_range),
        "gamma": ([c.gamma for c in channels], always.gamma_range),
    }
    for name, (drawn, (low, high)) in values.items():
        assert low <= np.min(drawn) <= low + 0.02 * (high - low), name
        assert high - 0.02 * (high - low) <= np.max(drawn) <= high, name
    assert all(len(set(s.scale)) == 1 for s in spatial)
    assert_share([c.gamma < 1 for c in channels], 0.5)


def test_anisotropic_scaling_multiplies_the_common_factor():
    config = dataclasses.replace(QUICK, scaling_probability=1.0, anisotropic_scaling_probability=1.0)
    common = dataclasses.replace(config, anisotropic_scaling_probability=0.0)
    own = dataclasses.replace(config, scaling_probability=0.0)
    for number in range(20):
        both, one, other = (draw_parameters(c, 0, number).spatial.scale for c in (config, common, own))
        assert both == pytest.approx(np.multiply(one, other))
        assert len(set(other)) == 3


def test_channels_are_drawn_apart_and_the_first_does_not_depend_on_their_number():
    one, two = draw_parameters(FINETUNING, 0, 3, 1), draw_parameters(FINETUNING, 0, 3, 2)
    assert two.intensity.channels[0] == one.intensity.channels[0]
    drawn = draw_many(FINETUNING, channels=2)
    blurred = [tuple(any(c.blur_sigma_voxels) for c in sample.intensity.channels) for sample in drawn]
    assert_share([first and second for first, second in blurred], 0.2 * 0.5 * 0.5)


def test_the_matrix_turns_about_the_named_axis_and_scales_the_image_side():
    quarter = SpatialParameters(rotation_rad=(math.pi / 2, 0.0, 0.0), scale=(1.0, 2.0, 1.0)).matrix
    np.testing.assert_allclose(quarter @ [1, 0, 0], [1, 0, 0], atol=1e-12)
    np.testing.assert_allclose(quarter @ [0, 1, 0], [0, 0, 1], atol=1e-12)
    np.testing.assert_allclose(quarter @ [0, 0, 1], [0, -2, 0], atol=1e-12)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"blur_probability": 1.5}, "blur_probability is 1.5"),
        ({"scaling_range": (1.4, 0.7)}, "scaling_range is"),
        ({"gamma_range": (0.0, 1.5)}, "gamma_range is"),
        ({"noise_deviation": (-0.1, 0.1)}, "noise_deviation is"),
        ({"low_resolution_range": (0.5, 1.5)}, "at most 1"),
        ({"rotation_degrees": -3.0}, "rotation_degrees is -3.0"),
        ({"mirror_axes": (0, 3)}, "mirror_axes is (0, 3)"),
        ({"mirror_axes": (1, 1)}, "each once"),
    ],
)
def test_impossible_settings_are_refused_with_their_value(change, words):
    with pytest.raises(ConfigError) as refusal:
        dataclasses.replace(FINETUNING, **change)
    assert words in str(refusal.value)


@pytest.mark.parametrize("config", [FINETUNING, QUICK, PRETRAINING, NONE])
def test_a_configuration_survives_json(config):
    assert from_dict(AugmentationConfig, to_dict(config)) == config
