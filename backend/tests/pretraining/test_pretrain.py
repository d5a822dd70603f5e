"""The verb `pretrain` on a tiny real store: it learns, its bundle is whole, and wrong use is one sentence."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from s3d.bundle import load_bundle
from s3d.data.case_record import StoreDescription
from s3d.data.case_store import CaseStore
from s3d.data.preprocessing import PreprocessingPlan
from s3d.errors import (
    CheckpointError,
    ConfigError,
    DatasetError,
    DeviceError,
    InterruptedRunError,
)
from s3d.models.presets import Architecture
from s3d.models.spark_options import TABLE_2
from s3d.pretraining.config import PretrainConfig
from s3d.pretraining.run import pretrain
from s3d.progress import Progress, read_events
from s3d.training.interruption import StopRequest

Options = Callable[..., PretrainConfig]
NETWORK = Architecture(features=(4, 8), blocks=(1, 1), decoder_convs=(1,))


def run(config: PretrainConfig) -> list[dict[str, Any]]:
    """Pre-train and return the events."""
    progress = Progress(config.output / "events.jsonl")
    try:
        pretrain(config, progress)
    finally:
        progress.close()
    return read_events(config.output / "events.jsonl")


def losses(events: list[dict[str, Any]]) -> list[float]:
    return [event["loss"] for event in events if "learning_rate" in event]


def error_of_zero(events: list[dict[str, Any]]) -> float:
    found: list[float] = [event["loss_of_predicting_zero"] for event in events if "loss_of_predicting_zero" in event]
    return found[0]


@pytest.fixture(scope="module")
def learnt(store: CaseStore, tmp_path_factory: pytest.TempPathFactory) -> tuple[PretrainConfig, list[dict[str, Any]]]:
    """Sixty quick steps: the options and the events."""
    config = PretrainConfig(
        store=store.folder,
        output=tmp_path_factory.mktemp("learnt") / "run",
        name="tiny",
        architecture=NETWORK,
        patch_size=(16, 16, 16),
        steps=60,
        batch_size=2,
        log_every=1,
        preview_every=40,
        device="cpu",
        precision="fp32",
    )
    return config, run(config)


def test_the_network_learns_what_is_hidden(learnt: tuple[PretrainConfig, list[dict[str, Any]]]) -> None:
    _, events = learnt
    told = losses(events)
    assert len(told) == 60
    assert 0.5 < error_of_zero(events) < 1.5  # images are z-scored, some patches reach beyond them
    assert np.mean(told[-10:]) < 0.75 * error_of_zero(events)
    assert np.mean(told[-10:]) < 0.75 * np.mean(told[:10])


def test_the_bundle_holds_the_network_its_tokens_and_a_full_card(
    learnt: tuple[PretrainConfig, list[dict[str, Any]]], store: CaseStore
) -> None:
    config, _ = learnt
    bundle = load_bundle(config.output / "tiny.s3dmodel")
    card = bundle.description
    assert (card.name, card.kind, card.architecture, card.patch_size) == ("tiny", "pretrained", NETWORK, (16, 16, 16))
    assert [channel.name for channel in card.channels] == ["MR"]
    assert (card.orientation, card.spacing_mm, card.normalization) == ("LPS", (1.0, 1.0, 1.0), "zscore")
    assert card.parent is None
    assert "CVPR 2025" in card.citation
    assert "not a medical device" in card.disclaimer
    assert (card.training["steps"], card.training["cases"], card.training["method"]) == (60, 4, "S3D")
    assert card.training["data_fingerprint"] == store.fingerprint()
    assert card.training["config"]["mask_ratio"] == [0.6, 0.9]
    assert card.training["versions"]["torch"]
    for name in ("mask_tokens.0", "mask_tokens.1", "densify_projs.1.weight", "encoder.stem.convs.0.conv.weight"):
        assert np.abs(bundle.weights[name]).max() > 0
    assert not [name for name in bundle.weights if "all_modules" in name]


def test_previews_are_pictures_that_the_events_name(learnt: tuple[PretrainConfig, list[dict[str, Any]]]) -> None:
    config, events = learnt
    told = [Path(event["path"]) for event in events if event["kind"] == "preview"]
    assert told == [config.output / "previews" / f"step-{step:07d}.png" for step in (40, 60)]
    for path in told:
        assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


def test_a_finished_run_called_again_trains_no_further(options: Options) -> None:
    config = options()
    run(config)
    first = load_bundle(config.output / "s3d-pretrained.s3dmodel").description.id
    events = run(config)
    assert len(losses(events)) == config.steps
    assert load_bundle(config.output / "s3d-pretrained.s3dmodel").description.id == first


def test_the_card_says_how_the_images_were_preprocessed(options: Options, tmp_path: Path) -> None:
    plan = PreprocessingPlan(orientation="as_stored", spacing_mm=None, normalization="none")
    store = CaseStore.create(tmp_path / "store", StoreDescription(plan=plan))
    store.write("case", np.random.default_rng(0).standard_normal((1, 16, 16, 16), dtype=np.float32))
    config = options(store=store.folder, steps=1)
    run(config)
    card = load_bundle(config.output / "s3d-pretrained.s3dmodel").description
    assert (card.orientation, card.spacing_mm, card.normalization) == ("as_stored", None, "none")


@pytest.mark.parametrize("row", TABLE_2)
def test_every_row_of_table_2_is_a_setting(row: str, options: Options) -> None:
    parts = TABLE_2[row]
    config = options(sparse=parts.sparse, mask_token=parts.mask_token, densify=parts.densify)
    assert np.isfinite(losses(run(config))).all()
    weights = load_bundle(config.output / "s3d-pretrained.s3dmodel").weights
    assert ("mask_tokens.0" in weights) is parts.mask_token
    assert ("densify_projs.1.weight" in weights) is parts.densify


@pytest.mark.parametrize("mask_ratio", [(0.3,), (0.45,), (0.6,), (0.75,), (0.9,), (0.6, 0.9)])
def test_every_mask_ratio_of_the_paper_is_a_setting(mask_ratio: tuple[float, ...], options: Options) -> None:
    assert np.isfinite(losses(run(options(mask_ratio=mask_ratio, steps=1)))).all()


def test_the_geometry_of_the_released_code_is_a_setting(options: Options) -> None:
    network = Architecture(features=(4, 8, 8), blocks=(1, 1, 1), decoder_convs=(1, 1))
    config = options(geometry="nnssl_compatible", architecture=network)
    assert (config.block, config.spark.mask_input) == (2, False)
    told = losses(run(config))
    other = losses(run(options(architecture=network, output=config.output.with_name("paper"))))
    assert np.isfinite(told).all()
    assert told[0] != other[0]


def test_anonymised_voxels_stay_out_of_the_loss(options: Options, tmp_path: Path) -> None:
    """A removed face is stored as huge values here: were a single one counted, every loss would be huge."""
    random = np.random.default_rng(0)
    store = CaseStore.create(tmp_path / "store")
    for number in range(2):
        image = random.standard_normal((1, 20, 20, 20), dtype=np.float32)
        excluded = np.zeros((20, 20, 20), bool)
        excluded[:, 12:] = True
        image[0][excluded] = 1e4
        store.write(f"case{number}", image, excluded=excluded)
    events = run(options(store=store.folder, augment=False, sparse=False, mask_token=False, densify=False))
    assert error_of_zero(events) == pytest.approx(1, abs=0.1)
    assert max(losses(events)) < 100


def test_bf16_runs_on_the_cpu_and_keeps_float32_weights(options: Options) -> None:
    config = options(precision="bf16")
    half, whole = losses(run(config)), losses(run(options(output=config.output.with_name("whole"))))
    assert half != whole
    assert half == pytest.approx(whole, rel=0.05)
    weights = load_bundle(config.output / "s3d-pretrained.s3dmodel").weights
    assert {value.dtype for value in weights.values()} == {np.dtype(np.float32)}


def test_a_request_stops_it_with_a_checkpoint_and_the_next_call_goes_on(options: Options) -> None:
    config, stop = options(steps=3), StopRequest()
    stop.set()
    with pytest.raises(InterruptedRunError, match=r"Stopped after step 1 of 3; .*checkpoint\.safetensors"):
        pretrain(config, Progress(), stop)
    assert not (config.output / "s3d-pretrained.s3dmodel").exists()
    resumed = load_bundle(pretrain(config, Progress())).description.id
    unbroken = load_bundle(pretrain(replace(config, output=config.output.with_name("unbroken")), Progress()))
    assert resumed == unbroken.description.id


def test_the_seed_decides_everything(options: Options) -> None:
    config = options()
    again, other = (replace(config, output=config.output.with_name(name)) for name in ("again", "other"))
    ids = [load_bundle(pretrain(one, Progress())).description.id for one in (config, again, replace(other, seed=1))]
    assert ids[0] == ids[1]
    assert ids[0] != ids[2]


def test_readers_and_logging_do_not_change_the_result(options: Options) -> None:
    config = options(steps=4)
    changed = replace(
        config, output=config.output.with_name("changed"), reader_threads=3, log_every=3, save_every=1, preview_every=2
    )
    ids = [load_bundle(pretrain(one, Progress())).description.id for one in (config, changed)]
    assert ids[0] == ids[1]


def test_a_folder_without_a_store_is_refused(options: Options, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="is not a case store"):
        pretrain(options(store=tmp_path / "nowhere"), Progress())


def test_an_empty_store_is_refused(options: Options, tmp_path: Path) -> None:
    CaseStore.create(tmp_path / "empty")
    with pytest.raises(DatasetError, match=r"empty is empty\. Preprocess some cases"):
        pretrain(options(store=tmp_path / "empty"), Progress())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"patch_size": (16, 16, 15)}, r"patch_size \(16, 16, 15\) does not suit .* a multiple of 2"),
        ({"block_size": 3}, "cannot be cut into blocks of 3 voxels"),
        ({"mask_ratio": (0.5, 1.5)}, "between 0 and 1"),
        ({"mask_ratio": (0.9, 0.6)}, "between 0 and 1"),
        ({"mask_ratio": ()}, "give one number between 0 and 1, or two"),
        ({"preview_every": 0}, "preview_every is 0"),
        ({"mask_token": False}, "densify needs mask_token"),
        ({"sparse": False}, "mask_token needs sparse"),
        ({"block_size": 16}, "larger patch"),
        ({"architecture": replace(NETWORK, deep_supervision=True)}, "no deep supervision"),
        (
            {"architecture": replace(NETWORK, input_channels=2, output_channels=2)},
            "one channel; this architecture has 2 in and 2 out",
        ),
        ({"architecture": replace(NETWORK, output_channels=2)}, "1 in and 2 out"),
    ],
)
def test_impossible_options_are_refused_before_a_step_is_done(
    wrong: dict[str, Any], message: str, options: Options, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        pretrain(options(**wrong), Progress())
    assert not (tmp_path / "run" / "checkpoint.safetensors").exists()


def test_a_store_with_more_channels_is_refused(options: Options, tmp_path: Path) -> None:
    store = CaseStore.create(tmp_path / "store")
    store.write("a", np.zeros((1, 16, 16, 16), np.float32))
    store.write("b", np.zeros((2, 16, 16, 16), np.float32))
    with pytest.raises(DatasetError, match=r"case 'b' of .* has 2 channels; pre-training takes images of one"):
        pretrain(options(store=store.folder), Progress())


def test_fp16_on_the_cpu_is_refused(options: Options) -> None:
    with pytest.raises(DeviceError, match="fp16 does not work on the CPU"):
        pretrain(options(precision="fp16"), Progress())


@pytest.mark.parametrize(
    ("changes", "key"), [({"seed": 1}, "seed"), ({"mask_ratio": (0.75,)}, "mask_ratio"), ({"steps": 3}, "steps")]
)
def test_an_unfinished_run_with_other_options_is_left_alone(
    changes: dict[str, Any], key: str, options: Options
) -> None:
    config = options()
    run(config)
    before = (config.output / "checkpoint.safetensors").read_bytes()
    with pytest.raises(CheckpointError, match=f"other options: {key} was .* Choose another output folder"):
        pretrain(options(**changes), Progress())
    assert (config.output / "checkpoint.safetensors").read_bytes() == before


def test_an_unfinished_run_on_other_images_is_left_alone(options: Options, tmp_path: Path) -> None:
    run(options())
    store = CaseStore.create(tmp_path / "other")
    store.write("case", np.ones((1, 16, 16, 16), np.float32))
    with pytest.raises(CheckpointError, match="data_fingerprint was"):
        pretrain(options(store=store.folder), Progress())
