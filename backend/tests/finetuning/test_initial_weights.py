"""What a fine-tuning takes over from its parent, tensor by tensor."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from s3d.bundle import Bundle, load_bundle
from s3d.errors import BundleError
from s3d.finetuning.config import FinetuneConfig
from s3d.finetuning.initial_weights import STEM_WEIGHT, TransferReport, initial_network, network_shape
from s3d.finetuning.strategies import Strategy, strategy_of

HEADS = "decoder.seg_layers."
Start = Callable[..., tuple[dict[str, Tensor], TransferReport, Strategy]]


@pytest.fixture
def start(options: Callable[..., FinetuneConfig]) -> Start:
    """Initial weights for labels and channels, from the bundle at a path, under a configuration."""

    def make(
        parent: Path | None, labels: tuple[str, ...] = ("Head", "Tail"), channels: int = 1, **changes: object
    ) -> tuple[dict[str, Tensor], TransferReport, Strategy]:
        config = options(parent=parent, **changes)
        bundle = None if parent is None else load_bundle(parent)
        kind = None if bundle is None else bundle.description.kind
        new_channels = bundle is not None and channels > len(bundle.description.channels)
        strategy = strategy_of(config, kind, new_channels)
        shape = network_shape(config, bundle, channels, len(labels))
        model, report = initial_network(shape, bundle, labels, strategy, config)
        return dict(model.named_parameters()), report, strategy

    return make


def equals(value: Tensor, bundle: Bundle, name: str) -> bool:
    given = bundle.weights.get(name)
    return given is not None and given.shape == tuple(value.shape) and np.array_equal(value.detach().numpy(), given)


@pytest.mark.parametrize(
    ("transfer", "prefixes"),
    [
        ("none", ()),
        ("encoder", ("encoder.",)),
        ("encoder_decoder", ("encoder.", "decoder.stages.", "decoder.transpconvs.")),
    ],
)
def test_exactly_what_is_transferred_equals_the_parent(
    transfer: str,
    prefixes: tuple[str, ...],
    start: Start,
    make_parent: Callable[..., Path],
) -> None:
    parent = make_parent()
    weights, report, _ = start(parent, transfer=transfer)
    fresh, _, _ = start(None)
    bundle = load_bundle(parent)
    for name, value in weights.items():
        if name.startswith(prefixes):
            assert equals(value, bundle, name), name
            assert name in report.transferred
        else:
            assert torch.equal(value, fresh[name]), f"{name} is as from scratch with the same seed"
            assert name not in report.transferred


def test_a_pretrained_parent_gives_its_encoder_and_a_finetuned_one_everything(
    start: Start, make_parent: Callable[..., Path]
) -> None:
    _, report, strategy = start(make_parent("pretrained"))
    assert strategy.transfer == "encoder"
    assert all(name.startswith("encoder.") for name in report.transferred)
    weights, report, strategy = start(make_parent("finetuned", labels={"Head": 3, "Tail": 300}))
    assert strategy.transfer == "encoder_decoder"
    assert set(report.transferred) == set(weights)


def test_rows_of_the_head_stay_with_their_labels_names(start: Start, make_parent: Callable[..., Path]) -> None:
    parent = make_parent(labels={"Head": 1, "Tail": 2, "Body": 3})
    given = load_bundle(parent).weights
    weights, report, _ = start(parent, labels=("Tail", "Neck", "Head"))
    fresh, _, _ = start(None, labels=("Tail", "Neck", "Head"))
    assert report.kept_labels == ("Tail", "Head")
    heads = [name for name in weights if name.startswith(HEADS)]
    assert heads
    for name in heads:
        value = weights[name].detach().numpy()
        old = given[name]
        np.testing.assert_array_equal(value[0], old[0])  # background
        np.testing.assert_array_equal(value[1], old[2])  # Tail
        np.testing.assert_array_equal(value[3], old[1])  # Head
        np.testing.assert_array_equal(value[2], fresh[name][2].detach().numpy())  # Neck is new


def test_a_pretrained_decoder_leaves_the_head_fresh(start: Start, make_parent: Callable[..., Path]) -> None:
    weights, report, _ = start(make_parent(), transfer="encoder_decoder")
    fresh, _, _ = start(None)
    assert report.kept_labels == ()
    assert all(torch.equal(weights[name], fresh[name]) for name in weights if name.startswith(HEADS))


@pytest.mark.parametrize(("stem", "share"), [("replicate", 1.0), ("replicate_divided", 1 / 3)])
def test_more_channels_get_the_parents_trained_stem(
    stem: str,
    share: float,
    start: Start,
    make_parent: Callable[..., Path],
) -> None:
    parent = make_parent()
    weights, report, _ = start(parent, channels=3, stem=stem)
    trained = torch.from_numpy(load_bundle(parent).weights[STEM_WEIGHT])
    for channel in range(3):
        torch.testing.assert_close(weights[STEM_WEIGHT][:, channel : channel + 1], trained * share)
    assert STEM_WEIGHT in report.transferred


def test_a_random_stem_is_fresh_and_the_rest_of_the_encoder_is_not(
    start: Start, make_parent: Callable[..., Path]
) -> None:
    parent = make_parent()
    weights, report, strategy = start(parent, channels=2, stem="random")
    fresh, _, _ = start(None, channels=2)
    assert torch.equal(weights[STEM_WEIGHT], fresh[STEM_WEIGHT])
    assert STEM_WEIGHT not in report.transferred
    assert strategy.train_stem_in_decoder_warm_up
    bundle = load_bundle(parent)
    assert all(equals(weights[n], bundle, n) for n in weights if n.startswith("encoder.") and n != STEM_WEIGHT)


def test_a_parent_with_more_channels_is_refused(start: Start, make_parent: Callable[..., Path]) -> None:
    parent = make_parent(labels={"Head": 3}, channels=("T1", "FLAIR"))
    with pytest.raises(BundleError, match=r"'parent' takes 2 channels, the dataset has 1\. Choose a dataset with 2"):
        start(parent)


def test_an_encoder_only_bundle_cannot_give_a_decoder(start: Start, make_parent: Callable[..., Path]) -> None:
    parent = make_parent(without="decoder.")
    _, report, _ = start(parent, transfer="encoder")
    assert report.transferred
    with pytest.raises(BundleError, match=r"no fitting weights for decoder\..*Choose transfer encoder"):
        start(parent, transfer="encoder_decoder")


@pytest.mark.parametrize("missing", [STEM_WEIGHT, "encoder.stages.1.blocks.0.conv1.conv.weight"])
def test_an_encoder_with_a_gap_is_refused(missing: str, start: Start, make_parent: Callable[..., Path]) -> None:
    with pytest.raises(BundleError, match=f"no fitting weights for {missing}. Choose another parent"):
        start(make_parent(without=missing))


def test_the_same_seed_gives_the_same_start_and_another_seed_another(
    start: Start,
) -> None:
    first, again, other = start(None)[0], start(None)[0], start(None, seed=1)[0]
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    assert not torch.equal(first[STEM_WEIGHT], other[STEM_WEIGHT])
