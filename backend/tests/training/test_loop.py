"""The one loop: restarts change nothing, parts of a batch add up, and what goes wrong is said."""

import dataclasses
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from s3d.data.patches import PatchBatch
from s3d.errors import (
    CheckpointError,
    ConfigError,
    InterruptedRunError,
    OutOfMemoryError,
    TrainingDivergedError,
)
from s3d.progress import Progress, read_events
from s3d.training.checkpoint import Checkpoint
from s3d.training.config import TrainingConfig
from s3d.training.device import choose_device
from s3d.training.distributed import Processes
from s3d.training.interruption import StopRequest
from s3d.training.loop import MOST_SKIPPED_IN_A_ROW, Hook, Surroundings, sample_numbers, train
from s3d.training.optimizers import PROFILES
from s3d.training.schedules import Schedule, Stage, single_stage
from s3d.training.state import TrainingState

STAGES = Schedule(
    (
        Stage(name="head", steps=4, shape="linear_warm_up", trained=("1.",)),
        Stage(name="all", steps=4, shape="linear_warm_up", fresh_optimizer=True),
        Stage(name="train", steps=6, shape="poly"),
    ),
    0.05,
)


def network() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Conv3d(1, 3, 3, padding=1), nn.Conv3d(3, 1, 3, padding=1))


def batches_of(numbers: Iterator[Sequence[int]]) -> Generator[PatchBatch, None, None]:
    """Sample i is noise made from i alone."""
    for own in numbers:
        images = [torch.randn(1, 4, 4, 4, generator=torch.Generator().manual_seed(number)) for number in own]
        yield PatchBatch(torch.stack(images), None, None, tuple(own), tuple(map(str, own)))


def loss_of(model: nn.Module, batch: PatchBatch, step: int) -> Tensor:
    prediction: Tensor = model(batch.image)
    return (prediction - batch.image * (1 + step % 3)).square().mean()


def run(
    folder: Path,
    schedule: Schedule = STAGES,
    stop: StopRequest | None = None,
    hooks: tuple[Hook, ...] = (),
    progress: Progress | None = None,
    loss: object = loss_of,
    **options: object,
) -> TrainingState:
    config = TrainingConfig(**{"steps": schedule.steps, "batch_size": 4, "log_every": 1, **options})  # type: ignore[arg-type]
    device = choose_device("cpu", "fp32")
    state = TrainingState.start(network(), PROFILES[config.resolved_profile], device)
    around = Surroundings(
        device=device,
        checkpoint=Checkpoint(folder / "checkpoint.safetensors", {"seed": config.seed}),
        stop=stop or StopRequest(),
        hooks=hooks,
        progress=progress or Progress(),
    )
    around.checkpoint.restore(state)
    train(state, batches_of, loss, schedule, config, around)  # type: ignore[arg-type]
    return state


def weights(state: TrainingState) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in state.model.named_parameters()}


def assert_same(first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


@pytest.mark.parametrize("profile", ["quick", "paper"])
@pytest.mark.parametrize("broken_after", [1, 3, 4, 6, 8, 13])
def test_a_broken_and_resumed_run_ends_bit_identical(profile: str, broken_after: int, tmp_path: Path) -> None:
    unbroken = run(tmp_path / "unbroken", profile=profile)
    request = StopRequest()
    stopper = Hook(every=broken_after, run=lambda _state: request.set())
    with pytest.raises(InterruptedRunError, match=f"after step {broken_after} of 14"):
        run(tmp_path / "broken", stop=request, hooks=(stopper,), profile=profile)
    resumed = run(tmp_path / "broken", profile=profile)
    assert resumed.step == 14
    assert_same(weights(unbroken), weights(resumed))
    assert_same(unbroken.result(), resumed.result())


def test_a_frozen_stage_changes_only_what_it_trains(tmp_path: Path) -> None:
    only_head = Schedule(STAGES.stages[:1], 0.05)
    before, after = (
        weights(TrainingState.start(network(), PROFILES["paper"], choose_device("cpu", "fp32"))),
        weights(run(tmp_path, only_head)),
    )
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"1.weight", "1.bias"}


@pytest.mark.parametrize("accumulate", [2, 4])
def test_working_through_a_batch_in_parts_gives_the_same_weights(accumulate: int, tmp_path: Path) -> None:
    whole = weights(run(tmp_path / "whole", profile="paper"))
    parts = weights(run(tmp_path / "parts", profile="paper", accumulate=accumulate))
    for name, value in whole.items():
        torch.testing.assert_close(parts[name], value, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("processes", "accumulate"), [(1, 1), (2, 1), (2, 2), (4, 1)])
def test_every_sample_number_is_drawn_once_whatever_the_number_of_processes(processes: int, accumulate: int) -> None:
    config = TrainingConfig(steps=5, batch_size=8, accumulate=accumulate)
    drawn = [
        number
        for rank in range(processes)
        for share in sample_numbers(config, Processes(rank, processes), 2, 5)
        for number in share
    ]
    assert sorted(drawn) == list(range(16, 40))


def test_a_batch_that_cannot_be_shared_is_refused() -> None:
    with pytest.raises(ConfigError, match="3 samples per forward pass cannot be shared equally by 2 processes"):
        next(sample_numbers(TrainingConfig(batch_size=3), Processes(0, 2), 0, 1))


def test_one_bad_step_is_skipped_and_leaves_the_weights_alone(tmp_path: Path) -> None:
    seen: list[dict[str, Tensor]] = []

    def sometimes_nan(model: nn.Module, batch: PatchBatch, step: int) -> Tensor:
        loss = loss_of(model, batch, step)
        return loss * float("nan") if step == 2 else loss

    state = run(
        tmp_path,
        single_stage(5, 0.01),
        loss=sometimes_nan,
        hooks=(Hook(every=1, run=lambda state: seen.append(weights(state))),),
    )
    assert_same(seen[1], seen[2])
    assert not torch.equal(seen[2]["0.weight"], seen[3]["0.weight"])
    assert state.skipped_in_a_row == 0


def test_more_than_twenty_bad_steps_in_a_row_stop_the_run(tmp_path: Path) -> None:
    def always_nan(model: nn.Module, batch: PatchBatch, step: int) -> Tensor:
        return loss_of(model, batch, step) * float("nan")

    with pytest.raises(TrainingDivergedError, match=f"last {MOST_SKIPPED_IN_A_ROW + 1} steps .* smaller learning_rate"):
        run(tmp_path, single_stage(100, 0.01), loss=always_nan)


@pytest.mark.parametrize(
    ("options", "remedy"),
    [
        ({"batch_size": 4}, r"4 sample\(s\) at a time\. Try accumulate 2 "),
        ({"batch_size": 6, "accumulate": 3}, r"2 sample\(s\) at a time\. Try accumulate 6 "),
        ({"batch_size": 4, "accumulate": 4}, r"Try a smaller patch_size"),
    ],
)
def test_out_of_memory_names_what_to_make_smaller(options: dict[str, int], remedy: str, tmp_path: Path) -> None:
    def too_large(_model: nn.Module, _batch: PatchBatch, _step: int) -> Tensor:
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 byte")

    with pytest.raises(OutOfMemoryError, match=remedy):
        run(tmp_path, loss=too_large, **options)


def test_other_runtime_errors_are_not_taken_for_a_lack_of_memory(tmp_path: Path) -> None:
    def broken(_model: nn.Module, _batch: PatchBatch, _step: int) -> Tensor:
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes do not match"):
        run(tmp_path, loss=broken)


def test_metrics_are_written_with_their_step(tmp_path: Path) -> None:
    progress = Progress(tmp_path / "events.jsonl")
    run(tmp_path, progress=progress)
    progress.close()
    metrics = [event for event in read_events(tmp_path / "events.jsonl") if event["kind"] == "metric"]
    assert [event["step"] for event in metrics] == list(range(1, 15))
    for event in metrics:
        assert event["learning_rate"] == pytest.approx(STAGES.rate_at(event["step"] - 1))
        assert {"loss", "images_per_second", "memory_mb"} <= event.keys()


def test_a_cancel_file_stops_the_run_with_a_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "cancel").write_text("")
    with pytest.raises(InterruptedRunError, match="after step 1 of 14"):
        run(tmp_path, stop=StopRequest(tmp_path))
    assert run(tmp_path, stop=StopRequest(tmp_path)).step == 14


def test_a_checkpoint_of_other_options_is_refused(tmp_path: Path) -> None:
    run(tmp_path)
    with pytest.raises(CheckpointError, match="seed was 0, now 1"):
        run(tmp_path, seed=1)


def test_a_damaged_checkpoint_is_refused(tmp_path: Path) -> None:
    run(tmp_path)
    file = tmp_path / "checkpoint.safetensors"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(CheckpointError, match="is not a readable checkpoint"):
        run(tmp_path)


def test_the_best_weights_survive_a_restart(tmp_path: Path) -> None:
    def choose(state: TrainingState) -> None:
        if state.best_score is None:
            state.best_score, state.best_weights = 0.5, state.current_weights()

    first = run(tmp_path, hooks=(Hook(every=5, run=choose),))
    again = run(tmp_path)
    assert again.best_score == 0.5
    assert_same(first.result(), again.result())
    assert not torch.equal(first.result()["0.weight"], first.current_weights()["0.weight"])


def test_training_configs_are_values() -> None:
    assert dataclasses.replace(TrainingConfig(), steps=3).steps == 3
