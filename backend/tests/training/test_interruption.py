"""Ctrl-C: a polite stop with a checkpoint, a sentence and exit code 130; the same command goes on."""

import os
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from s3d.data.patches import PatchBatch
from s3d.errors import InterruptedRunError
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
    with pytest.raises(KeyboardInterrupt), stop_on_signals(StopRequest()):
        signal.raise_signal(signal.SIGINT)
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
