"""`s3d models list | show | import` through the command: what a person sees, and how it ends."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from s3d import cli
from s3d.bundle import BundleDescription, Channel, Label, load_bundle, save_bundle
from s3d.models.presets import Architecture
from s3d.models.resenc_unet import ResEncUNet

Shown = pytest.CaptureFixture[str]


def write_model(folder: Path, name: str, **options: Any) -> Path:
    """A fine-tuned model with random weights."""
    values: dict[str, Any] = {
        "kind": "segmentation",
        "architecture": Architecture(
            features=(4, 6), blocks=(1, 1), decoder_convs=(1,), input_channels=2, output_channels=3
        ),
        "channels": (Channel(name="T1"), Channel(name="FLAIR")),
        "patch_size": (8, 8, 8),
        "labels": (Label(value=1, name="Head"), Label(value=700, name="Tail")),
        "training": {"scores": {"how": "k-fold"}},
    }
    description = BundleDescription(name=name, **(values | options))
    network = ResEncUNet(description.architecture)
    path = folder / f"{name}.s3dmodel"
    save_bundle(path, description, {key: value.numpy() for key, value in network.state_dict().items()})
    return path


@pytest.fixture
def checkpoint(tmp_path: Path, s3d_checkpoint: dict[str, object], plan: dict[str, object]) -> Path:
    """As nnssl leaves it: the weights, their plan and a page with the licence in one folder."""
    folder = tmp_path / "nnssl_run"
    folder.mkdir()
    torch.save(s3d_checkpoint, folder / "checkpoint_final.pth")
    (folder / "adaptation_plan.json").write_text(json.dumps(plan))
    (folder / "README.md").write_text("---\nlicense: cc-by-4.0\n---\n")
    return folder


def test_list_gives_a_line_per_model_with_what_it_does_and_how_it_was_scored(tmp_path: Path, capsys: Shown) -> None:
    finetuned = write_model(tmp_path, "zebra")
    write_model(tmp_path, "ant", kind="pretrained", labels=(), training={"scores": None})
    assert cli.main(["models", "list", "--folder", str(tmp_path)]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("ant.s3dmodel  pretrained  2 channel(s)  reconstruction  score: none  id ")
    identity = load_bundle(finetuned).description.id[:12]
    assert second == f"zebra.s3dmodel  segmentation  2 channel(s)  Head, Tail  score: k-fold  id {identity}"


def test_list_goes_on_past_a_damaged_model_and_says_so(tmp_path: Path, capsys: Shown) -> None:
    write_model(tmp_path, "good")
    (write_model(tmp_path, "bad") / "model.json").write_text("{")
    assert cli.main(["models", "list", "--folder", str(tmp_path)]) == 0
    shown = capsys.readouterr()
    assert [line.split()[0] for line in shown.out.splitlines()] == ["good.s3dmodel"]
    assert f"Note: {tmp_path / 'bad.s3dmodel'}: model.json is not valid JSON" in shown.err


@pytest.mark.parametrize("made", [True, False])
def test_list_of_no_models_says_where_it_looked_and_how_to_get_one(
    made: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Shown
) -> None:
    monkeypatch.setenv("S3D_HOME", str(tmp_path))
    if made:
        (tmp_path / "models").mkdir()
    assert cli.main(["models", "list"]) == 0
    assert capsys.readouterr().out == f"No models in {tmp_path / 'models'}. `s3d models import` makes one.\n"


def test_show_prints_the_whole_card_as_json(tmp_path: Path, capsys: Shown) -> None:
    path = write_model(tmp_path, "zebra", citation="Müller et al., 2025")
    assert cli.main(["models", "show", "--model", str(path)]) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out) == json.loads((path / "model.json").read_text(encoding="utf-8"))
    assert "Müller" in shown.out
    assert shown.err == ""


def test_import_makes_a_model_and_tells_what_it_took(
    checkpoint: Path, tmp_path: Path, trained: dict[str, torch.Tensor], capsys: Shown
) -> None:
    models = tmp_path / "models"
    words = ["--source", str(checkpoint), "--folder", str(models), "--name", "openmind"]
    assert cli.main(["models", "import", *words]) == 0
    shown = capsys.readouterr()
    path = models / "openmind.s3dmodel"
    assert shown.out == f"{path}\n"
    assert "Network: features (4, 6, 8, 8), blocks (1, 2, 2, 2), 1 input channel(s)" in shown.err
    assert "Licence: cc-by-4.0" in shown.err
    assert "Warning: " in shown.err
    assert "the trained copies (all_modules) were taken." in shown.err
    bundle = load_bundle(path)
    stem = "encoder.stem.convs.0.conv.weight"
    assert torch.equal(torch.from_numpy(bundle.weights[stem]), trained[stem])
    assert cli.main(["models", "list", "--folder", str(models)]) == 0
    assert capsys.readouterr().out.startswith("openmind.s3dmodel  pretrained  1 channel(s)  reconstruction")


def test_import_without_a_name_or_folder_takes_those_that_suggest_themselves(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Shown
) -> None:
    monkeypatch.setenv("S3D_HOME", str(tmp_path / "home"))
    assert cli.main(["models", "import", "--source", str(checkpoint)]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'home' / 'models' / 'nnssl_run.s3dmodel'}\n"


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:1000])


def replace(path: Path) -> None:
    path.write_text("moved")


def take_away(path: Path) -> None:
    path.unlink()


def other_network(path: Path) -> None:
    torch.save({"network_weights": {"vit.blocks.0.weight": torch.zeros(2)}}, path)
    path.with_name("adaptation_plan.json").unlink()


@pytest.mark.parametrize("damage", [cut, replace, take_away, other_network])
def test_import_refuses_what_is_no_checkpoint_with_one_sentence(
    damage: Any, checkpoint: Path, tmp_path: Path, capsys: Shown
) -> None:
    damage(checkpoint / "checkpoint_final.pth")
    models = tmp_path / "models"
    assert cli.main(["models", "import", "--source", str(checkpoint), "--folder", str(models)]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    (line,) = shown.err.splitlines()
    assert line.startswith("s3d models import: ")
    assert line.endswith(".")
    assert "Traceback" not in line
    assert not models.exists()


def test_import_of_a_name_that_is_neither_here_nor_a_hub_name(tmp_path: Path, capsys: Shown) -> None:
    assert cli.main(["models", "import", "--source", "nowhere.pth", "--folder", str(tmp_path / "models")]) == 2
    assert "'nowhere.pth' is neither a file or folder on this computer nor a Hugging Face" in capsys.readouterr().err
