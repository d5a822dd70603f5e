"""What is frozen while a network learns stays so to the last bit."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from s3d.bundle import Bundle, load_bundle
from s3d.errors import InterruptedRunError
from s3d.finetuning.config import FinetuneConfig
from s3d.finetuning.initial_weights import STEM_WEIGHT, initial_network
from s3d.finetuning.material import Material
from s3d.finetuning.run import finetune
from s3d.progress import Progress
from s3d.training.interruption import StopRequest

Options = Callable[..., FinetuneConfig]
Gathered = Callable[[FinetuneConfig], Material]
StopAfter = Callable[[int], StopRequest]


def run(config: FinetuneConfig, stop: StopRequest | None = None) -> Bundle:
    return load_bundle(finetune(config, Progress(), stop))


def checkpoint_of(config: FinetuneConfig, group: str = "model", name: str = "final") -> dict[str, Tensor]:
    """Tensors of a training's checkpoint: model, or average."""
    tensors = load_file(config.output / name / "checkpoint.safetensors")
    return {key.removeprefix(f"{group}."): value for key, value in tensors.items() if key.startswith(f"{group}.")}


def initial_weights(config: FinetuneConfig, material: Material) -> dict[str, Tensor]:
    model, _ = initial_network(material.architecture, material.parent, material.label_names, material.strategy, config)
    return {name: value.detach() for name, value in model.named_parameters()}


def changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    return {name for name, value in before.items() if not torch.equal(value, after[name])}


@pytest.mark.parametrize("profile", ["quick", "paper"])
@pytest.mark.parametrize(
    ("channels", "more", "learns"),
    [
        (("T1",), {}, ()),
        (("T1", "T2"), {}, ()),
        (("T1", "T2"), {"freeze_stem": False}, ("encoder.stem.",)),
        (("T1", "T2"), {"stem": "random"}, ("encoder.stem.",)),
    ],
)
def test_the_decoder_warm_up_leaves_encoder_and_stem_bit_identical(
    profile: str,
    channels: tuple[str, ...],
    more: dict[str, Any],
    learns: tuple[str, ...],
    options: Options,
    gathered: Gathered,
    make_dataset: Callable[..., Path],
    make_parent: Callable[..., Path],
    stop_after: StopAfter,
) -> None:
    data = make_dataset(names=("a", "b"), channels=channels)
    config = options(dataset=data, parent=make_parent(), steps=88, profile=profile, **more)
    before = initial_weights(config, gathered(config))
    with pytest.raises(InterruptedRunError, match="after step 4 of 88"):  # 88 / 22: the whole decoder warm-up
        run(config, stop_after(4))
    for group in ["model", "average"] if profile == "quick" else ["model"]:
        moved = changed(before, checkpoint_of(config, group))
        assert all(name.startswith(("decoder.", *learns)) for name in moved)
        assert STEM_WEIGHT in moved or not learns
        assert any(name.startswith("decoder.stages.") for name in moved)
    with pytest.raises(InterruptedRunError, match="after step 5 of 88"):
        run(config, stop_after(1))
    assert STEM_WEIGHT in changed(before, checkpoint_of(config))


def test_a_frozen_encoder_is_the_parents_to_the_last_bit(options: Options, make_parent: Callable[..., Path]) -> None:
    parent = make_parent()
    result = run(options(parent=parent, steps=44, freeze_encoder=True))
    given = load_bundle(parent).weights
    for name, value in result.weights.items():
        if name.startswith("encoder."):
            np.testing.assert_array_equal(value, given[name])
    assert result.description.training["strategy"]["freeze_encoder"]


def test_a_new_stem_goes_on_learning_beside_a_frozen_encoder(
    options: Options, make_dataset: Callable[..., Path], make_parent: Callable[..., Path]
) -> None:
    data = make_dataset(names=("a", "b"), channels=("T1", "T2"))
    parent = make_parent()
    config = options(dataset=data, parent=parent, freeze_encoder=True, stem="random", decoder_warm_up=False)
    result, given = run(config), load_bundle(parent).weights
    fresh = run(dataclasses.replace(config, output=config.output / "fresh", learning_rate=1e-12))
    assert not np.allclose(result.weights[STEM_WEIGHT], fresh.weights[STEM_WEIGHT])
    inner = [name for name in given if name.startswith("encoder.stages.")]
    assert all(np.array_equal(result.weights[name], given[name]) for name in inner)
