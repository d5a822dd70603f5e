"""Run by test_distributed.py in each of two processes, and once alone for comparison: what the processes agree on.

Run as a script it writes what `measure` found to the safetensors file named on its command line.
"""

import sys
from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from unittest.mock import patch

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from s3d.data.patches import PatchBatch
from s3d.errors import InterruptedRunError
from s3d.training import distributed
from s3d.training.checkpoint import Checkpoint
from s3d.training.config import TrainingConfig
from s3d.training.device import choose_device
from s3d.training.distributed import (
    Processes,
    any_process,
    joined_processes,
    least_of_processes,
    sum_gradients,
    sum_over_processes,
    wait_for_all,
)
from s3d.training.interruption import StopRequest
from s3d.training.loop import Hook, Surroundings, train
from s3d.training.losses import dice_and_cross_entropy, masked_squared_error
from s3d.training.optimizers import PROFILES
from s3d.training.schedules import single_stage
from s3d.training.state import TrainingState

CPU = torch.device("cpu")
STOPPED_AFTER = 3


def measure(processes: Processes, folder: Path) -> dict[str, Tensor]:
    """Every number that must not depend on how many processes there are, by name."""
    found = _ratio_of_sums(processes) | _losses(processes) | _unused_parameter(processes)
    found["any"] = torch.tensor([any_process(processes.rank == processes.count - 1, CPU), any_process(False, CPU)])
    found["least"] = torch.tensor(least_of_processes(7 + processes.rank, CPU))
    return found | _whole_runs(processes, folder) | _stopped_run(processes, folder)


def _own(batch: Tensor, processes: Processes) -> Tensor:
    return batch.chunk(processes.count)[processes.rank]


def _random(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _ratio_of_sums(processes: Processes) -> dict[str, Tensor]:
    weight = nn.Parameter(torch.tensor([0.5, -2.0], dtype=torch.float64))
    samples = _own(_random(0, 4, 2), processes)
    value = sum_over_processes((samples * weight).square().sum()) / sum_over_processes((weight * samples).exp().sum())
    value.backward()  # type: ignore[no-untyped-call]
    sum_gradients([weight])
    assert weight.grad is not None
    return {"ratio": value.detach(), "ratio.gradient": weight.grad}


def _losses(processes: Processes) -> dict[str, Tensor]:
    found = {}
    image, counted = _random(1, 4, 1, 6, 6, 6), _random(2, 4, 1, 6, 6, 6) > 0.3
    classes = (_random(3, 4, 6, 6, 6) > 0.5).long()
    ignored = _random(4, 4, 6, 6, 6) > 1
    for name, channels in (("error", 1), ("dice", 2)):
        network = nn.Conv3d(1, channels, 3, padding=1, dtype=torch.float64)
        with torch.no_grad():
            for seed, parameter in enumerate(network.parameters()):
                parameter.copy_(_random(10 + seed, *parameter.shape))
        own = _own(image, processes)
        if name == "error":
            loss = masked_squared_error(network(own), own, _own(counted, processes))
        else:
            loss = dice_and_cross_entropy(network(own), _own(classes, processes), _own(ignored, processes))
        loss.backward()  # type: ignore[no-untyped-call]
        with patch.object(distributed, "_BUCKET_VALUES", 10):  # so that there are several
            sum_gradients(network.parameters())
        found[name] = loss.detach()
        for part, parameter in network.named_parameters():
            assert parameter.grad is not None
            found[f"{name}.{part}"] = parameter.grad
    return found


def _unused_parameter(processes: Processes) -> dict[str, Tensor]:
    """A frozen parameter between two trained ones has no gradient and gets none."""
    first, frozen, last = (nn.Parameter(torch.ones(3, dtype=torch.float64)) for _ in range(3))
    frozen.requires_grad_(False)
    loss = sum_over_processes((_own(_random(5, 4, 3), processes) * first * frozen * last).sum())
    loss.backward()  # type: ignore[no-untyped-call]
    sum_gradients([first, frozen, last])
    assert frozen.grad is None
    assert first.grad is not None
    return {"beside_frozen": first.grad}


def _batches_of(numbers: Iterator[Sequence[int]]) -> Generator[PatchBatch, None, None]:
    for own in numbers:
        images = [torch.randn(1, 4, 4, 4, generator=torch.Generator().manual_seed(number)) for number in own]
        yield PatchBatch(torch.stack(images), None, None, tuple(own), tuple(map(str, own)))


def _loss_of(model: nn.Module, batch: PatchBatch, _step: int) -> Tensor:
    return masked_squared_error(model(batch.image), batch.image, torch.ones_like(batch.image, dtype=torch.bool))


def _train(processes: Processes, folder: Path, config: TrainingConfig, stop: StopRequest, hook: Hook) -> TrainingState:
    """A run of the loop on four samples per step; stopped or not, its state."""
    torch.manual_seed(0)
    device = choose_device("cpu", "fp32")
    network = nn.Sequential(nn.Conv3d(1, 3, 3, padding=1), nn.LeakyReLU(), nn.Conv3d(3, 1, 3, padding=1))
    state = TrainingState.start(network, PROFILES["paper"], device)
    around = Surroundings(
        device=device,
        checkpoint=Checkpoint(folder / f"rank{processes.rank}" / "checkpoint.safetensors", {}),
        processes=processes,
        stop=stop,
        hooks=(hook,),
    )
    with suppress(InterruptedRunError):
        train(state, _batches_of, _loss_of, single_stage(config.steps, 0.01), config, around)
    return state


def _whole_runs(processes: Processes, folder: Path) -> dict[str, Tensor]:
    """The weights after twenty steps, in one and in two parts."""
    found = {}
    for parts in (1, 2):
        config = TrainingConfig(steps=20, batch_size=4, accumulate=parts)
        nothing = Hook(every=100, run=lambda _state: None)
        state = _train(processes, folder / f"whole{parts}", config, StopRequest(), nothing)
        found |= {f"whole{parts}.{name}": value for name, value in state.result().items()}
    return found


def _stopped_run(processes: Processes, folder: Path) -> dict[str, Tensor]:
    """Only the last process is asked to stop, after three steps; all must, and only the first writes."""
    stop = StopRequest()

    def ask(state: TrainingState) -> None:
        if processes.rank == processes.count - 1 and state.step == STOPPED_AFTER:
            stop.set()

    config = TrainingConfig(steps=10, batch_size=4)
    state = _train(processes, folder, config, stop, Hook(every=1, run=ask))
    return {"stopped_after": torch.tensor(state.step)}


if __name__ == "__main__":
    with joined_processes() as these:
        save_file(measure(these, Path(sys.argv[1])), Path(sys.argv[1]) / f"found{these.rank}.safetensors")
        wait_for_all()
