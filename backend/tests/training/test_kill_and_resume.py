"""A run killed with SIGKILL at random moments and started again ends as if it had never stopped (CPU, fp32)."""

import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from s3d.bundle import load_bundle
from s3d.config import from_dict
from s3d.finetuning.config import FinetuneConfig
from s3d.finetuning.run import finetune
from s3d.pretraining.config import PretrainConfig
from s3d.pretraining.run import pretrain
from s3d.progress import Progress, read_events

Options = dict[str, Any]


def start_and_kill(
    start: Callable[[], Any], events: Path, times: int, chance: random.Random, lines_between: tuple[int, int]
) -> int:
    """Start, kill after a few new events and a moment more, as often as asked. Returns how often it was in time."""
    killed = 0
    for _ in range(times):
        wanted = count_lines(events) + chance.randint(*lines_between)
        command = start()
        command.wait_until(lambda wanted=wanted: count_lines(events) >= wanted)
        time.sleep(chance.uniform(0, 0.02))
        if command.is_running:
            command.kill()
            killed += 1
    return killed


def let_it_end(start: Callable[[], Any]) -> None:
    last = start()
    assert last.exit_code() == 0, last.said


def count_lines(events: Path) -> int:
    return events.read_bytes().count(b"\n") if events.exists() else 0


def run_here(verb: str, options: Options, folder: Path) -> str:
    """The same run in this process, in folder; its bundle's id, which is the hash of its weights."""
    kind, function = {"pretrain": (PretrainConfig, pretrain), "finetune": (FinetuneConfig, finetune)}[verb]
    progress = Progress(folder / "events.jsonl")
    path = function(from_dict(kind, {**options, "output": str(folder)}), progress)
    progress.close()
    return load_bundle(path).description.id


def losses(events: Path) -> dict[int, set[float]]:
    """All losses told for each step; a step done again after a kill is told again."""
    found: dict[int, set[float]] = {}
    for event in read_events(events):
        if "learning_rate" in event:
            found.setdefault(event["step"], set()).add(event["loss"])
    return found


def assert_whole_and_gapless(events: Path) -> None:
    assert events.read_bytes().endswith(b"\n")
    assert [event["sequence"] for event in read_events(events)] == list(range(1, count_lines(events) + 1))


def assert_nothing_half_written(folder: Path) -> None:
    assert not list(folder.rglob(".writing-*"))


def assert_same_run(one: Path, other: Path) -> None:
    assert losses(one / "events.jsonl") == losses(other / "events.jsonl")
    for folder in (one, other):
        assert_whole_and_gapless(folder / "events.jsonl")
        assert_nothing_half_written(folder)


def test_a_run_killed_once_and_gone_on_with_ends_bit_identical(
    pretraining_options: Options, start: Any, tmp_path: Path
) -> None:
    options, folder = {**pretraining_options, "steps": 30}, tmp_path / "run"
    killed = start_and_kill(lambda: start("pretrain", options), folder / "events.jsonl", 1, random.Random(0), (4, 16))
    assert killed == 1
    assert run_here("pretrain", options, folder) == run_here("pretrain", options, tmp_path / "unbroken")
    assert_same_run(folder, tmp_path / "unbroken")


@pytest.mark.slow
@pytest.mark.parametrize(("profile", "save_every"), [("quick", 1), ("quick", 3), ("paper", 2)])
def test_a_pretraining_killed_six_times_ends_bit_identical(
    profile: str, save_every: int, pretraining_options: Options, start: Any, tmp_path: Path
) -> None:
    options, folder = {**pretraining_options, "profile": profile, "save_every": save_every}, tmp_path / "run"

    def command() -> Any:
        return start("pretrain", options)

    killed = start_and_kill(command, folder / "events.jsonl", 6, random.Random(save_every), (2, 8))
    assert killed >= 3
    let_it_end(command)
    expected = run_here("pretrain", options, tmp_path / "unbroken")
    assert load_bundle(folder / "s3d-pretrained.s3dmodel").description.id == expected
    assert_same_run(folder, tmp_path / "unbroken")


@pytest.mark.slow
def test_a_finetuning_with_folds_killed_six_times_ends_bit_identical(
    finetuning_options: Options, start: Any, tmp_path: Path
) -> None:
    options, folder = {**finetuning_options, "folds": 2, "save_every": 3}, tmp_path / "run"

    def command() -> Any:
        return start("finetune", options)

    killed = start_and_kill(command, folder / "events.jsonl", 6, random.Random(4), (1, 16))
    assert killed >= 3
    let_it_end(command)
    expected = run_here("finetune", options, tmp_path / "unbroken")
    assert load_bundle(folder / "s3d-finetuned.s3dmodel").description.id == expected
    for name in ("scores.json", "scores.csv"):
        assert (folder / name).read_text() == (tmp_path / "unbroken" / name).read_text()
    assert_same_run(folder, tmp_path / "unbroken")
