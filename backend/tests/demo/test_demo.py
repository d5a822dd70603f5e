"""The whole demo through the command, tiny: from a dataset to a report, and again without doing the work twice."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from s3d import cli
from s3d.bundle import load_bundle
from s3d.progress import read_events

RUNS = ("pretrained", "finetuned", "scratch")
STEPS = 4


def words(folder: Path, *more: str) -> list[str]:
    return [
        "demo", "--data", str(folder), "--output", str(folder.parent / "demo"), "--preset", "tiny",
        "--patch-size", "8", "8", "8", "--training-cases", "2", "--test-cases", "2", "--unlabelled-cases", "4",
        "--pretraining-steps", str(STEPS), "--finetuning-steps", str(STEPS), *more,
    ]  # fmt: skip


def steps_taken(demo: Path) -> dict[str, list[int]]:
    """Steps that were computed, by run."""
    return {
        run: [event["step"] for event in read_events(demo / run / "events.jsonl") if "learning_rate" in event]
        for run in RUNS
    }


def results_in(shown: str) -> list[str]:
    """The lines that tell both means and their difference."""
    return [line.strip() for line in shown.splitlines() if line.strip().startswith(("Dice ", "NSD "))]


@pytest.mark.slow
def test_from_a_dataset_to_a_report_and_again_without_redoing_what_is_finished(
    make_dataset: Callable[..., Path], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder, demo = make_dataset(7), tmp_path / "demo"
    assert cli.main(words(folder)) == 0
    shown = capsys.readouterr()
    assert shown.out == f"{demo / 'report.html'}\n"
    for step in ("(1) Get the cases", "(2) Pre-train on 4", "(3) Fine-tune and train", "(4) Segment", "(5) Write"):
        assert step in shown.err
    page = (demo / "report.html").read_text(encoding="utf-8")
    results = results_in(shown.err)
    assert len(results) == 2
    assert all(f"<p>{result}.</p>" in page for result in results)
    assert page.count("<img ") == 6
    everything = list(range(1, STEPS + 1))
    assert steps_taken(demo) == dict.fromkeys(RUNS, everything)
    check_models(demo)
    assert len(list((demo / "segmentations" / "finetuned").iterdir())) == 2

    stored = {path: path.stat().st_mtime_ns for path in demo.rglob("*.b2nd")}
    (demo / "report.html").unlink()
    assert cli.main(words(folder)) == 0
    again = capsys.readouterr()
    assert [
        line.strip() for line in again.err.splitlines() if line.strip().startswith(("Dice 0.", "NSD 0."))
    ] == results
    assert steps_taken(demo) == dict.fromkeys(RUNS, everything), "a finished training went on"
    assert {path: path.stat().st_mtime_ns for path in demo.rglob("*.b2nd")} == stored
    assert (demo / "report.html").exists()


def check_models(demo: Path) -> None:
    """Both networks trained on the same cases for the same steps; only one of them has a parent."""
    parent, finetuned, scratch = (load_bundle(demo / run / f"demo-{run}.s3dmodel").description for run in RUNS)
    assert (finetuned.parent, scratch.parent) == (parent.id, None)
    assert finetuned.architecture == scratch.architecture
    for card in (finetuned, scratch):
        assert (card.training["cases"], card.training["steps"]) == (2, STEPS)
    configs = [json.loads((demo / run / "config.json").read_text()) for run in RUNS[1:]]
    assert configs[0]["cases"] == configs[1]["cases"]


@pytest.mark.slow
def test_a_training_that_fails_ends_the_demo_with_what_it_said(
    make_dataset: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """Labels are first opened by the fine-tuning, in a process of its own."""
    folder = make_dataset(7)
    for path in (folder / "labelsTr").iterdir():
        path.write_bytes(path.read_bytes()[:40])
    assert cli.main(words(folder, "--pretraining-steps", "1")) == 2
    err = capsys.readouterr().err
    (line,) = [line for line in err.splitlines() if line.startswith("s3d demo: ")]
    assert " failed: Case 'box_" in line
    assert str(folder / "labelsTr") in line
    assert "log.txt)" in line
    assert "Traceback" not in err
