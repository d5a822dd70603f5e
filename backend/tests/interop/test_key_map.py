import pytest
import torch

from s3d.interop.key_map import with_aliases, without_aliases
from s3d.models.presets import Architecture, preset
from s3d.models.resenc_unet import ResEncUNet
from s3d.models.spark import SparkAutoencoder

ARCHITECTURE = Architecture(features=(4, 6), blocks=(1, 2), decoder_convs=(1,))


def test_resenc_l_has_the_official_names_and_shapes_in_the_official_order(golden_folder):
    lines = (golden_folder / "resenc_l_parameter_names.txt").read_text(encoding="utf-8").split("\n")
    with torch.device("meta"):
        official = with_aliases(ResEncUNet(preset("resenc_l")).state_dict())
    assert [f"{name} {'x'.join(map(str, value.shape))}" for name, value in official.items()] == [i for i in lines if i]
    assert len(official) == 956


def test_the_way_to_the_official_names_and_back_changes_nothing():
    state = SparkAutoencoder(ARCHITECTURE).state_dict()
    back, differing = without_aliases(with_aliases(state))
    assert differing == []
    assert back.keys() == state.keys()
    assert all(back[name].data_ptr() == state[name].data_ptr() for name in state)


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.architecture."])
def test_wrappers_prefixes_are_taken_off(prefix):
    state = ResEncUNet(ARCHITECTURE).state_dict()
    wrapped = {prefix + name: value for name, value in with_aliases(state).items()}
    assert without_aliases(wrapped)[0].keys() == state.keys()


def test_where_a_pair_differs_all_modules_is_taken_and_the_name_told():
    state = ResEncUNet(ARCHITECTURE).state_dict()
    official = with_aliases(state)
    dead = ["encoder.stem.convs.0.conv.weight", "encoder.stages.1.blocks.1.conv2.norm.bias"]
    official.update({name: torch.full_like(state[name], 9) for name in dead})
    back, differing = without_aliases(official)
    assert differing == dead
    assert all(torch.equal(back[name], state[name]) for name in state)


@pytest.mark.parametrize("kept", ["all_modules", "plain"])
def test_either_half_of_the_pairs_is_enough(kept):
    state = ResEncUNet(ARCHITECTURE).state_dict()
    official = with_aliases(state)
    dropped = [
        name
        for name in official
        if ("all_modules" in name) != (kept == "all_modules")
        and (".conv." in name or ".norm." in name or "all_modules" in name)
    ]
    half = {name: value for name, value in official.items() if name not in dropped}
    assert len(half) < len(official)
    assert without_aliases(half)[0].keys() == state.keys()
