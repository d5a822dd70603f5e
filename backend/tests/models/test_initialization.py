import math

import pytest
import torch
from torch import nn

from s3d.models.blocks import activate
from s3d.models.initialization import initialize_for_pretraining, initialize_for_training
from s3d.models.presets import Architecture
from s3d.models.resenc_unet import ResEncUNet
from s3d.models.spark import SparkAutoencoder

ARCHITECTURE = Architecture(features=(16, 32), blocks=(1, 2), decoder_convs=(1,))
BOTH = [initialize_for_training, initialize_for_pretraining]


@pytest.mark.parametrize("initialize", BOTH)
def test_values_depend_on_nothing_but_the_seed(initialize):
    first, second, other = (SparkAutoencoder(ARCHITECTURE) for _ in range(3))
    for value in first.parameters():
        nn.init.constant_(value, 0.01)
    for network, seed in ((first, 1), (second, 1), (other, 2)):
        initialize(network.unet, seed)
    for name, value in first.unet.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name
    assert not torch.equal(first.encoder.stem.convs[0].conv.weight, other.encoder.stem.convs[0].conv.weight)


@pytest.mark.parametrize("initialize", BOTH)
def test_the_callers_random_numbers_stay_as_they_were(initialize):
    network = ResEncUNet(ARCHITECTURE)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    initialize(network, 1)
    assert torch.equal(torch.rand(3), expected)


def test_training_starts_from_he_normal_weights_and_zero_biases():
    network = ResEncUNet(ARCHITECTURE)
    initialize_for_training(network, 0)
    convolution = network.encoder.stages[1].blocks[0].conv2.conv
    expected = math.sqrt(2 / (1 + 0.01**2) / (32 * 27))
    assert convolution.weight.std().item() == pytest.approx(expected, rel=0.02)
    assert convolution.weight.abs().max() > 3 * expected  # normal, not uniform
    assert all(not value.any() for name, value in network.named_parameters() if name.endswith(".bias"))


def test_training_starts_with_blocks_that_pass_their_input_on():
    network = ResEncUNet(ARCHITECTURE)
    initialize_for_training(network, 0)
    block, volume = network.encoder.stages[1].blocks[0], torch.randn(1, 16, 4, 4, 4)
    assert torch.equal(block(volume), activate(block.skip(volume)))


def test_pretraining_starts_from_torchs_own_values_and_small_tokens():
    network = SparkAutoencoder(ARCHITECTURE)
    initialize_for_pretraining(network, 0)
    convolution = network.encoder.stages[1].blocks[0].conv2.conv
    bound = 1 / math.sqrt(32 * 27)
    assert 0.98 * bound < convolution.weight.abs().max() <= bound
    tokens = torch.cat([token.flatten() for token in network.mask_tokens])
    assert tokens.abs().max() <= 0.02
    assert 0.005 < tokens.std() < 0.015
