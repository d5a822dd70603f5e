"""Half precision in the loop. fp16 is refused on the CPU for its users, but its scaler can be tried out there."""

from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from s3d.data.patches import PatchBatch
from s3d.errors import InterruptedRunError
from s3d.training.checkpoint import Checkpoint
from s3d.training.config import TrainingConfig
from s3d.training.device import Device
from s3d.training.interruption import StopRequest
from s3d.training.loop import Hook, Surroundings, train
from s3d.training.optimizers import PROFILES
from s3d.training.schedules import single_stage
from s3d.training.state import TrainingState

FP16 = Device(torch.device("cpu"), "fp16")
BF16 = Device(torch.device("cpu"), "bf16")
STEPS = 12


def batches_of(numbers: Iterator[Sequence[int]]) -> Generator[PatchBatch, None, None]:
    for own in numbers:
        images = [torch.randn(1, 6, 6, 6, generator=torch.Generator().manual_seed(number)) for number in own]
        yield PatchBatch(torch.stack(images), None, None, tuple(own), tuple(map(str, own)))


def loss_of(model: nn.Module, batch: PatchBatch, step: int) -> Tensor:
    prediction: Tensor = model(batch.image)
    assert prediction.dtype in (torch.float16, torch.bfloat16)
    return (prediction.float() - batch.image * (1 + step % 3)).square().mean()


def run(
    folder: Path, device: Device, hook: Callable[[TrainingState], None] | None = None, stop: StopRequest | None = None
) -> TrainingState:
    torch.manual_seed(1)
    state = TrainingState.start(nn.Conv3d(1, 1, 3, padding=1), PROFILES["quick"], device)
    around = Surroundings(
        device=device,
        checkpoint=Checkpoint(folder / "checkpoint.safetensors", {}),
        stop=stop or StopRequest(),
        hooks=() if hook is None else (Hook(every=1, run=hook),),
    )
    around.checkpoint.restore(state)
    config = TrainingConfig(steps=STEPS, batch_size=2)
    train(state, batches_of, loss_of, single_stage(STEPS, 0.01), config, around)
    return state


@pytest.mark.parametrize("device", [FP16, BF16], ids=["fp16", "bf16"])
@pytest.mark.parametrize("broken_after", [1, 4, 9])
def test_a_broken_and_resumed_run_ends_bit_identical(device: Device, broken_after: int, tmp_path: Path) -> None:
    unbroken, stop = run(tmp_path / "unbroken", device), StopRequest()

    def ask(state: TrainingState) -> None:
        if state.step == broken_after:
            stop.set()

    with pytest.raises(InterruptedRunError):
        run(tmp_path / "broken", device, ask, stop)
    resumed = run(tmp_path / "broken", device)
    assert resumed.scaler.state_dict() == unbroken.scaler.state_dict()
    for name, value in unbroken.result().items():
        assert value.dtype == torch.float32
        assert torch.equal(resumed.result()[name], value)


def test_a_scale_that_overflows_is_halved_and_just_that_step_left_out(tmp_path: Path) -> None:
    weights: list[Tensor] = []
    scales: list[float] = []

    def remember(state: TrainingState) -> None:
        if state.step == 6:
            state.scaler.update(2.0**18)
        scales.append(state.scaler.get_scale())
        weights.append(state.model.get_parameter("weight").detach().clone())

    run(tmp_path, FP16, remember)
    assert scales[5:8] == [2.0**18, 2.0**17, 2.0**16]
    for step in range(6, STEPS):
        left_out = scales[step] == scales[step - 1] / 2
        assert torch.equal(weights[step], weights[step - 1]) is left_out
    assert scales[-1] == scales[-2]
