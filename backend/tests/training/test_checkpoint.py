"""A checkpoint is whole or absent, and holds everything that the next step depends on."""

import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from s3d.errors import CheckpointError, StorageError
from s3d.training import checkpoint as checkpoint_module
from s3d.training.checkpoint import Checkpoint
from s3d.training.device import choose_device
from s3d.training.optimizers import PROFILES, set_learning_rate
from s3d.training.schedules import Stage
from s3d.training.state import TrainingState

CPU = choose_device("cpu", "fp32")
HEAD = Stage(name="head", steps=1, shape="constant", trained=("1.",))
ALL = Stage(name="all", steps=1, shape="constant")


def fresh_state(profile: str, seed: int = 0, width: int = 3) -> TrainingState:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Conv3d(1, width, 3), nn.Conv3d(width, 1, 1))
    return TrainingState.start(model, PROFILES[profile], CPU)


def do_steps(state: TrainingState, steps: int, stage: Stage = ALL) -> None:
    """A few optimiser steps on made-up losses; which one depends on the step's number only."""
    state.enter(stage)
    for _ in range(steps):
        set_learning_rate(state.optimizer, 0.01 / (1 + state.step))
        volume = torch.randn(2, 1, 4, 4, 4, generator=torch.Generator().manual_seed(state.step))
        state.model(volume).square().mean().backward()
        state.optimizer.step()
        state.optimizer.zero_grad()
        state.step += 1
        if state.average is not None:
            state.average.update(state.model)


def everything(state: TrainingState) -> dict[str, object]:
    """All that a state holds, as plain values that == compares."""
    found: dict[str, object] = {
        "step": state.step,
        "skipped": state.skipped_in_a_row,
        "best": state.best_score,
        "result": {name: value.tolist() for name, value in state.result().items()},
    }
    for name, parameter in state.model.named_parameters():
        found[name] = parameter.tolist()
        for key, value in state.optimizer.state.get(parameter, {}).items():
            found[f"{name} {key}"] = value.tolist() if isinstance(value, torch.Tensor) else value
    if state.average is not None:
        values, found["updates"] = state.average.state()
        found["average"] = {name: value.tolist() for name, value in values.items()}
    return found


@pytest.fixture
def checkpoint(tmp_path: Path) -> Checkpoint:
    return Checkpoint(tmp_path / "run" / "checkpoint.safetensors", {"seed": 1, "patch_size": (4, 4, 4)})


@pytest.mark.parametrize("profile", ["paper", "quick"])
@pytest.mark.parametrize("stage", [HEAD, ALL], ids=["partly frozen", "all trained"])
def test_what_is_saved_comes_back_and_the_next_steps_are_the_same(
    profile: str, stage: Stage, checkpoint: Checkpoint
) -> None:
    state = fresh_state(profile)
    do_steps(state, 3, stage)
    state.skipped_in_a_row, state.best_score, state.best_weights = 2, 0.1 + 0.2, state.current_weights()
    checkpoint.save(state)
    restored = fresh_state(profile, seed=9)
    assert everything(restored) != everything(state)
    assert checkpoint.restore(restored)
    assert everything(restored) == everything(state)
    for one in (state, restored):
        do_steps(one, 3)
    assert everything(restored) == everything(state)


def test_an_untouched_state_can_be_saved_and_restored(checkpoint: Checkpoint) -> None:
    state = fresh_state("quick")
    checkpoint.save(state)
    restored = fresh_state("quick", seed=9)
    checkpoint.restore(restored)
    assert everything(restored) == everything(state)
    assert restored.best_weights is None


def test_without_a_checkpoint_there_is_nothing_to_restore(checkpoint: Checkpoint) -> None:
    state = fresh_state("quick")
    before = everything(state)
    assert not checkpoint.restore(state)
    assert everything(state) == before


def test_the_file_is_plain_safetensors_with_names_a_person_can_read(checkpoint: Checkpoint) -> None:
    state = fresh_state("quick")
    do_steps(state, 1)
    checkpoint.save(state)
    with safe_open(checkpoint.path, framework="pt") as file:
        names = set(file.keys())
    assert {"model.0.weight", "optimizer.exp_avg.0.weight", "average.1.bias"} <= names


@pytest.fixture
def saved_twice(checkpoint: Checkpoint) -> tuple[Checkpoint, TrainingState]:
    """A checkpoint, and the state of one step later that is still to be saved."""
    state = fresh_state("quick")
    do_steps(state, 1)
    checkpoint.save(state)
    do_steps(state, 1)
    return checkpoint, state


def assert_still_at_step_1(checkpoint: Checkpoint) -> None:
    restored = fresh_state("quick")
    assert checkpoint.restore(restored)
    assert restored.step == 1
    assert [path.name for path in checkpoint.path.parent.iterdir()] == [checkpoint.path.name]


def test_a_write_that_breaks_off_leaves_the_checkpoint_before_it(
    saved_twice: tuple[Checkpoint, TrainingState], monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint, state = saved_twice

    def half(tensors: object, path: Path, metadata: object) -> None:
        save_file(tensors, path, metadata=metadata)  # type: ignore[arg-type]
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint_module, "save_file", half)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save(state)
    assert_still_at_step_1(checkpoint)


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Every longer file fails to be written, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_disk_that_takes_no_more_is_said_in_a_sentence(saved_twice: tuple[Checkpoint, TrainingState]) -> None:
    checkpoint, state = saved_twice
    with (
        largest_file(1000),
        pytest.raises(StorageError, match=r"checkpoint\.safetensors cannot be written .*File too large"),
    ):
        checkpoint.save(state)
    assert_still_at_step_1(checkpoint)


def test_what_killed_runs_left_is_cleaned_up_and_nothing_else(checkpoint: Checkpoint) -> None:
    checkpoint.save(fresh_state("quick"))
    folder = checkpoint.path.parent
    for name in (".writing-abc", ".writing-def"):
        (folder / name).mkdir()
        (folder / name / checkpoint.path.name).write_bytes(b"half")
    (folder / "previews").mkdir()
    checkpoint.clean_up()
    assert {path.name for path in folder.iterdir()} == {checkpoint.path.name, "previews"}
    Checkpoint(folder / "not there yet" / "checkpoint.safetensors", {}).clean_up()


@pytest.mark.parametrize(
    ("identity", "difference"),
    [
        ({"seed": 2, "patch_size": (4, 4, 4)}, "seed was 1, now 2"),
        ({"seed": 1, "patch_size": (4, 4, 8)}, r"patch_size was \[4, 4, 4\], now \[4, 4, 8\]"),
        ({"seed": 1}, r"patch_size was \[4, 4, 4\], now None"),
        ({"seed": 1, "patch_size": (4, 4, 4), "augment": True}, "augment was None, now True"),
    ],
)
def test_a_run_with_other_options_is_not_gone_on_with(
    identity: dict[str, object], difference: str, checkpoint: Checkpoint
) -> None:
    checkpoint.save(fresh_state("quick"))
    with pytest.raises(CheckpointError, match=f"{difference}. Choose another output folder"):
        Checkpoint(checkpoint.path, identity).restore(fresh_state("quick"))


def test_an_equal_identity_is_accepted_whether_tuples_or_lists(checkpoint: Checkpoint) -> None:
    checkpoint.save(fresh_state("quick"))
    assert Checkpoint(checkpoint.path, {"patch_size": [4, 4, 4], "seed": 1}).restore(fresh_state("quick"))


def test_a_checkpoint_of_another_network_is_refused(checkpoint: Checkpoint) -> None:
    checkpoint.save(fresh_state("quick"))
    torch.manual_seed(0)
    other = TrainingState.start(nn.Sequential(nn.Conv3d(1, 3, 3)), PROFILES["quick"], CPU)
    with pytest.raises(CheckpointError, match="network is not this one"):
        checkpoint.restore(other)
    with pytest.raises(CheckpointError, match="network is not this one"):
        checkpoint.restore(fresh_state("quick", width=4))


def damage_text(path: Path) -> None:
    path.write_text("not a checkpoint")


def damage_length(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


def damage_metadata(path: Path) -> None:
    save_file({"model.0.weight": torch.zeros(1)}, path)


def damage_all(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [damage_text, damage_length, damage_metadata, damage_all])
def test_a_damaged_file_is_refused_with_its_name(damage: Callable[[Path], None], checkpoint: Checkpoint) -> None:
    checkpoint.save(fresh_state("quick"))
    damage(checkpoint.path)
    with pytest.raises(CheckpointError, match=r"checkpoint\.safetensors is not a readable checkpoint .* Delete it"):
        checkpoint.restore(fresh_state("quick"))


def test_a_checkpoint_of_a_later_version_is_refused(checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint_module, "_SCHEMA", 2)
    checkpoint.save(fresh_state("quick"))
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match="another version of this program"):
        checkpoint.restore(fresh_state("quick"))
