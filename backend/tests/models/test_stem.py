import pytest
import torch
from torch.nn import functional

from s3d.errors import CheckpointError
from s3d.models.stem import replicate_stem


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_every_channel_gets_the_trained_kernel(channels):
    weight = torch.randn(5, 1, 3, 3, 3)
    replicated = replicate_stem(weight, channels, divide=False)
    assert replicated.shape == (5, channels, 3, 3, 3)
    assert all(torch.equal(replicated[:, channel], weight[:, 0]) for channel in range(channels))


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_divided_equal_channels_give_the_response_of_one(channels):
    weight, image = torch.randn(5, 1, 3, 3, 3).double(), torch.randn(1, 1, 6, 6, 6).double()
    response = functional.conv3d(image.expand(1, channels, 6, 6, 6), replicate_stem(weight, channels, divide=True))
    torch.testing.assert_close(response, functional.conv3d(image, weight))


def test_a_stem_of_several_channels_is_refused():
    with pytest.raises(CheckpointError, match="takes 2 channels"):
        replicate_stem(torch.zeros(5, 2, 3, 3, 3), 4, divide=False)
