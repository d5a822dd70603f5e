"""The sparse encoder against a slow reference that knows nothing but the formula of method.md section 3."""

import pytest
import torch
from torch.nn import functional

from s3d.masking import draw_visible, grow
from s3d.models.presets import Architecture
from s3d.models.resenc_unet import ResEncUNet
from s3d.models.sparse import encode_sparsely, normalize_visible

ARCHITECTURE = Architecture(features=(3, 4, 4), blocks=(1, 2, 1), decoder_convs=(1, 1), input_channels=2)


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    encoder = ResEncUNet(ARCHITECTURE).encoder.double()
    for value in encoder.parameters():
        torch.nn.init.normal_(value, std=0.5)
    return encoder


@pytest.fixture
def volume():
    return torch.randn(2, 2, 16, 8, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def visible():
    """Two samples that show 3 and 6 of 8 blocks."""
    return torch.cat([draw_visible((4, 2, 4), 0.8, [0]), draw_visible((4, 2, 4), 0.3, [1])])


def slow_unit(state, name, sample, shown, stride=1):
    """Convolve one sample, gather its visible voxels, normalise them as a plain list, scatter them into zeros."""
    weight = state[f"{name}.conv.weight"]
    full = functional.conv3d(sample[None], weight, state.get(f"{name}.conv.bias"), stride, weight.shape[-1] // 2)[0]
    result = torch.zeros_like(full)
    for channel in range(full.shape[0]):
        values = full[channel][shown]
        spread = torch.sqrt(((values - values.mean()) ** 2).mean() + 1e-5)
        scaled = (values - values.mean()) / spread
        result[channel][shown] = scaled * state[f"{name}.norm.weight"][channel] + state[f"{name}.norm.bias"][channel]
    return result


def slow_features(state, sample, cells):
    def shown_at(shape):
        return grow(cells, shape)[0]

    def leak(feature):
        return torch.where(feature > 0, feature, 0.01 * feature)

    feature = leak(slow_unit(state, "stem.convs.0", sample, shown_at(sample.shape)))
    features = []
    for stage, count in enumerate(ARCHITECTURE.blocks):
        for block in range(count):
            stride = 2 if stage and not block else 1
            name = f"stages.{stage}.blocks.{block}"
            shown = shown_at([size // stride for size in feature.shape[-3:]])
            main = leak(slow_unit(state, f"{name}.conv1", feature, shown, stride))
            main = slow_unit(state, f"{name}.conv2", main, shown)
            skip = functional.avg_pool3d(feature, stride) * shown if stride > 1 else feature
            if f"{name}.skip.1.conv.weight" in state:
                skip = slow_unit(state, f"{name}.skip.1", skip, shown)
            feature = leak(main + skip)
        features.append(feature)
    return features


@pytest.mark.parametrize("block", [4, 2])  # 4: the bottleneck's own grid; 2: finer than the bottleneck, dense there
def test_features_equal_a_slow_reference_sample_by_sample(encoder, volume, block):
    grid = tuple(size // block for size in volume.shape[-3:])
    visible = torch.cat([draw_visible(grid, 0.75, [3]), draw_visible(grid, 0.4, [4])])
    found = encode_sparsely(encoder, volume, visible)
    for sample in range(2):
        expected = slow_features(encoder.state_dict(), volume[sample], visible[sample])
        for feature, reference in zip(found, expected, strict=True):
            torch.testing.assert_close(feature[sample], reference, rtol=0, atol=1e-11)


def test_with_everything_visible_it_is_the_plain_encoder(encoder, volume):
    everything = torch.ones(2, 1, 4, 2, 4, dtype=torch.bool)
    for sparse, dense in zip(encode_sparsely(encoder, volume, everything), encoder(volume), strict=True):
        torch.testing.assert_close(sparse, dense, rtol=0, atol=1e-11)


def test_samples_with_different_visible_counts_do_not_see_each_other(encoder, volume, visible):
    together = encode_sparsely(encoder, volume, visible)
    for sample in range(2):
        one = slice(sample, sample + 1)
        for feature, own in zip(together, encode_sparsely(encoder, volume[one], visible[one]), strict=True):
            torch.testing.assert_close(feature[one], own, rtol=0, atol=1e-12)


def test_hidden_places_of_every_feature_map_are_zero(encoder, volume, visible):
    for feature in encode_sparsely(encoder, volume, visible):
        shown = grow(visible, feature.shape).expand_as(feature)
        assert not feature[~shown].any()
        assert feature[shown].all()


def test_visible_voxels_of_each_sample_and_channel_get_mean_0_and_variance_1(visible):
    shown = grow(visible, (16, 8, 16))
    feature = 3 + 5 * torch.randn(2, 4, 16, 8, 16, dtype=torch.float64)
    normalized = normalize_visible(feature, shown)
    for sample in range(2):
        values = normalized[sample][:, shown[sample, 0]]
        torch.testing.assert_close(values.mean(1), torch.zeros(4, dtype=torch.float64), rtol=0, atol=1e-12)
        torch.testing.assert_close(values.var(1, unbiased=False), torch.ones(4, dtype=torch.float64), rtol=0, atol=1e-5)


def test_gradients_of_the_masked_norm_are_those_of_finite_differences(visible):
    shown = grow(visible, (4, 2, 4))
    feature = torch.randn(2, 2, 4, 2, 4, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(2, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda *inputs: normalize_visible(inputs[0], shown, *inputs[1:]), (feature, weight, bias)
    )


def test_statistics_of_half_precision_features_are_taken_in_float32(visible):
    shown = grow(visible, (16, 8, 16))
    feature = (100 + torch.randn(2, 1, 16, 8, 16)).bfloat16()
    normalized = normalize_visible(feature, shown)
    assert normalized.dtype == torch.bfloat16
    torch.testing.assert_close(normalized.double(), normalize_visible(feature.double(), shown), rtol=0.01, atol=0.01)


def test_a_sample_without_visible_voxels_gives_zeros_not_nan():
    nothing = torch.zeros(1, 1, 2, 2, 2, dtype=torch.bool)
    assert not normalize_visible(torch.randn(1, 3, 2, 2, 2), nothing, torch.ones(3), torch.ones(3)).any()
