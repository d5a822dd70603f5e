"""Bundles: what is written is read back; what is damaged is refused."""

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

from s3d import bundle as bundle_module
from s3d.bundle import BundleDescription, Channel, Label, load_bundle, read_description, save_bundle
from s3d.errors import BundleError
from s3d.models.presets import Architecture

WEIGHTS = {"encoder.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "bias": np.zeros(2, np.float32)}
DESCRIPTION = BundleDescription(
    name="hippocampus",
    kind="segmentation",
    architecture=Architecture(input_channels=2, output_channels=3),
    channels=(Channel(name="T1"), Channel(name="FLAIR")),
    patch_size=(160, 160, 160),
    labels=(Label(value=1, name="anterior", color=(255, 0, 0)), Label(value=7, name="posterior")),
    training={"scores": {"how": "none"}},
)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    save_bundle(tmp_path / "a.s3dmodel", DESCRIPTION, WEIGHTS)
    return tmp_path / "a.s3dmodel"


def test_a_bundle_comes_back_as_it_was_written(bundle: Path) -> None:
    loaded = load_bundle(bundle)
    assert loaded.description.labels == DESCRIPTION.labels
    assert loaded.description.architecture == DESCRIPTION.architecture
    assert "not a medical device" in loaded.description.disclaimer
    assert loaded.weights.keys() == WEIGHTS.keys()
    for name, value in WEIGHTS.items():
        np.testing.assert_array_equal(loaded.weights[name], value)


def test_a_zipped_bundle_reads_alike(bundle: Path, tmp_path: Path) -> None:
    archive = shutil.make_archive(str(tmp_path / "zipped"), "zip", bundle.parent, bundle.name)
    assert load_bundle(Path(archive)).description == load_bundle(bundle).description


@pytest.mark.parametrize("member", ["model.json", "weights.safetensors"])
def test_a_member_that_unpacks_to_too_much_is_refused_unread(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, member: str
) -> None:
    """A zip of a few kilobytes can hold gigabytes of zeros."""
    archive = Path(shutil.make_archive(str(tmp_path / "zipped"), "zip", bundle.parent, bundle.name))
    size = (bundle / member).stat().st_size
    monkeypatch.setitem(bundle_module._LARGEST_BYTES, member, size)
    load_bundle(archive)
    monkeypatch.setitem(bundle_module._LARGEST_BYTES, member, size - 1)
    monkeypatch.setattr(zipfile.ZipFile, "read", lambda *_: pytest.fail("was read"))
    with pytest.raises(BundleError, match=rf"{member} in .* has {size} bytes unpacked, at most {size - 1} are read"):
        bundle_module._read_member(archive, member)


def test_a_card_of_more_than_4_mb_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model.json", " " * (4 * 2**20 + 1))
    with pytest.raises(BundleError, match="4194305 bytes unpacked"):
        read_description(tmp_path / "bomb.zip")


def test_two_members_of_one_name_are_refused(bundle: Path, tmp_path: Path) -> None:
    """Which one is the model? Programs differ in that."""
    archive = Path(shutil.make_archive(str(tmp_path / "zipped"), "zip", bundle.parent, bundle.name))
    with zipfile.ZipFile(archive, "a") as file:
        file.writestr("other.s3dmodel/model.json", "{}")
    with pytest.raises(BundleError, match=r"holds 2 files model\.json"):
        load_bundle(archive)


def test_the_id_is_a_hash_of_the_weights_alone(tmp_path: Path) -> None:
    first = save_bundle(tmp_path / "a.s3dmodel", DESCRIPTION, WEIGHTS)
    second = save_bundle(tmp_path / "b.s3dmodel", DESCRIPTION, dict(reversed(WEIGHTS.items())))
    changed = {**WEIGHTS, "bias": np.ones(2, np.float32)}
    third = save_bundle(tmp_path / "c.s3dmodel", DESCRIPTION, changed)
    assert first.id == second.id != third.id


def test_altered_weights_are_refused(bundle: Path) -> None:
    data = bytearray((bundle / "weights.safetensors").read_bytes())
    data[-1] ^= 1
    (bundle / "weights.safetensors").write_bytes(data)
    with pytest.raises(BundleError, match="damaged or was altered"):
        load_bundle(bundle)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema_version": 99}, "schema 99; this program reads schema 1"),
        ({"kind": "something"}, "choose one of 'pretrained', 'segmentation'"),
        ({"channels": [{"name": "T1"}]}, "names 1 channels but its network takes 2"),
        ({"labels": []}, "names 0 labels but its network gives 3 classes"),
        ({"surprise": 1}, "unknown key 'surprise'"),
        ({"patch_size": [160, 160, 100]}, "has the patch size (160, 160, 100)"),
        ({"patch_size": [160, 0, 160]}, "must be positive multiples of its network's total stride 32"),
        ({"patch_size": [160, -32, 160]}, "positive multiples"),
        ({"labels": [{"value": 1, "name": "a"}, {"value": 1, "name": "b"}]}, "has the label values [1, 1]"),
        ({"labels": [{"value": 0, "name": "a"}, {"value": 1, "name": "b"}]}, "must be distinct and not 0"),
        ({"labels": [{"value": 1, "name": "a"}, {"value": 2**31, "name": "b"}]}, "fit into 32 bits"),
        ({"mirror_axes": [0, 3]}, "mirrors along the axes (0, 3)"),
        ({"mirror_axes": [-1]}, "must be from 0 to 2"),
        ({"mirror_axes": [1, 1]}, "distinct"),
        ({"spacing_mm": [1.0, 0.0, 1.0]}, "has the spacing (1.0, 0.0, 1.0) mm"),
        ({"spacing_mm": [1.0, float("inf"), 1.0]}, "must be above 0"),
    ],
)
def test_a_card_that_does_not_fit_is_refused(bundle: Path, change: dict[str, object], message: str) -> None:
    card = json.loads((bundle / "model.json").read_text())
    (bundle / "model.json").write_text(json.dumps({**card, **change}))
    with pytest.raises(BundleError) as caught:
        read_description(bundle)
    assert message in str(caught.value)


def test_what_is_no_bundle_is_named(tmp_path: Path) -> None:
    (tmp_path / "text.zip").write_text("no zip")
    (tmp_path / "empty.s3dmodel").mkdir()
    (tmp_path / "broken.s3dmodel").mkdir()
    (tmp_path / "broken.s3dmodel" / "model.json").write_text("{")
    for name, message in (
        ("nowhere.s3dmodel", "no model bundle at"),
        ("text.zip", "neither a bundle folder nor a readable zip"),
        ("empty.s3dmodel", "not a whole model bundle"),
        ("broken.s3dmodel", "not valid JSON"),
    ):
        with pytest.raises(BundleError, match=message):
            read_description(tmp_path / name)


def test_the_ending_is_part_of_the_name(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"must end in \.s3dmodel"):
        save_bundle(tmp_path / "model", DESCRIPTION, WEIGHTS)
