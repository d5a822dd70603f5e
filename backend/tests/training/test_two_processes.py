"""torchrun with two processes and half the batch each gives the weights of one process (fp32, 20 steps).

test_distributed.py checks the same of the bare loop, in seconds.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from s3d.bundle import load_bundle
from s3d.config import from_dict
from s3d.finetuning.config import FinetuneConfig
from s3d.finetuning.run import finetune
from s3d.models.presets import Architecture
from s3d.models.resenc_unet import ResEncUNet
from s3d.pretraining.config import PretrainConfig
from s3d.pretraining.run import pretrain
from s3d.progress import Progress, read_events

Options = dict[str, Any]
STEPS = 20


def alone(verb: str, options: Options, folder: Path) -> dict[str, np.ndarray]:
    """The weights one process ends with."""
    kind, function = {"pretrain": (PretrainConfig, pretrain), "finetune": (FinetuneConfig, finetune)}[verb]
    progress = Progress(folder / "events.jsonl")
    path = function(from_dict(kind, {**options, "output": str(folder)}), progress)
    progress.close()
    return load_bundle(path).weights


def has_an_effect(name: str) -> bool:
    """Whether a parameter can change the output. A normalisation takes the mean away, and so the bias before it."""
    return not name.endswith(".conv.bias")


def largest_deviation(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> tuple[float, str]:
    """Over all parameters with an effect: the largest difference relative to the parameter's largest weight.

    The gradient of the others is pure rounding error, which AdamW scales up to whole steps.
    """
    assert ours.keys() == theirs.keys()
    deviations = {name: float(np.abs(ours[name] - theirs[name]).max() / np.abs(theirs[name]).max()) for name in theirs}
    return max((deviation, name) for name, deviation in deviations.items() if has_an_effect(name))


def metrics(folder: Path) -> list[dict[str, Any]]:
    return [event for event in read_events(folder / "events.jsonl") if "learning_rate" in event]


def assert_one_process_equals_two(verb: str, options: Options, start: Callable[..., Any], folder: Path) -> None:
    options = {**options, "steps": STEPS, "output": str(folder / "two")}
    command = start(verb, options, processes=2)
    assert command.exit_code() == 0, command.said
    bundle = next((folder / "two").glob("*.s3dmodel"))
    deviation, name = largest_deviation(load_bundle(bundle).weights, alone(verb, options, folder / "one"))
    assert deviation <= 1e-5, name
    assert_only_the_first_process_wrote(command.said, bundle, folder)


def assert_only_the_first_process_wrote(said: str, bundle: Path, folder: Path) -> None:
    """One result line, events with gapless numbers, every step once, no file more than one process writes."""
    assert said.count(str(bundle)) == 1
    events = read_events(folder / "two" / "events.jsonl")
    assert [event["sequence"] for event in events] == list(range(1, len(events) + 1))
    assert [event["step"] for event in metrics(folder / "two")] == list(range(1, STEPS + 1))
    for ours, theirs in zip(metrics(folder / "two"), metrics(folder / "one"), strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-5)
    files = [
        sorted(str(path.relative_to(folder / run)) for path in (folder / run).rglob("*")) for run in ("one", "two")
    ]
    assert files[0] == files[1]


def test_biases_before_a_normalisation_have_no_effect() -> None:
    """Why the comparison may leave them out."""
    torch.manual_seed(0)
    network = ResEncUNet(Architecture(features=(4, 8), blocks=(1, 1), decoder_convs=(1,))).double()
    volume = torch.randn(1, 1, 8, 8, 8, dtype=torch.float64)
    before = network(volume)
    without_effect = [value for name, value in network.named_parameters() if not has_an_effect(name)]
    assert len(without_effect) == 6
    with torch.no_grad():
        for bias in without_effect:
            bias.add_(torch.randn_like(bias))
    torch.testing.assert_close(network(volume), before)


@pytest.mark.slow
@pytest.mark.parametrize(("profile", "accumulate"), [("paper", 1), ("paper", 2), ("quick", 1)])
def test_two_processes_pretrain_as_one(
    profile: str, accumulate: int, pretraining_options: Options, start: Any, tmp_path: Path
) -> None:
    options = {**pretraining_options, "batch_size": 4, "profile": profile, "accumulate": accumulate}
    assert_one_process_equals_two("pretrain", options, start, tmp_path)


@pytest.mark.slow
def test_two_processes_finetune_with_dice_over_the_whole_batch_as_one(
    finetuning_options: Options, start: Any, tmp_path: Path
) -> None:
    options = {**finetuning_options, "batch_size": 4, "profile": "paper"}
    assert_one_process_equals_two("finetune", options, start, tmp_path)


@pytest.mark.slow
def test_a_batch_that_two_processes_cannot_share_is_refused(
    pretraining_options: Options, start: Any, tmp_path: Path
) -> None:
    command = start("pretrain", {**pretraining_options, "batch_size": 3}, processes=2)
    assert command.exit_code() != 0
    assert "3 samples per forward pass cannot be shared equally by 2 processes" in command.said
    assert not list((tmp_path / "run").glob("*.s3dmodel"))
