import pytest
import torch

from s3d.errors import CheckpointError
from s3d.interop.architecture import expected_shapes, infer_architecture
from s3d.models.presets import PRESETS, Architecture
from s3d.models.resenc_unet import ResEncUNet

UNUSUAL = Architecture(
    features=(3, 5, 5, 9),
    blocks=(2, 1, 3, 1),
    decoder_convs=(1, 3, 2),
    input_channels=2,
    output_channels=7,
    conv_bias=False,
)


def state_of(architecture):
    with torch.device("meta"):
        return ResEncUNet(architecture).state_dict()


@pytest.mark.parametrize("architecture", [*PRESETS.values(), UNUSUAL], ids=[*PRESETS, "unusual"])
def test_weights_tell_the_architecture_they_were_made_with(architecture):
    assert infer_architecture(state_of(architecture)) == architecture


def test_an_encoder_alone_gets_the_usual_decoder():
    encoder = {name: value for name, value in state_of(UNUSUAL).items() if name.startswith("encoder.")}
    assert infer_architecture(encoder) == Architecture(
        **{**vars(UNUSUAL), "decoder_convs": (1, 1, 1), "output_channels": 1}
    )


def test_expected_shapes_are_those_of_the_network():
    expected = {name: tuple(value.shape) for name, value in state_of(UNUSUAL).items()}
    assert expected_shapes(UNUSUAL) == expected


@pytest.mark.parametrize("names", [["eva.blocks.0.attn.qkv.weight"], ["encoder.stem.convs.0.conv.weight"]])
def test_other_networks_are_refused_with_a_remedy(names):
    with pytest.raises(CheckpointError, match="Choose a ResEnc-L checkpoint"):
        infer_architecture({name: torch.zeros(4, 1, 3, 3, 3) for name in names})
