"""Model bundles that are damaged or do not fit: refused before anything is written."""

import shutil
import zipfile
from pathlib import Path

import pytest

from s3d.bundle import Label


def flip_a_bit_of_the_weights(model: Path) -> None:
    path = model / "weights.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def take_the_weights_away(model: Path) -> None:
    (model / "weights.safetensors").unlink()


def break_the_card(model: Path) -> None:
    path = model / "model.json"
    path.write_text(path.read_text()[:-20])


def another_schema(model: Path) -> None:
    path = model / "model.json"
    path.write_text(path.read_text().replace('"schema_version": 1', '"schema_version": 9'))


def nothing_there(model: Path) -> None:
    shutil.rmtree(model)


def a_text_file(model: Path) -> None:
    shutil.rmtree(model)
    model.write_text("moved to the other disk")


def a_damaged_zip(model: Path) -> None:
    """Zipped with compression, then damaged within the weights."""
    packed = model.with_suffix(".zip")
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in model.iterdir():
            archive.write(path, f"{model.name}/{path.name}")
        place = archive.getinfo(f"{model.name}/weights.safetensors").header_offset + 400
    data = bytearray(packed.read_bytes())
    data[place : place + 300] = b"\xff" * 300
    shutil.rmtree(model)
    model.write_bytes(data)
    packed.unlink()


DAMAGES = {
    flip_a_bit_of_the_weights: ("the weights' hash is ", "the bundle is damaged or was altered. Get it anew."),
    take_the_weights_away: ("holds no readable weights.safetensors", "it is not a whole model bundle. Get it anew."),
    break_the_card: ("model.json is not valid JSON", "get the bundle anew."),
    another_schema: ("has bundle schema 9; this program reads schema 1.", "export the model again."),
    nothing_there: ("There is no model bundle at ", "Check the path; `s3d models list` lists the known ones."),
    a_text_file: ("is damaged, or neither a bundle folder nor a readable zip", "Check the path, or get it anew."),
    a_damaged_zip: ("is damaged, or neither a bundle folder nor a readable zip", "Check the path, or get it anew."),
}


@pytest.mark.parametrize(("damage", "words"), DAMAGES.items())
def test_no_verb_uses_a_damaged_model(dataset, make_model, finetuning, refused, files_in, tmp_path, damage, words):
    model = make_model()
    damage(model)
    out = tmp_path / "out"
    what, remedy = words
    for sentence in (
        refused("segment", "--model", model, "--input", dataset.image(), "--output", out),
        refused(*finetuning, "--parent", model),
    ):
        assert str(model) in sentence
        assert what in sentence
        assert sentence.endswith(remedy)
    assert not out.exists()
    assert files_in(tmp_path / "run") == {"events.jsonl"}


def test_segmenting_names_the_image_and_both_numbers_of_channels(dataset, make_model, refused, files_in, tmp_path):
    words = ["segment", "--model", make_model(("T1", "FLAIR")), "--output", tmp_path / "out", "--input"]
    sentence = refused(*words, dataset.image())
    assert f"{dataset.image()} has 1 channel, but model 'toy' takes 2 (T1, FLAIR). Give exactly these" in sentence
    four_d = dataset.write(tmp_path / "four_d.nii.gz", dataset.intensities(shape=(3, 12, 14, 16)))
    assert f"{four_d} has 3 channels, but model 'toy' takes 2" in refused(*words, four_d)
    files = [dataset.image(), dataset.image("b"), dataset.image("b")]
    assert f"{files[0]} and 2 more files have 3 channels, but model 'toy' takes 2" in refused(*words, *files)
    assert files_in(tmp_path / "out") == set()


def test_a_parent_with_other_channels_than_the_dataset(make_model, finetuning, refused, files_in, tmp_path):
    sentence = refused(*finetuning, "--parent", make_model(("T1", "FLAIR")))
    assert "Model 'toy' takes 2 channels, the dataset has 1. Choose a dataset with 2 channels, or a parent" in sentence
    assert not [name for name in files_in(tmp_path / "run") if "checkpoint" in name or "s3dmodel" in name]


def test_a_model_that_only_reconstructs_cannot_segment(dataset, make_model, refused, tmp_path):
    model = make_model(kind="pretrained", labels=())
    sentence = refused("segment", "--model", model, "--input", dataset.image(), "--output", tmp_path / "out")
    assert "Model 'toy' is only pre-trained" in sentence
    assert sentence.endswith("Fine-tune it first (s3d finetune).")
    assert not (tmp_path / "out").exists()


def test_a_card_that_contradicts_itself(make_model, refused):
    model = make_model()
    card = model / "model.json"
    card.write_text(card.read_text().replace('"output_channels": 3', '"output_channels": 4'))
    sentence = refused("models show", "--model", model)
    assert f"{model}: Model 'toy' names 2 labels but its network gives 4 classes with background" in sentence
    assert sentence.endswith("the bundle is inconsistent. Export the model again.")


def test_weights_of_another_network(dataset, make_model, refused, tmp_path):
    model = make_model(labels=(Label(value=1, name="head"), Label(value=2, name="tail")))
    card = model / "model.json"
    card.write_text(card.read_text().replace('"features": [\n      4,', '"features": [\n      5,'))
    sentence = refused("segment", "--model", model, "--input", dataset.image(), "--output", tmp_path / "out")
    assert "The weights of model 'toy' do not fit its network: " in sentence
    assert sentence.endswith("get it anew or export it again.")
