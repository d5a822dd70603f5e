import pytest

from s3d.errors import CheckpointError
from s3d.interop.adaptation_plan import AdaptationPlan, check_plan, make_plan, parse_plan
from s3d.models.presets import Architecture

SMALL = Architecture(features=(4, 6, 8, 8), blocks=(1, 2, 2, 2), decoder_convs=(1, 1, 1))


def changed(plan, **options):
    """The plan with other arguments of its network."""
    architecture = plan["architecture_plans"]
    return {**plan, "architecture_plans": {**architecture, "arch_kwargs": {**architecture["arch_kwargs"], **options}}}


def test_an_nnssl_plan_is_understood(plan):
    parsed = parse_plan(plan, "here")
    assert parsed.patch_size == (96, 128, 96)
    assert parsed.spacing_mm == (1.0, 1.0, 1.0)
    assert parsed.dataset == "Dataset745_OpenMind"
    check_plan(parsed, SMALL, "here")


def test_the_order_of_axes_is_read_and_usual_where_the_plan_is_silent(plan):
    pretraining = plan["pretrain_plan"]
    for given, expected in (([1, 0, 2], (1, 0, 2)), ([0, 1, 2], (0, 1, 2)), (None, (0, 1, 2))):
        turned = {**plan, "pretrain_plan": {**pretraining, "transpose_forward": given}}
        assert parse_plan(turned, "here").transpose_forward == expected


@pytest.mark.parametrize("architecture", [SMALL, Architecture(), Architecture(conv_bias=False)])
@pytest.mark.parametrize("spacing_mm", [(1.0, 2.0, 0.5), None])
def test_a_plan_of_ours_comes_back_and_fits(architecture, spacing_mm):
    parsed = parse_plan(make_plan(architecture, (64, 96, 32), spacing_mm, "mine"), "here")
    assert (parsed.patch_size, parsed.spacing_mm, parsed.dataset) == ((64, 96, 32), spacing_mm, "mine")
    check_plan(parsed, architecture, "here")


def test_the_papers_network_is_called_by_its_fixed_name():
    plan = make_plan(Architecture(input_channels=2), (160, 160, 160), (1, 1, 1), "mine")["architecture_plans"]
    assert (plan["arch_class_name"], plan["arch_kwargs"]) == ("ResEncL", None)


def test_a_plan_of_the_fixed_network_is_compared_with_resenc_l(plan):
    fixed = parse_plan({**plan, "architecture_plans": {"arch_class_name": "ResEncL", "arch_kwargs": None}}, "here")
    check_plan(fixed, Architecture(), "here")
    with pytest.raises(CheckpointError, match="n_stages 6"):
        check_plan(fixed, SMALL, "here")


@pytest.mark.parametrize(
    "options",
    [
        {"features_per_stage": [4, 6, 8, 16]},
        {"n_blocks_per_stage": [1, 2, 2, 3]},
        {"kernel_sizes": [[1, 3, 3], [3, 3, 3], [3, 3, 3], [3, 3, 3]]},
        {"strides": [[1, 1, 1], [1, 2, 2], [2, 2, 2], [2, 2, 2]]},
        {"conv_bias": False},
        {"norm_op": "torch.nn.modules.batchnorm.BatchNorm3d"},
        {"nonlin": "torch.nn.ReLU"},
    ],
)
def test_a_plan_that_contradicts_the_weights_is_refused(plan, options):
    with pytest.raises(CheckpointError, match=f"here: .*{next(iter(options))}.*Choose another checkpoint"):
        check_plan(parse_plan(changed(plan, **options), "here"), SMALL, "here")


def test_other_input_channels_than_planned_are_refused(plan):
    with pytest.raises(CheckpointError, match="input channels 1"):
        check_plan(parse_plan(plan, "here"), Architecture(**{**vars(SMALL), "input_channels": 2}), "here")


@pytest.mark.parametrize(
    "options", [{"strides": [1, 2, 2, 2]}, {"kernel_sizes": 3}, {"n_blocks_per_stage": (1, 2, 2, 2)}]
)
def test_short_forms_of_the_official_arguments_are_understood(plan, options):
    check_plan(parse_plan(changed(plan, **options), "here"), SMALL, "here")


@pytest.mark.parametrize("network", ["PrimusM", "PlainConvUNet"])
def test_other_networks_are_refused_by_name(plan, network):
    with pytest.raises(CheckpointError, match=f"here holds a {network} network; only ResEnc U-Nets"):
        parse_plan({**plan, "architecture_plans": {"arch_class_name": network}}, "here")


@pytest.mark.parametrize(
    "damage", [{"architecture_plans": {}}, {"recommended_downstream_patchsize": [96, 96]}, {"pretrain_plan": [1]}]
)
def test_a_plan_that_cannot_be_understood_is_told(plan, damage):
    with pytest.raises(CheckpointError, match="cannot be understood"):
        parse_plan({**plan, **damage}, "here")


def test_a_plan_without_details_gets_the_usual_values():
    parsed = parse_plan({"architecture_plans": {"arch_class_name": "ResEncL"}}, "here")
    assert parsed == AdaptationPlan(network="ResEncL")


def test_images_that_kept_their_spacing_are_told_apart(plan):
    configurations = {"noresample": {"spacing": None}}
    assert parse_plan({**plan, "pretrain_plan": {"configurations": configurations}}, "here").spacing_mm is None
