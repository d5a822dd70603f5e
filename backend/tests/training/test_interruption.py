"""Ctrl-C: a polite stop with a checkpoint, a sentence and exit code 130; the same command goes on."""

import os
import re
import signal
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from s3d.bundle import load_bundle
from s3d.config import from_dict
from s3d.data.patches import PatchBatch
from s3d.errors import InterruptedRunError
from s3d.finetuning.config import FinetuneConfig
from s3d.finetuning.run import finetune
from s3d.pretraining.config import PretrainConfig
from s3d.pretraining.run import pretrain
from s3d.progress import Progress, read_events
from s3d.training import interruption
from s3d.training.checkpoint import Checkpoint
from s3d.training.config import TrainingConfig
from s3d.training.device import choose_device
from s3d.training.interruption import StopRequest, stop_on_signals
from s3d.training.loop import Hook, Surroundings, train
from s3d.training.optimizers import PROFILES
from s3d.training.schedules import single_stage
from s3d.training.state import TrainingState

STEPS = 12


@pytest.fixture(autouse=True)
def _handlers_stay() -> Iterator[None]:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    yield
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_asks_and_interrupts_nothing(number: signal.Signals) -> None:
    request = StopRequest()
    with stop_on_signals(request):
        assert not request.is_set
        signal.raise_signal(number)
        assert request.is_set


def test_what_comes_again_within_a_second_is_the_same_press() -> None:
    """The terminal signals the whole group, then torchrun or the demo passes the signal on to its children."""
    request = StopRequest()
    with stop_on_signals(request):
        for number in (signal.SIGINT, signal.SIGINT, signal.SIGTERM, signal.SIGINT):
            signal.raise_signal(number)
        assert request.is_set


def test_a_second_press_later_stops_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interruption, "SAME_PRESS_SECONDS", 0.0)
    with stop_on_signals(StopRequest()):
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_termination_only_ever_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interruption, "SAME_PRESS_SECONDS", 0.0)
    with stop_on_signals(StopRequest()):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)


def test_in_a_thread_signals_are_left_to_the_main_thread() -> None:
    seen: list[object] = []

    def work() -> None:
        with stop_on_signals(StopRequest()):
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGINT)]


def test_a_file_named_cancel_is_a_request(tmp_path: Path) -> None:
    request = StopRequest(tmp_path)
    assert not request.is_set
    (tmp_path / interruption.CANCEL_FILE).touch()
    assert request.is_set
    assert not StopRequest().is_set


def batches_of(numbers: Iterator[Sequence[int]]) -> Generator[PatchBatch, None, None]:
    for own in numbers:
        images = [torch.randn(1, 4, 4, 4, generator=torch.Generator().manual_seed(number)) for number in own]
        yield PatchBatch(torch.stack(images), None, None, tuple(own), tuple(map(str, own)))


def loss_of(model: nn.Module, batch: PatchBatch, step: int) -> Tensor:
    prediction: Tensor = model(batch.image)
    return (prediction - batch.image * (1 + step % 3)).square().mean()


def run(folder: Path, hook: Callable[[TrainingState], None] | None = None) -> TrainingState:
    config = TrainingConfig(steps=STEPS, batch_size=2, save_every=1000)
    device = choose_device("cpu", "fp32")
    torch.manual_seed(1)
    state = TrainingState.start(nn.Conv3d(1, 1, 3, padding=1), PROFILES["quick"], device)
    around = Surroundings(
        device=device,
        checkpoint=Checkpoint(folder / "checkpoint.safetensors", {}),
        hooks=() if hook is None else (Hook(every=1, run=hook),),
    )
    around.checkpoint.restore(state)
    train(state, batches_of, loss_of, single_stage(STEPS, 0.01), config, around)
    return state


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_loop_stops_after_the_step_and_goes_on_bit_identical(number: signal.Signals, tmp_path: Path) -> None:
    def press(state: TrainingState) -> None:
        if state.step == 5:
            os.kill(os.getpid(), number)

    with pytest.raises(InterruptedRunError, match=rf"Stopped after step 5 of {STEPS}; .*checkpoint\.safetensors"):
        run(tmp_path, press)
    resumed, unbroken = run(tmp_path), run(tmp_path / "unbroken")
    assert resumed.step == STEPS
    for name, value in unbroken.result().items():
        assert torch.equal(resumed.result()[name], value)


def test_a_press_during_the_last_step_lets_the_run_end(tmp_path: Path) -> None:
    def press(state: TrainingState) -> None:
        if state.step == STEPS:
            signal.raise_signal(signal.SIGINT)

    assert run(tmp_path, press).step == STEPS


def count(text: str, events: Path) -> int:
    return events.read_text(encoding="utf-8").count(text) if events.exists() else 0


def run_here(options: dict[str, Any], folder: Path) -> str:
    """Pre-train in this process, in folder; the bundle's id."""
    path = pretrain(from_dict(PretrainConfig, {**options, "output": str(folder)}), Progress())
    return load_bundle(path).description.id


def test_ctrl_c_in_a_terminal_says_where_it_stopped_and_the_run_goes_on(
    pretraining_options: dict[str, Any], start: Any, tmp_path: Path
) -> None:
    options = {**pretraining_options, "steps": 80, "save_every": 1000}
    command = start("pretrain", options)
    command.wait_until(lambda: count("learning_rate", tmp_path / "run" / "events.jsonl") >= 3)
    command.press(signal.SIGINT)
    assert command.exit_code() == 130
    assert "Traceback" not in command.said
    stopped = re.search(r"Stopped after step (\d+) of 80; the same command goes on from (\S+)\.", command.said)
    assert stopped, command.said
    assert 3 <= int(stopped[1]) < 80
    assert Path(stopped[2]) == tmp_path / "run" / "checkpoint.safetensors"
    last = read_events(tmp_path / "run" / "events.jsonl")[-1]
    assert (last["kind"], last["code"]) == ("error", "E_INTERRUPTED")
    assert run_here(options, tmp_path / "run") == run_here(options, tmp_path / "unbroken")


@pytest.mark.slow
def test_ctrl_c_under_torchrun_leaves_a_checkpoint_that_ends_as_two_processes_would(
    pretraining_options: dict[str, Any], start: Any, tmp_path: Path
) -> None:
    options = {**pretraining_options, "steps": 60, "save_every": 1000}
    command = start("pretrain", options, processes=2)
    command.wait_until(lambda: count("learning_rate", tmp_path / "run" / "events.jsonl") >= 3)
    command.press(signal.SIGINT)
    assert command.exit_code() != 0
    assert "Stopped after step" in command.said
    assert (tmp_path / "run" / "checkpoint.safetensors").exists()
    for folder in ("run", "unbroken"):
        again = start("pretrain", {**options, "output": str(tmp_path / folder)}, processes=2)
        assert again.exit_code() == 0, again.said
    resumed, unbroken = (
        load_bundle(tmp_path / folder / "s3d-pretrained.s3dmodel").description.id for folder in ("run", "unbroken")
    )
    assert resumed == unbroken


@pytest.mark.slow
def test_ctrl_c_in_a_finetuning_leaves_finished_folds_alone(
    finetuning_options: dict[str, Any], start: Any, tmp_path: Path
) -> None:
    options = {**finetuning_options, "folds": 2, "steps": 40, "save_every": 1000}
    command = start("finetune", options)
    command.wait_until(lambda: count('"Train fold 1"', tmp_path / "run" / "events.jsonl") >= 1)
    first_fold = (tmp_path / "run" / "fold_0" / "checkpoint.safetensors").read_bytes()
    command.press(signal.SIGINT)
    assert command.exit_code() == 130
    assert re.search(r"Stopped after step \d+ of 40; .*fold_1.checkpoint\.safetensors", command.said), command.said
    again = start("finetune", options)
    assert again.exit_code() == 0, again.said
    assert (tmp_path / "run" / "fold_0" / "checkpoint.safetensors").read_bytes() == first_fold
    unbroken = finetune(from_dict(FinetuneConfig, {**options, "output": str(tmp_path / "unbroken")}), Progress())
    resumed = load_bundle(tmp_path / "run" / "s3d-finetuned.s3dmodel").description
    assert resumed.id == load_bundle(unbroken).description.id


@pytest.mark.slow
def test_ctrl_c_in_the_demo_ends_with_a_sentence_and_the_same_command_goes_on(
    dataset_folder: Path, start: Any, tmp_path: Path
) -> None:
    folder = tmp_path / "demo"
    options = {
        "data": str(dataset_folder), "output": str(folder), "preset": "tiny", "patch_size": [16, 16, 16],
        "training_cases": 2, "test_cases": 2, "pretraining_steps": 60, "finetuning_steps": 60,
    }  # fmt: skip
    networks = ("finetuned", "scratch")

    first = start("demo", options)
    first.wait_until(lambda: count("learning_rate", folder / "pretrained" / "events.jsonl") >= 1)
    first.press(signal.SIGINT)
    assert first.exit_code() == 130
    assert re.search(r"Stopped after step \d+ of 60; the same command goes on", first.said), first.said

    second = start("demo", options)
    second.wait_until(lambda: all(count("learning_rate", folder / name / "events.jsonl") for name in networks))
    second.press(signal.SIGINT)
    assert second.exit_code() == 130
    assert re.search(r"Stopped after \d+ of 120 steps of both trainings; the same command", second.said), second.said
    assert "Traceback" not in second.said
    for name in networks:
        log = (folder / name / "log.txt").read_text()
        assert "Stopped after step" in log.replace("\n", " "), log
        assert (folder / name / "final" / "checkpoint.safetensors").exists()

    third = start("demo", options)
    assert third.exit_code() == 0, third.said
    assert str(folder / "report.html") in third.said
    for name in ("pretrained", *networks):
        steps = [e["step"] for e in read_events(folder / name / "events.jsonl") if "learning_rate" in e]
        assert len(steps) == len(set(steps))
        assert max(steps) == 60
