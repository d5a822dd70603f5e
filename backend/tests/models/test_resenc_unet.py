import pytest
import torch

from s3d.models.presets import PRESETS, Architecture, preset
from s3d.models.resenc_unet import ResEncUNet

SMALL = Architecture(features=(3, 4, 5), blocks=(1, 2, 1), decoder_convs=(1, 2), input_channels=2, output_channels=4)


def parameters(module):
    return sum(value.numel() for value in module.parameters())


def test_resenc_l_has_the_parameters_of_the_paper():  # method.md section 1
    with torch.device("meta"):
        network = ResEncUNet(preset("resenc_l"))
    assert parameters(network) == 102_348_965
    assert parameters(network.encoder) == 90_296_576
    assert parameters(network.encoder.stem) == 960
    assert parameters(network.decoder) == 12_052_389


def test_no_parameter_exists_twice():
    network = ResEncUNet(SMALL)
    state = network.state_dict()
    assert len({value.data_ptr() for value in state.values()}) == len(state)
    assert set(state) == {name for name, _ in network.named_parameters()}


@pytest.mark.parametrize("name", ["tiny", "small", "medium"])
def test_each_small_preset_maps_a_patch_to_a_patch(name):
    patch = (PRESETS[name].total_stride, 2 * PRESETS[name].total_stride, PRESETS[name].total_stride)
    assert ResEncUNet(PRESETS[name])(torch.randn(1, 1, *patch)).shape == (1, 1, *patch)


def test_features_halve_from_stage_to_stage():
    features = ResEncUNet(SMALL).encoder(torch.randn(2, 2, 8, 16, 12))
    assert [tuple(feature.shape) for feature in features] == [(2, 3, 8, 16, 12), (2, 4, 4, 8, 6), (2, 5, 2, 4, 3)]


def test_deep_supervision_gives_each_decoder_stage_finest_first():
    network = ResEncUNet(
        Architecture(
            features=(3, 4, 5), blocks=(1, 1, 1), decoder_convs=(1, 1), output_channels=2, deep_supervision=True
        )
    )
    outputs = network(torch.randn(1, 1, 8, 8, 12))
    assert [tuple(output.shape) for output in outputs] == [(1, 2, 8, 8, 12), (1, 2, 4, 4, 6)]


def test_the_finest_output_is_the_same_with_and_without_deep_supervision():
    plain = ResEncUNet(SMALL)
    supervised = ResEncUNet(Architecture(**{**vars(SMALL), "deep_supervision": True}))
    supervised.load_state_dict(plain.state_dict())
    volume = torch.randn(1, 2, 8, 8, 8)
    assert torch.equal(plain(volume), supervised(volume)[0])


def test_exactly_the_heads_that_are_not_used_get_no_gradient():
    network = ResEncUNet(SMALL)
    network(torch.randn(1, 2, 8, 8, 8)).square().mean().backward()
    without = {name for name, value in network.named_parameters() if value.grad is None}
    assert without == {"decoder.seg_layers.0.weight", "decoder.seg_layers.0.bias"}
    assert without == {name for name, value in network.named_parameters() if not value.requires_grad}


def test_a_network_without_conv_bias_keeps_only_the_heads_biases():
    names = ResEncUNet(Architecture(**{**vars(SMALL), "conv_bias": False})).state_dict()
    biases = {name for name in names if name.endswith(".bias") and ".norm." not in name}
    assert biases == {"decoder.seg_layers.0.bias", "decoder.seg_layers.1.bias"}


def test_samples_of_a_batch_do_not_see_each_other():
    network, volume = ResEncUNet(SMALL).double(), torch.randn(3, 2, 8, 8, 8, dtype=torch.float64)
    one_by_one = torch.cat([network(sample[None]) for sample in volume])
    torch.testing.assert_close(network(volume), one_by_one, rtol=0, atol=1e-12)


def test_half_precision_convolutions_stay_near_full_precision():
    network, volume = ResEncUNet(SMALL), torch.randn(1, 2, 8, 8, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = network(volume)
    full = network(volume)
    assert half.dtype == torch.bfloat16
    assert (half - full).std() < 0.05 * full.std()
