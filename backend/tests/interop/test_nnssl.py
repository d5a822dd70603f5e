import hashlib
import io
import json

import pytest
import torch
from safetensors.torch import load_file

from s3d.bundle import load_bundle
from s3d.errors import CheckpointError
from s3d.interop.key_map import with_aliases
from s3d.interop.nnssl import export_nnssl, import_nnssl, read_checkpoint
from s3d.models.presets import Architecture
from s3d.models.resenc_unet import ResEncUNet
from s3d.models.spark import SparkAutoencoder
from s3d.models.spark_options import NNSSL
from s3d.models.stem import replicate_stem

STEM = "encoder.stem.convs.0.conv.weight"
README = "---\nlicense: cc-by-4.0\ntags:\n- mri\n---\n# ResEnc-L pre-trained with S3D\n"


def saved(content, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, path)
    return path


def as_bytes(content):
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


@pytest.fixture
def published(s3d_checkpoint, plan):
    """As nnssl publishes: without optimiser and S3D's own parts, with a plan."""
    return {"network_weights": s3d_checkpoint["network_weights"], "nnssl_adaptation_plan": plan}


def test_a_local_s3d_checkpoint_becomes_a_bundle_with_the_trained_weights(tmp_path, trained, s3d_checkpoint):
    path = saved(s3d_checkpoint, tmp_path / "my_run" / "checkpoint_final.pth")
    report = import_nnssl(path, tmp_path / "models")
    assert report.path == tmp_path / "models" / "my_run.s3dmodel"
    bundle = load_bundle(report.path)
    assert bundle.description == report.description
    assert bundle.weights.keys() == trained.keys()
    assert all(torch.equal(torch.from_numpy(bundle.weights[name]), trained[name]) for name in trained)
    assert bundle.description.architecture == Architecture(
        features=(4, 6, 8, 8), blocks=(1, 2, 2, 2), decoder_convs=(1, 1, 1)
    )
    assert bundle.description.training["trainer"] == "VariableSparkMAETrainer_BS8"
    assert (report.missing, report.dropped) == ((), ())
    assert len(report.spark_parts) == 4 + 3 * 2


def test_the_imported_autoencoder_reconstructs_as_the_official_one(tmp_path, golden_folder):
    golden = load_file(golden_folder / "s3d_nnssl_geometry.safetensors")
    weights = {name.removeprefix("weight."): value for name, value in golden.items() if name.startswith("weight.")}
    report = import_nnssl(saved(weights, tmp_path / "official.pth"), tmp_path)
    bundle = load_bundle(report.path)
    spark = SparkAutoencoder(bundle.description.architecture, NNSSL)
    spark.load_state_dict({name: torch.from_numpy(value) for name, value in bundle.weights.items()})
    reconstruction = spark(golden["volume"].float(), golden["visible"].bool())
    torch.testing.assert_close(reconstruction.double(), golden["reconstruction"], rtol=0, atol=1e-4)


def test_differing_copies_are_counted_in_a_warning(tmp_path, published, trained):
    report = import_nnssl(saved(published, tmp_path / "a.pth"), tmp_path)
    doubled = [n for n in trained if n.startswith("encoder.") and n.split(".")[-2] in ("conv", "norm")]
    assert len(report.differing_aliases) == len(doubled)
    assert any(line.startswith(f"Warning: {len(doubled)} parameters are stored twice") for line in report.lines())
    tied = {
        "network_weights": with_aliases({n: v for n, v in trained.items() if n.startswith(("encoder.", "decoder."))})
    }
    assert import_nnssl(saved(tied, tmp_path / "b.pth"), tmp_path).warnings == ()


def test_several_channels_start_from_the_trained_stem(tmp_path, published, trained):
    """The official tools replicate the copy that was never trained (method.md section 0.4)."""
    report = import_nnssl(saved(published, tmp_path / "a.pth"), tmp_path)
    given = {name: torch.from_numpy(value) for name, value in load_bundle(report.path).weights.items()}
    untrained = published["network_weights"][STEM]
    assert not torch.allclose(given[STEM], untrained)

    one = ResEncUNet(report.description.architecture)
    one.load_state_dict({name: value for name, value in trained.items() if name.startswith(("encoder.", "decoder."))})
    three = ResEncUNet(Architecture(**{**vars(report.description.architecture), "input_channels": 3}))
    three.load_state_dict({**given, STEM: replicate_stem(given[STEM], 3, divide=True)})
    image = torch.randn(1, 1, 16, 16, 16)
    for found, expected in zip(three.encoder(image.expand(1, 3, 16, 16, 16)), one.encoder(image), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_the_plan_gives_patch_spacing_and_dataset(tmp_path, published):
    card = import_nnssl(saved(published, tmp_path / "a.pth"), tmp_path).description
    assert (card.patch_size, card.spacing_mm) == ((96, 128, 96), (1.0, 1.0, 1.0))
    assert card.training["dataset"] == "Dataset745_OpenMind"
    assert card.orientation == "LPS"


def test_of_a_local_checkpoint_the_card_names_the_file_and_its_hash_not_its_folder(tmp_path, published):
    path = saved(published, tmp_path / "private" / "checkpoint_final.pth")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    for source in (path, path.parent):
        card = import_nnssl(source, tmp_path / "models").description
        assert (card.training["source"], card.training["sha256"]) == ("checkpoint_final.pth", digest)
        assert "private" not in json.dumps(card.training)


def test_axes_that_were_put_in_another_order_are_told(tmp_path, published):
    published["nnssl_adaptation_plan"]["pretrain_plan"]["transpose_forward"] = [2, 0, 1]
    report = import_nnssl(saved(published, tmp_path / "a.pth"), tmp_path)
    assert any("axes in the order (2, 0, 1)" in warning for warning in report.warnings)


def test_name_licence_and_citation_can_be_given(tmp_path, published):
    published["citations"] = [{"name": "S3D", "apa_citations": ["Wald (2025)"]}]
    path = saved(published, tmp_path / "a.pth")
    plain = import_nnssl(path, tmp_path).description
    assert (plain.name, plain.licence, plain.citation) == ("a", "unspecified", "S3D: Wald (2025)")
    report = import_nnssl(path, tmp_path, name="mine", licence="CC-BY-4.0", citation="me")
    assert report.path == tmp_path / "mine.s3dmodel"
    assert (report.description.licence, report.description.citation) == ("CC-BY-4.0", "me")
    assert import_nnssl(path, tmp_path / "exact.s3dmodel").description.name == "exact"


def test_of_an_encoder_alone_the_bundle_holds_the_encoder_and_says_so(tmp_path, trained):
    encoder = {name: value for name, value in trained.items() if name.startswith("encoder.")}
    voco = with_aliases(encoder) | {"projector.0.weight": torch.zeros(8, 26), "projector.0.bias": torch.zeros(8)}
    report = import_nnssl(saved({"network_weights": voco}, tmp_path / "voco.pth"), tmp_path)
    assert load_bundle(report.path).weights.keys() == encoder.keys()
    assert set(report.dropped) == {"projector.0.weight", "projector.0.bias"}
    assert all(name.startswith("decoder.") for name in report.missing)
    assert "fine-tune with transfer encoder" in report.lines()[-1]


def test_a_decoder_of_another_kind_is_left_out_and_told(tmp_path, trained):
    other = dict(trained)
    name = "decoder.stages.0.convs.0.conv.weight"
    other[name] = other[name][:, :8]  # no skip connection
    report = import_nnssl(saved(other, tmp_path / "a.pth"), tmp_path)
    assert report.missing == (name,)
    assert {key for key in load_bundle(report.path).weights if key.startswith("decoder.")} == set()
    assert name in report.dropped


def test_an_encoder_that_is_not_whole_is_refused(tmp_path, trained):
    name = "encoder.stages.2.blocks.1.conv2.conv.weight"
    path = saved({key: value for key, value in trained.items() if key != name}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=rf"does not fit .*{name} missing or of another shape"):
        import_nnssl(path, tmp_path / "models")
    assert not (tmp_path / "models").exists()


def test_another_network_is_refused(tmp_path):
    path = saved({"network_weights": {"eva.blocks.0.attn.q_proj.weight": torch.zeros(2, 2)}}, tmp_path / "primus.pth")
    with pytest.raises(CheckpointError, match="Primus"):
        import_nnssl(path, tmp_path)


def test_a_plan_that_contradicts_the_weights_is_refused(tmp_path, published):
    published["nnssl_adaptation_plan"]["architecture_plans"] = {"arch_class_name": "ResEncL", "arch_kwargs": None}
    with pytest.raises(CheckpointError, match="n_stages 6"):
        import_nnssl(saved(published, tmp_path / "a.pth"), tmp_path)


def test_a_hub_repository_becomes_a_bundle_and_is_fetched_once(tmp_path, hub, trained, published, plan):
    del published["nnssl_adaptation_plan"]
    files = {
        "checkpoint_final.pth": as_bytes(published),
        "adaptation_plan.json": json.dumps(plan).encode(),
        "README.md": README.encode(),
    }
    hub.files["AnonRes/ResEncL-OpenMind-SPARK3D"] = files
    report = import_nnssl("AnonRes/ResEncL-OpenMind-SPARK3D", tmp_path)
    assert report.path.name == "ResEncL-OpenMind-SPARK3D.s3dmodel"
    assert torch.equal(torch.from_numpy(load_bundle(report.path).weights[STEM]), trained[STEM])
    card = report.description
    assert (card.licence, card.patch_size) == ("cc-by-4.0", (96, 128, 96))
    assert card.training["source"] == "huggingface:AnonRes/ResEncL-OpenMind-SPARK3D"
    assert card.training["commit"] == "0123456789abcdef0123456789abcdef01234567"
    import_nnssl(f"{hub.address}/AnonRes/ResEncL-OpenMind-SPARK3D/tree/main", tmp_path)
    assert len([request for request in hub.requests if request.startswith("GET")]) == 3


def test_a_single_file_of_a_hub_repository_becomes_a_bundle(tmp_path, hub, trained):
    hub.files["MIC-DKFZ/SSL3D-checkpoints"] = {"ResEnc-L/team/team_mae.pth": as_bytes(trained)}
    report = import_nnssl("MIC-DKFZ/SSL3D-checkpoints/ResEnc-L/team/team_mae.pth", tmp_path)
    assert report.path.name == "team_mae.s3dmodel"
    assert report.description.training["file"] == "ResEnc-L/team/team_mae.pth"
    assert report.description.licence == "unspecified"


@pytest.mark.parametrize("keep_spark", [True, False])
def test_an_exported_bundle_comes_back_the_same(tmp_path, s3d_checkpoint, published, keep_spark):
    content = {**s3d_checkpoint, "nnssl_adaptation_plan": published["nnssl_adaptation_plan"]}
    if not keep_spark:
        del content["spark_weights"]
    first = load_bundle(import_nnssl(saved(content, tmp_path / "a.pth"), tmp_path, citation="A (2025)\nB (2025)").path)
    export_nnssl(first, tmp_path / "exported" / "checkpoint_final.pth")
    report = import_nnssl(tmp_path / "exported", tmp_path)
    second = load_bundle(report.path)
    assert second.description.id == first.description.id
    for field in ("architecture", "channels", "spacing_mm", "patch_size"):
        assert getattr(second.description, field) == getattr(first.description, field)
    assert second.description.citation == "a: A (2025)\na: B (2025)"


def test_an_exported_bundle_has_every_official_name_and_equal_copies(tmp_path, published, s3d_checkpoint):
    bundle = load_bundle(import_nnssl(saved(published, tmp_path / "a.pth"), tmp_path).path)
    export_nnssl(bundle, tmp_path / "exported.pth")
    content = torch.load(tmp_path / "exported.pth", weights_only=True)
    assert list(content["network_weights"]) == list(s3d_checkpoint["network_weights"])
    assert read_checkpoint(tmp_path / "exported.pth").differing_aliases == ()
    plan = content["nnssl_adaptation_plan"]
    assert plan.keys() >= published["nnssl_adaptation_plan"].keys() - {"trainer_name"}
    assert torch.equal(
        content["network_weights"][plan["keys_to_in_proj"][0] + ".weight"], torch.from_numpy(bundle.weights[STEM])
    )
