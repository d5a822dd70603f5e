import pytest
import torch
from torch.nn import functional

from s3d.errors import ConfigError
from s3d.masking import draw_visible, grow
from s3d.models.presets import Architecture
from s3d.models.resenc_unet import ResEncUNet
from s3d.models.spark import SparkAutoencoder
from s3d.models.spark_options import NNSSL, S3D, SPARSE, TABLE_2, SparkOptions

ARCHITECTURE = Architecture(features=(4, 6, 8), blocks=(1, 1, 1), decoder_convs=(1, 1))
ROWS = pytest.mark.parametrize("options", TABLE_2.values(), ids=TABLE_2.keys())


@pytest.fixture
def volume():
    return torch.randn(2, 1, 16, 16, 8, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def visible():
    """Blocks of 4 voxels, the bottleneck's; the samples hide 24 and 16 of 32."""
    return torch.cat([draw_visible((4, 4, 2), 0.75, [0]), draw_visible((4, 4, 2), 0.5, [1])])


def autoencoder(options, architecture=ARCHITECTURE):
    torch.manual_seed(0)
    return SparkAutoencoder(architecture, options)


def with_other_hidden_voxels(volume, visible):
    return torch.where(grow(visible, volume.shape), volume, volume + 100)


@ROWS
def test_reconstruction_does_not_depend_on_hidden_voxels(options, volume, visible):
    spark = autoencoder(options)
    changed = with_other_hidden_voxels(volume, visible)
    assert torch.equal(spark(changed, visible), spark(volume, visible))


@ROWS
def test_reconstruction_depends_on_visible_voxels(options, volume, visible):
    spark = autoencoder(options)
    changed = torch.where(grow(visible, volume.shape), volume.flip(2), volume)
    assert not torch.allclose(spark(changed, visible), spark(volume, visible))


@pytest.mark.parametrize("block", [4, 2])
def test_unmasked_input_leaks_hidden_voxels_through_the_stem(volume, block):  # the official code: method.md 0.1
    visible = draw_visible(tuple(size // block for size in volume.shape[-3:]), 0.75, [0, 1])
    changed = with_other_hidden_voxels(volume, visible)
    spark = autoencoder(NNSSL)
    assert not torch.allclose(spark(changed, visible), spark(volume, visible))


@ROWS
def test_every_row_of_table_2_trains(options, volume, visible):
    spark = autoencoder(options)
    optimizer = torch.optim.Adam(spark.parameters(), lr=0.01)
    smooth = functional.avg_pool3d(volume, 5, stride=1, padding=2) * 5
    hidden = ~grow(visible, volume.shape)
    losses = []
    for _ in range(30):
        loss = functional.mse_loss(spark(smooth, visible)[hidden], smooth[hidden])
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < 0.6 * losses[0]
    untouched = [name for name, value in spark.named_parameters() if value.requires_grad and value.grad is None]
    assert untouched == []


@ROWS
def test_each_row_of_table_2_adds_exactly_its_parameters(options):
    extra = set(autoencoder(options).state_dict()) - set(ResEncUNet(ARCHITECTURE).state_dict())
    tokens = {f"mask_tokens.{stage}" for stage in range(3)} if options.mask_token else set()
    projections = {f"densify_projs.{stage}.{kind}" for stage in (1, 2) for kind in ("weight", "bias")}
    assert extra == tokens | (projections if options.densify else set())


def test_resenc_l_has_as_many_extra_parameters_as_the_official_network():  # method.md section 3
    with torch.device("meta"):
        spark = SparkAutoencoder(Architecture())
    assert sum(token.numel() for token in spark.mask_tokens.parameters()) == 1_120
    assert sum(value.numel() for value in spark.densify_projs.parameters()) == 7_853_120


def test_a_batch_equals_its_samples_one_by_one(volume, visible):
    spark = autoencoder(S3D).double()
    one_by_one = [spark(volume[i : i + 1].double(), visible[i : i + 1]) for i in range(2)]
    torch.testing.assert_close(spark(volume.double(), visible), torch.cat(one_by_one), rtol=0, atol=1e-11)


def test_features_are_what_the_sparse_row_hands_to_its_decoder(volume, visible):
    spark = autoencoder(SPARSE)
    features = spark.features(volume, visible)
    assert torch.equal(spark.decoder(features), spark(volume, visible))
    assert [feature.shape[1] for feature in features] == [4, 6, 8]


def test_hidden_places_hold_the_token_and_nothing_else_where_it_is_filled(volume, visible):
    spark = autoencoder(SparkOptions(densify=False))
    handed_on = []
    spark.decoder.register_forward_pre_hook(lambda _, inputs: handed_on.extend(inputs[0]))
    spark(volume, visible)
    for filled, feature, token in zip(handed_on, spark.features(volume, visible), spark.mask_tokens, strict=True):
        shown = grow(visible, filled.shape)
        assert torch.equal(filled, torch.where(shown, feature, token))


def test_a_token_below_the_masks_resolution_gets_no_gradient(volume):  # method.md 0.2
    spark = autoencoder(NNSSL)
    visible = draw_visible((8, 8, 4), 0.6, [0, 1])
    spark(volume, visible).square().mean().backward()
    assert [bool(token.grad.any()) for token in spark.mask_tokens] == [True, True, False]


def test_the_plain_network_shares_its_parameters():
    spark = autoencoder(S3D)
    plain = spark.unet.state_dict()
    assert list(plain) == list(ResEncUNet(ARCHITECTURE).state_dict())
    assert all(plain[name].data_ptr() == spark.state_dict()[name].data_ptr() for name in plain)


def test_half_precision_stays_near_full_precision(volume, visible):
    spark = autoencoder(S3D)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = spark(volume, visible)
    half.float().square().mean().backward()
    full = spark(volume, visible)
    assert (half - full).std() < 0.05 * full.std()
    assert all(value.grad.isfinite().all() for value in spark.parameters() if value.requires_grad)


def test_several_channels_are_reconstructed_together(visible):
    architecture = Architecture(**{**vars(ARCHITECTURE), "input_channels": 2, "output_channels": 2})
    assert autoencoder(S3D, architecture)(torch.randn(2, 2, 16, 16, 8), visible).shape == (2, 2, 16, 16, 8)


@pytest.mark.parametrize("change", [{"output_channels": 3}, {"deep_supervision": True}])
def test_a_network_that_cannot_reconstruct_its_input_is_refused(change):
    with pytest.raises(ConfigError, match="as many output as input channels"):
        SparkAutoencoder(Architecture(**{**vars(ARCHITECTURE), **change}))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sparse": False}, "mask_token needs sparse"),
        ({"mask_token": False}, "densify needs mask_token"),
        ({"sparse": False, "mask_token": False, "densify": False, "mask_input": False}, "nothing would be hidden"),
    ],
)
def test_parts_without_what_they_build_on_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        SparkOptions(**options)
