import dataclasses

import numpy as np
import pytest
import torch

from s3d.errors import BundleError, ConfigError
from s3d.inference.network import check_window, network_of


def test_the_network_holds_the_bundles_weights_and_never_learns(make_bundle):
    bundle = make_bundle()
    network = network_of(bundle)
    assert not network.training
    for name, value in network.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), bundle.weights[name])
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_loading_draws_no_random_numbers(make_bundle):
    bundle = make_bundle()
    before = torch.random.get_rng_state()
    network_of(bundle)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_deep_supervision_is_left_out_when_segmenting(make_bundle):
    plain = make_bundle()
    deep = make_bundle(architecture=dataclasses.replace(plain.description.architecture, deep_supervision=True))
    volume = torch.randn(1, 1, 8, 8, 8)
    torch.testing.assert_close(network_of(deep)(volume), network_of(plain)(volume))


def test_a_pretrained_bundle_is_refused_with_the_way_on(make_bundle):
    bundle = make_bundle(kind="pretrained", labels=())
    with pytest.raises(BundleError, match=r"'toy' is only pre-trained.*s3d finetune"):
        network_of(bundle)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("encoder.stem.convs.0.conv.weight"), r"encoder\.stem\.convs\.0\.conv\.weight is missing"),
        (lambda w: w.update(extra=np.zeros(1)), r"extra is unexpected"),
        (
            lambda w: w.update({"encoder.stem.convs.0.conv.bias": np.zeros(9)}),
            r"encoder\.stem\.convs\.0\.conv\.bias has shape \(9,\) instead of \(4,\)",
        ),
        (lambda w: w.clear(), r"is missing; .* is missing; .* is missing, and \d+ more\. The bundle is damaged"),
    ],
)
def test_weights_that_do_not_fit_are_named(make_bundle, change, message):
    bundle = make_bundle()
    change(bundle.weights)
    with pytest.raises(BundleError, match=message):
        network_of(bundle)


@pytest.mark.parametrize("window", [(12, 16, 16), (8, 8, 8)])
def test_a_window_the_network_cannot_halve_is_refused(window):
    with pytest.raises(ConfigError, match=r"must be a multiple of 8 voxels.*patch_size"):
        check_window(window, 8)


@pytest.mark.parametrize("window", [(8, 8, 16), (160, 160, 160)])
def test_any_window_of_whole_strides_will_do(window):
    check_window(window, 8)
