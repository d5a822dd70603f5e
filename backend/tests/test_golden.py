import math
import shutil

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from s3d.errors import CheckpointError
from s3d.golden import TOLERANCE, check_file, check_folder

S3D_FILE = "s3d_nnssl_geometry.safetensors"


def changed_copy(path, folder, **changes):
    """The golden file with some tensors changed by a function each (of None where there is no such tensor)."""
    with safe_open(path, framework="pt") as file:
        names, metadata = file.keys(), file.metadata()
        tensors = {name: file.get_tensor(name) for name in names}
    tensors.update({name: change(tensors.get(name)) for name, change in changes.items()})
    save_file(tensors, folder / path.name, metadata)
    return folder / path.name


def test_every_golden_file_is_met(golden_folder):
    results = check_folder(golden_folder)
    assert {result.path.name for result in results} >= {
        "resenc_l_parameter_names.txt",
        "resenc_unet_2in_3classes.safetensors",
        "resenc_unet_deep_supervision.safetensors",
        "s3d_nnssl_geometry.safetensors",
        "s3d_paper_geometry.safetensors",
    }
    for result in results:
        assert result.deviations, result.path
        for quantity, deviation in result.deviations.items():
            assert deviation <= TOLERANCE, (result.path.name, quantity)
        assert result.passed


def test_the_s3d_files_are_checked_in_features_reconstruction_loss_and_gradients(golden_folder):
    assert set(check_file(golden_folder / S3D_FILE)) == {"encoder features", "reconstruction", "loss", "gradients"}


@pytest.mark.parametrize(
    ("name", "quantity"),
    [
        ("encoder_feature.2", "encoder features"),
        ("reconstruction", "reconstruction"),
        ("loss", "loss"),
        ("grad.mask_tokens.3", "gradients"),
        ("grad.encoder.stem.convs.0.all_modules.0.weight", "gradients"),
    ],
)
def test_a_deviation_is_found_in_its_quantity_and_nowhere_else(golden_folder, tmp_path, name, quantity):
    changed_copy(golden_folder / S3D_FILE, tmp_path, **{name: lambda value: value + 1e-6})
    (result,) = check_folder(tmp_path)
    assert not result.passed
    assert result.deviations.pop(quantity) == pytest.approx(1e-6, rel=1e-3)
    assert max(result.deviations.values()) <= TOLERANCE


@pytest.mark.parametrize("change", [lambda value: value * math.nan, lambda value: value[:1]])
def test_a_number_that_is_not_finite_or_a_wrong_shape_never_passes(golden_folder, tmp_path, change):
    path = changed_copy(golden_folder / S3D_FILE, tmp_path, reconstruction=change)
    assert check_file(path)["reconstruction"] == math.inf


def test_a_gradient_that_only_the_official_network_has_is_a_deviation(golden_folder, tmp_path):
    name = "grad.decoder.seg_layers.0.bias"
    path = changed_copy(golden_folder / S3D_FILE, tmp_path, **{name: lambda _: torch.ones(1)})
    assert check_file(path)["gradients"] == 1


def test_names_that_differ_are_counted(golden_folder, tmp_path):
    lines = (golden_folder / "resenc_l_parameter_names.txt").read_text(encoding="utf-8").splitlines()
    (tmp_path / "resenc_l_parameter_names.txt").write_text("\n".join(lines[1:]), encoding="utf-8")
    assert check_file(tmp_path / "resenc_l_parameter_names.txt") == {"parameter names": 1}


def test_an_empty_folder_is_an_error(tmp_path):
    with pytest.raises(CheckpointError, match="holds no golden file"):
        check_folder(tmp_path)


def test_a_damaged_file_is_an_error(golden_folder, tmp_path):
    shutil.copyfile(golden_folder / S3D_FILE, tmp_path / S3D_FILE)
    with (tmp_path / S3D_FILE).open("r+b") as file:
        file.truncate(1000)
    with pytest.raises(CheckpointError, match="not a readable safetensors file"):
        check_folder(tmp_path)


def test_another_safetensors_file_is_an_error(tmp_path):
    save_file({"weights": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match="not a golden file"):
        check_folder(tmp_path)


def test_weights_that_do_not_fit_are_an_error(golden_folder, tmp_path):
    name = "weight.decoder.seg_layers.0.weight"
    path = changed_copy(golden_folder / S3D_FILE, tmp_path, **{name: lambda value: value.repeat(2, 1, 1, 1, 1)})
    with pytest.raises(CheckpointError, match="do not fit the network"):
        check_file(path)
