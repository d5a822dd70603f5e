import argparse
import json
import pickle

import pytest
import torch

from s3d.errors import CheckpointError
from s3d.interop.foreign_checkpoint import read_checkpoint
from s3d.interop.key_map import with_aliases


class Harmful:
    """Running code on reading is all a pickle needs."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return pytest.fail, ("the pickle's code was run",)


def unet_of(trained):
    return {name: value for name, value in trained.items() if name.startswith(("encoder.", "decoder."))}


def test_of_an_s3d_checkpoint_the_trained_copies_and_s3ds_own_parts_are_read(tmp_path, trained, s3d_checkpoint):
    torch.save(s3d_checkpoint, tmp_path / "checkpoint_final.pth")
    checkpoint = read_checkpoint(tmp_path)
    assert checkpoint.path == tmp_path / "checkpoint_final.pth"
    assert checkpoint.weights.keys() == trained.keys()
    assert all(torch.equal(checkpoint.weights[name], trained[name]) for name in trained)
    encoder = [n for n in trained if n.startswith("encoder.") and n.split(".")[-2] in ("conv", "norm")]
    assert sorted(checkpoint.differing_aliases) == sorted(encoder)
    assert checkpoint.trainer == "VariableSparkMAETrainer_BS8"
    assert checkpoint.plan is None


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod."])
@pytest.mark.parametrize("key", [None, "network_weights", "state_dict"])
def test_bare_and_wrapped_state_dicts_are_read(tmp_path, trained, prefix, key):
    unet = unet_of(trained)
    state = {prefix + name: value for name, value in with_aliases(unet).items()}
    torch.save({key: state, "epoch": 3} if key else state, tmp_path / "weights.pth")
    checkpoint = read_checkpoint(tmp_path / "weights.pth")
    assert checkpoint.weights.keys() == unet.keys()
    assert checkpoint.differing_aliases == ()


def test_spark_weights_alone_are_enough(tmp_path, trained, s3d_checkpoint):
    torch.save({"spark_weights": s3d_checkpoint["spark_weights"]}, tmp_path / "spark.pth")
    weights = read_checkpoint(tmp_path / "spark.pth").weights
    assert weights.keys() == trained.keys()
    assert all(torch.equal(weights[name], trained[name]) for name in trained)


def test_files_of_before_the_zip_format_are_read(tmp_path, trained):
    torch.save(unet_of(trained), tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert read_checkpoint(tmp_path / "old.pth").weights.keys() == unet_of(trained).keys()


def test_half_precision_weights_become_float32(tmp_path, trained):
    torch.save({name: value.bfloat16() for name, value in unet_of(trained).items()}, tmp_path / "half.pth")
    assert {value.dtype for value in read_checkpoint(tmp_path / "half.pth").weights.values()} == {torch.float32}


def test_the_plan_in_the_file_goes_before_the_one_beside_it(tmp_path, trained, plan):
    (tmp_path / "adaptation_plan.json").write_text(json.dumps(plan), encoding="utf-8")
    torch.save({"network_weights": unet_of(trained)}, tmp_path / "a.pth")
    assert read_checkpoint(tmp_path / "a.pth").plan.patch_size == (96, 128, 96)
    assert read_checkpoint(tmp_path / "a.pth").trainer == "VariableSparkMAETrainer_BS8"
    inside = {**plan, "recommended_downstream_patchsize": [64, 64, 64]}
    torch.save({"network_weights": unet_of(trained), "nnssl_adaptation_plan": inside}, tmp_path / "a.pth")
    assert read_checkpoint(tmp_path / "a.pth").plan.patch_size == (64, 64, 64)


def test_citations_become_lines(tmp_path, trained):
    citations = [
        {"type": "Architecture", "name": "nnU-Net", "apa_citations": ["Isensee (2021)", "Isensee (2024)"]},
        {"type": "Method", "name": "S3D", "bibtex_citations": "@inproceedings{wald}"},
    ]
    torch.save({"network_weights": unet_of(trained), "citations": citations}, tmp_path / "a.pth")
    expected = ["nnU-Net: Isensee (2021)", "nnU-Net: Isensee (2024)", "S3D: @inproceedings{wald}"]
    assert read_checkpoint(tmp_path / "a.pth").citation.splitlines() == expected


@pytest.mark.parametrize("harmful", [Harmful(), argparse.Namespace(lr=0.1)])
def test_a_file_that_would_run_code_is_not_opened(tmp_path, harmful):
    torch.save({"network_weights": {}, "init_args": harmful}, tmp_path / "bad.pth")
    with pytest.raises(CheckpointError, match=r"bad\.pth would run code .* plain tensors"):
        read_checkpoint(tmp_path / "bad.pth")


def test_a_bare_pickle_that_would_run_code_is_not_opened(tmp_path):
    (tmp_path / "bad.pth").write_bytes(pickle.dumps(Harmful()))
    with pytest.raises(CheckpointError, match=r"bad\.pth"):
        read_checkpoint(tmp_path / "bad.pth")


@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda _: b"", lambda _: b"<html>404</html>"])
def test_a_damaged_file_is_told(tmp_path, trained, damage):
    path = tmp_path / "damaged.pth"
    torch.save(trained, path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(CheckpointError, match=r"damaged\.pth is not a whole PyTorch checkpoint"):
        read_checkpoint(path)


@pytest.mark.parametrize("content", [[1, 2], {"epoch": 3, "network_weights": {}}])
def test_a_file_without_weights_is_told(tmp_path, content):
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match=r"other\.pth holds"):
        read_checkpoint(tmp_path / "other.pth")


def test_weights_that_are_not_finite_are_told(tmp_path, trained):
    name = "encoder.stem.convs.0.conv.weight"
    torch.save({**trained, name: trained[name] * float("nan")}, tmp_path / "nan.pth")
    with pytest.raises(CheckpointError, match=f"{name} holds NaN"):
        read_checkpoint(tmp_path / "nan.pth")


@pytest.mark.parametrize("names", [[], ["a.pth", "b.pth"]])
def test_a_folder_without_one_clear_checkpoint_is_told(tmp_path, names):
    for name in names:
        torch.save({}, tmp_path / name)
    with pytest.raises(CheckpointError, match="Give the path of one file"):
        read_checkpoint(tmp_path)


def test_a_path_where_nothing_is_is_told(tmp_path):
    with pytest.raises(CheckpointError, match="no checkpoint at"):
        read_checkpoint(tmp_path / "nothing.pth")


@pytest.mark.parametrize("text", ["{", "[1]"])
def test_a_plan_that_is_not_one_is_told(tmp_path, trained, text):
    torch.save(trained, tmp_path / "a.pth")
    (tmp_path / "adaptation_plan.json").write_text(text, encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"adaptation_plan\.json .* Mend or remove it"):
        read_checkpoint(tmp_path / "a.pth")
