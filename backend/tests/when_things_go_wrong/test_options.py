"""Options that do not exist or cannot be: told before anything is read or written."""

import json

import pytest

from s3d import cli
from s3d.models.presets import PRESETS


def test_an_unknown_key_of_the_file_names_the_key_it_might_be(refused, tmp_path):
    file = tmp_path / "run.json"
    file.write_text(json.dumps({"dataset": "d", "output": str(tmp_path / "run"), "learning_rat": 0.1}))
    sentence = refused("finetune", "--config", file)
    assert sentence == f"s3d finetune: {file}: unknown key 'learning_rat'. Did you mean 'learning_rate'?"
    assert not (tmp_path / "run").exists()


def test_an_unknown_key_like_no_other_lists_the_known_ones(refused, tmp_path):
    file = tmp_path / "run.json"
    file.write_text(json.dumps({"colour": "red"}))
    sentence = refused("models list", "--config", file)
    assert sentence == f"s3d models list: {file}: unknown key 'colour'. Known keys: folder."


def test_an_unknown_key_of_an_inner_object_is_named_with_its_place(refused, tmp_path):
    file = tmp_path / "run.json"
    values = {"dataset": "d", "output": str(tmp_path / "run"), "architecture": {"feature": [4, 8]}}
    file.write_text(json.dumps(values))
    assert f"{file}: architecture: unknown key 'feature'. Did you mean 'features'?" in refused(
        "finetune", "--config", file
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "is not valid JSON"),
        ("[1]", "holds a list, not an object with the options by name."),
        ('{"steps": "many"}', "steps is 'many'; a whole number is needed."),
        ('{"steps": true}', "steps is True; a whole number is needed."),
        ('{"patch_size": [8, 8]}', "patch_size is [8, 8]; 3 values are needed."),
        ('{"device": "gpu"}', "device is 'gpu'; choose one of 'auto', 'cpu', 'cuda', 'mps'."),
    ],
)
def test_a_file_that_cannot_be_understood_is_named_with_the_value(refused, tmp_path, text, words):
    file = tmp_path / "run.json"
    file.write_text(text)
    sentence = refused("finetune", "--config", file)
    assert str(file) in sentence
    assert words in sentence


@pytest.mark.parametrize("verb", ["finetune", "pretrain", "segment"])
def test_fp16_on_the_cpu_is_refused(verb, dataset, make_model, finetuning, refused, files_in, tmp_path):
    run = tmp_path / "run"
    words = {
        "finetune": finetuning,
        "pretrain": ["pretrain", "--store", tmp_path / "store", "--output", run],
        "segment": ["segment", "--model", make_model(), "--input", dataset.image(), "--output", run],
    }[verb]
    sentence = refused(*words, "--device", "cpu", "--precision", "fp16")
    assert sentence == (
        f"s3d {verb}: Precision fp16 does not work on the CPU. Choose fp32, or bf16 where `s3d doctor` names it."
    )
    assert files_in(run) <= {"events.jsonl"}


def test_a_device_that_is_not_here_is_refused(finetuning, refused, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    sentence = refused(*finetuning, "--device", "cuda")
    assert "No usable NVIDIA GPU was found. Choose device cpu, or mend the driver (see `s3d doctor`)." in sentence


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--patch-size", "9", "8", "8"], "9 x 8 x 8 voxels does not fit the network"),
        (["--patch-size", "0", "8", "8"], "patch_size is (0, 8, 8)"),
        (["--cases", "a", "c"], "has no case 'c'"),
        (["--spacing-mm", "0", "1", "1"], "spacing_mm is (0.0, 1.0, 1.0)"),
        (["--spacing-mm", "1", "-1", "1"], "spacing_mm is (1.0, -1.0, 1.0)"),
        (["--seed", "-1"], "seed is -1"),
        (["--batch-size", "3", "--accumulate", "2"], "choose an accumulate that divides it."),
    ],
)
def test_values_that_cannot_be_are_refused_with_a_sentence(finetuning, refused, files_in, tmp_path, words, told):
    assert told in refused(*finetuning, *words)
    assert not [name for name in files_in(tmp_path / "run") if "checkpoint" in name or "s3dmodel" in name]


def test_an_unknown_choice_lists_the_choices(finetuning, capsys, tmp_path):
    with pytest.raises(SystemExit) as caught:
        cli.main([*map(str, finetuning), "--preset", "huge"])
    assert caught.value.code == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "huge" in shown.err
    assert all(name in shown.err for name in PRESETS)
    assert not (tmp_path / "run").exists()
