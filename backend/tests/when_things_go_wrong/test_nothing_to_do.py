"""Empty and missing folders: every verb names the place and what belongs there."""

import json

import pytest

from s3d.data.case_record import SCHEMA_VERSION


@pytest.fixture
def nothing(tmp_path):
    """An empty folder."""
    folder = tmp_path / "nothing"
    folder.mkdir()
    return folder


def test_a_folder_without_dataset_json(refused, files_in, nothing, tmp_path):
    sentence = refused("finetune", "--dataset", nothing, "--output", tmp_path / "run")
    assert f"{nothing / 'dataset.json'} cannot be read (No such file or directory). Give the folder of a" in sentence
    assert files_in(tmp_path / "run") == {"events.jsonl"}


def test_a_dataset_without_cases(dataset, refused, files_in, tmp_path):
    for path in (dataset.folder).rglob("*.nii.gz"):
        path.unlink()
    sentence = refused("finetune", "--dataset", dataset.folder, "--output", tmp_path / "run")
    assert sentence == f"s3d finetune: {dataset.folder} holds no cases. Add images and labels, or check the path."
    assert files_in(tmp_path / "run") == {"events.jsonl"}


def test_an_msd_dataset_without_cases(refused, nothing, tmp_path):
    values = {"modality": {"0": "MRI"}, "labels": {"0": "background", "1": "head"}, "training": []}
    (nothing / "dataset.json").write_text(json.dumps(values))
    assert f"{nothing} holds no cases." in refused("finetune", "--dataset", nothing, "--output", tmp_path / "run")


def test_a_demo_of_too_few_cases(dataset, refused, files_in, tmp_path):
    sentence = refused("demo", "--data", dataset.folder, "--output", tmp_path / "demo")
    assert f"{dataset.folder} has 2 cases, the demo needs 20. Give more, or smaller training_cases" in sentence
    assert files_in(tmp_path / "demo") == set()


@pytest.mark.usefixtures("nothing")
@pytest.mark.parametrize("source", ["nothing", "absent"])
def test_a_catalogue_of_nothing(refused, files_in, tmp_path, source):
    sentence = refused("catalog", "--source", tmp_path / source, "--output", tmp_path / "out" / "catalog.jsonl")
    assert str(tmp_path / source) in sentence
    assert files_in(tmp_path) == set()


def test_a_catalogue_that_keeps_nothing_cannot_be_preprocessed(dataset, s3d, refused, files_in, tmp_path):
    listed = tmp_path / "catalog.jsonl"
    assert s3d("catalog", "--source", dataset.folder / "imagesTr", "--output", listed).code == 0
    sentence = refused("preprocess", "--catalog", listed, "--output", tmp_path / "store")
    assert f"{listed} keeps no image; its summary says why. Change the filters or the source." in sentence
    assert files_in(tmp_path / "store") == set()


def test_a_folder_that_is_no_store(refused, files_in, nothing, tmp_path):
    sentence = refused("pretrain", "--store", nothing, "--output", tmp_path / "run")
    assert f"{nothing} is not a case store" in sentence
    assert sentence.endswith("Give the folder that `s3d preprocess` wrote.")
    assert files_in(tmp_path / "run") == {"events.jsonl"}


def test_a_store_without_cases(refused, files_in, nothing, tmp_path):
    (nothing / "store.json").write_text(json.dumps({"schema_version": SCHEMA_VERSION}))
    sentence = refused("pretrain", "--store", nothing, "--output", tmp_path / "run")
    assert f"The case store {nothing} is empty. Preprocess some cases into it first." in sentence
    assert files_in(tmp_path / "run") == {"events.jsonl"}


@pytest.mark.usefixtures("nothing")
@pytest.mark.parametrize(("source", "what"), [("nothing", "holds no image"), ("absent", "There is no file or folder")])
def test_segmenting_nothing(make_model, refused, files_in, tmp_path, source, what):
    sentence = refused("segment", "--model", make_model(), "--input", tmp_path / source, "--output", tmp_path / "out")
    assert what in sentence
    assert str(tmp_path / source) in sentence
    assert files_in(tmp_path / "out") == set()


def test_scoring_nothing(dataset, refused, files_in, nothing, tmp_path):
    references = dataset.folder / "labelsTr"
    words = ["evaluate", "--references", references, "--output", tmp_path / "scores", "--predictions"]
    assert f"No file in {nothing} (no image files) has the name of one in {references} (a, b)." in refused(
        *words, nothing
    )
    assert f"There is no folder {tmp_path / 'absent'}. Check the path." in refused(*words, tmp_path / "absent")
    assert files_in(tmp_path / "scores") == set()
