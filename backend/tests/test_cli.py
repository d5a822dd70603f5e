"""The command `s3d`: options are the fields of the configs, failures are one sentence and an exit code."""

import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path

import pytest

from s3d import cli
from s3d.errors import S3DError, UserError
from s3d.finetuning.config import FinetuneConfig
from s3d.progress import Progress, read_events


def test_without_a_verb_the_verbs_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 0
    shown = capsys.readouterr().out
    for verb in ("catalog", "preprocess", "pretrain", "finetune", "segment", "evaluate", "models", "demo", "doctor"):
        assert verb in shown
    assert "not a medical device" in shown


def test_an_unknown_verb_is_wrong_use(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["fly"]) == 2
    assert "no verb 'fly'" in capsys.readouterr().err


def test_a_word_that_begins_several_verbs_lists_those(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["models"]) == 0
    shown = capsys.readouterr().out
    assert [line.split()[:2] for line in shown.splitlines() if line.startswith("  ")] == [
        ["models", "list"],
        ["models", "show"],
        ["models", "import"],
    ]
    assert cli.main(["models", "fly"]) == 2
    assert "no verb 'models fly'" in capsys.readouterr().err


def test_options_are_the_fields_of_the_config() -> None:
    parsed = cli.parse(
        "finetune", ["--dataset", "d", "--output", "o", "--patch-size", "32", "48", "32", "--folds", "3"]
    )
    assert parsed == FinetuneConfig(dataset=Path("d"), output=Path("o"), patch_size=(32, 48, 32), folds=3)


def test_a_file_gives_options_and_the_command_line_wins(tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    file.write_text(
        json.dumps(
            {"dataset": "d", "steps": 7, "architecture": {"features": [4, 8], "blocks": [1, 1], "decoder_convs": [1]}}
        )
    )
    parsed = cli.parse("finetune", ["--config", str(file), "--output", "o", "--steps", "9"])
    assert (parsed.dataset, parsed.output, parsed.steps) == (Path("d"), Path("o"), 9)
    assert parsed.architecture.features == (4, 8)


def test_the_file_of_options_may_stand_behind_an_equals_sign(tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    file.write_text(json.dumps({"dataset": "d", "output": "o", "steps": 7}))
    assert cli.parse("finetune", [f"--config={file}"]) == cli.parse("finetune", ["--config", str(file)])


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"s3d {importlib.metadata.version('s3d-backend')}\n"


@pytest.mark.parametrize("option", ["--labels", "--label-tolerances-mm"])
def test_a_name_given_twice_is_refused(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["evaluate", "--predictions", "p", "--references", "r", "--output", "o"]
    assert cli.main([*words, option, "A", "1", "B", "3", "A", "2", "--pictures", "0"]) == 2
    assert f"{option} names 'A' twice" in capsys.readouterr().err
    parsed = cli.parse("evaluate", [*words[1:], "--labels", "A", "1", "B", "3", "--label-tolerances-mm", "A", "1"])
    assert parsed.labels == {"A": 1, "B": 3}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["finetune", "--config", "nowhere.json"], "nowhere.json cannot be read"),
        (["finetune", "--config="], "--config needs the path of a JSON file"),
        (["models", "list", "--folder", "nowhere"], "There is no folder nowhere"),
        (["finetune", "--config"], "--config needs the path of a JSON file"),
        (["finetune", "--dataset", "d", "--output", "o", "--folds", "1"], "choose 0 for none, or 2 and more"),
        (["finetune", "--dataset", "nowhere", "--output", "o"], "nowhere"),
        (["models", "show", "--model", "nowhere.s3dmodel"], "no model bundle at nowhere.s3dmodel"),
        (["doctor", "--golden", "nowhere"], "nowhere holds no golden file"),
    ],
)
def test_wrong_use_is_one_sentence_and_exit_code_2(
    words: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(words) == 2
    shown = capsys.readouterr().err
    assert message in shown
    assert "Traceback" not in shown


def test_an_unknown_option_is_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["doctor", "--gold"])
    assert caught.value.code == 2
    assert "--gold" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "shown"),
    [
        (UserError("the disk is full"), 2, "the disk is full"),
        (S3DError("numbers differ"), 1, "numbers differ"),
        (ZeroDivisionError("division by zero"), 1, "our fault"),
        (MemoryError(), 2, "Memory ran out. Close other programs"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), 2, "Memory ran out. Close other programs"),
        (KeyboardInterrupt(), 130, "stopped"),
    ],
)
def test_exit_codes_tell_whose_fault_it_was(
    error: BaseException, code: int, shown: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_config: object, _progress: Progress) -> None:
        raise error

    monkeypatch.setattr("s3d.doctor.doctor", fail)
    assert cli.main(["doctor"]) == code
    assert shown in capsys.readouterr().err


def test_a_failing_run_leaves_its_sentence_among_its_events(tmp_path: Path) -> None:
    assert cli.main(["finetune", "--dataset", str(tmp_path / "nowhere"), "--output", str(tmp_path / "run")]) == 2
    last = read_events(tmp_path / "run" / "events.jsonl")[-1]
    assert last["kind"] == "error"
    assert last["code"] == "E_DATASET"
    assert "nowhere" in last["message"]


def test_only_the_first_of_several_processes_reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    cli.main(["finetune", "--dataset", str(tmp_path / "nowhere"), "--output", str(tmp_path / "run")])
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("rank", "shown"), [("0", "the result\n"), ("1", "")])
def test_only_the_first_of_several_processes_prints_the_result(
    rank: str, shown: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setattr("s3d.doctor.doctor", lambda _config, _progress: "the result")
    assert cli.main(["doctor"]) == 0
    assert capsys.readouterr().out == shown


def test_a_long_sentence_is_not_broken_outside_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    assert cli.main(["models", "show", "--model", f"/{'long' * 40}/[red]model.s3dmodel"]) == 2
    assert f"/{'long' * 40}/[red]model.s3dmodel" in capsys.readouterr().err


def test_help_keeps_the_names_of_things(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["pretrain", "--help"])
    assert "Self-supervised pre-training (S3D)." in capsys.readouterr().out


@pytest.mark.parametrize("verb", sorted(cli.VERBS))
def test_help_answers_without_torch(verb: str) -> None:
    code = (
        "import sys\nfrom s3d import cli\n"
        f"try:\n    cli.main({[*verb.split(), '--help']!r})\nexcept SystemExit as end:\n    assert end.code == 0\n"
        "assert 'torch' not in sys.modules, 'torch was imported'\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"usage: s3d {verb}" in done.stdout
