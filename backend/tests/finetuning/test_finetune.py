"""Whole runs of the verb on toy data: from parent to bundle, and what the card says."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from s3d import cli
from s3d.bundle import Bundle, load_bundle, read_description
from s3d.config import to_dict
from s3d.data.case_record import StoreDescription
from s3d.data.case_store import CaseStore
from s3d.data.dataset import load_case, read_dataset
from s3d.evaluation.metrics import dice
from s3d.finetuning import training
from s3d.finetuning.config import FinetuneConfig
from s3d.finetuning.material import Material
from s3d.finetuning.run import finetune
from s3d.inference.predictor import Predictor
from s3d.models.presets import Architecture
from s3d.pretraining.config import PretrainConfig
from s3d.pretraining.run import pretrain
from s3d.progress import Progress, read_events
from s3d.training.device import choose_device
from s3d.training.interruption import StopRequest

Options = Callable[..., FinetuneConfig]
Gathered = Callable[[FinetuneConfig], Material]


def run(config: FinetuneConfig, stop: StopRequest | None = None) -> Bundle:
    return load_bundle(finetune(config, Progress(), stop))


def plan_of(config: FinetuneConfig) -> dict[str, dict[str, list[str]]]:
    plan: dict[str, dict[str, list[str]]] = json.loads((config.output / "folds.json").read_text())
    return plan


def test_a_pretrained_bundle_becomes_one_that_segments(options: Options, tmp_path: Path, gathered: Gathered) -> None:
    scratch = options()
    images = gathered(scratch).store
    store = CaseStore.create(tmp_path / "unlabelled", StoreDescription(plan=images.plan, channels=("MR",)))
    for name in images.names():
        store.write(name, images.read_image(name))
    pretraining = PretrainConfig(
        store=store.folder,
        output=tmp_path / "pretraining",
        architecture=dataclasses.replace(scratch.scratch_network, input_channels=1, output_channels=1),
        patch_size=(16, 16, 16),
        steps=2,
        batch_size=2,
        device="cpu",
        precision="fp32",
    )
    parent = pretrain(pretraining, Progress())
    bundle = run(options(parent=parent, output=tmp_path / "finetuning"))
    card = bundle.description
    assert card.kind == "segmentation"
    assert card.parent == read_description(parent).id
    assert card.training["method"] == "fine-tuned"
    assert card.training["strategy"]["transfer"] == "encoder"
    assert card.training["scores"] == {"how": "none"}
    assert [(label.name, label.value) for label in card.labels] == [("Head", 3), ("Tail", 300)]
    dataset = read_dataset(scratch.dataset)
    volume, _ = load_case(dataset, dataset.cases[0])
    segmentation = Predictor(bundle, choose_device("cpu", "fp32")).segment(volume)
    assert segmentation.grid == volume.grid
    assert set(np.unique(segmentation.labels)) <= {0, 3, 300}


@pytest.mark.parametrize("ignore", [None, 301])
def test_training_from_scratch_learns_to_find_the_boxes(
    ignore: int | None, options: Options, make_dataset: Callable[..., Path]
) -> None:
    """Also where the second half of each case is not annotated; then only the first half can be learnt."""
    names, labels, annotated = tuple("abcd"), {"Head": 3, "Tail": 300}, 18
    data = make_dataset(names=names, labels=labels)
    if ignore is not None:
        annotated = 9
        data = make_dataset("partly", names, labels={**labels, "ignore": ignore}, annotated_slices=annotated)
    network = Architecture(features=(8, 16), blocks=(1, 1), decoder_convs=(1,))
    bundle = run(options(dataset=data, architecture=network, steps=60, learning_rate=1e-2))
    predictor = Predictor(bundle, choose_device("cpu", "fp32"))
    whole = read_dataset(make_dataset("whole", names, labels=labels))
    for case in whole.cases:
        volume, truth = load_case(whole, case)
        found = predictor.segment(volume).labels
        assert set(np.unique(found)) <= {0, 3, 300}
        for value in labels.values():
            assert dice((truth == value)[:annotated], (found == value)[:annotated]) > 0.8


def test_a_clinician_adds_three_cases_and_goes_on(options: Options, make_dataset: Callable[..., Path]) -> None:
    names = ("a", "b", "c")
    first = options(dataset=make_dataset(names=names), output=options().output / "first")
    parent = finetune(first, Progress())
    grown = make_dataset(names=(*names, "d", "e", "f"))
    description = json.loads((grown / "dataset.json").read_text())
    description["labels"]["Neck"] = 7  # between the others, so Tail moves to another output channel
    (grown / "dataset.json").write_text(json.dumps(description))
    config = options(dataset=grown, output=options().output / "second", parent=parent, folds=2)
    events = config.output / "events.jsonl"
    progress = Progress(events)
    bundle = load_bundle(finetune(config, progress))
    progress.close()
    card = bundle.description
    assert card.parent == read_description(parent).id
    assert card.training["kept_labels"] == ["Head", "Tail"]
    assert card.training["strategy"]["transfer"] == "encoder_decoder"
    assert len(card.training["learnt_images"]) == 6
    plan = plan_of(config)
    assert sorted(case for fold in plan.values() for case in fold["judging"]) == ["d", "e", "f"]
    assert all({"a", "b", "c"} <= set(fold["training"]) for fold in plan.values())
    assert card.training["scores"]["cases"] == 3
    notes = [event["message"] for event in read_events(events) if event["kind"] == "note"]
    assert any("3 of the 6 cases have trained the parent already" in note for note in notes)


def test_a_parent_that_does_not_tell_its_cases_brings_a_warning(
    options: Options, make_parent: Callable[..., Path]
) -> None:
    config = options(parent=make_parent(labels={"Head": 3}), hold_out=1, steps=1)
    progress = Progress(config.output / "events.jsonl")
    finetune(config, progress)
    progress.close()
    codes = [e["code"] for e in read_events(config.output / "events.jsonl") if e["kind"] == "warning"]
    assert "W_UNKNOWN_CASES" in codes


def test_a_parent_that_lends_only_its_shape_is_no_ancestor(options: Options, make_parent: Callable[..., Path]) -> None:
    card = run(options(parent=make_parent(licence="CC-BY-4.0"), transfer="none", architecture=None)).description
    assert card.architecture.features == (4, 8)
    assert (card.parent, card.licence) == (None, "unspecified")
    assert card.training["method"] == "from scratch"


@pytest.mark.parametrize(
    ("labels", "augmentation", "axes"),
    [
        ({"Head": 1, "Tail": 2}, "nnunet", (0, 1, 2)),
        ({"Left Head": 1, "Right Head": 2}, "nnunet", (0, 1)),
        ({"Head": 1, "Tail": 2}, "quick", (2,)),
        ({"Left Head": 1, "Right Head": 2}, "quick", ()),
        ({"Head": 1, "Tail": 2}, "none", ()),
    ],
)
def test_the_bundle_mirrors_exactly_as_the_training_did(
    labels: dict[str, int],
    augmentation: str,
    axes: tuple[int, ...],
    options: Options,
    make_dataset: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    used = []

    class Watched(training.PatchSampler):
        def __init__(self, *arguments: Any, **named: Any) -> None:
            used.append(named["augmentation"].mirror_axes)
            super().__init__(*arguments, **named)

    monkeypatch.setattr(training, "PatchSampler", Watched)
    data = make_dataset(names=("a", "b"), labels=labels)
    card = run(options(dataset=data, augmentation=augmentation, steps=1)).description
    assert used == [axes]
    assert card.mirror_axes == axes


def test_options_go_through_a_json_file(options: Options, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = options(folds=2, cases=("case_0", "case_1"), steps=1, log_every=1)
    file = tmp_path / "config.json"
    file.write_text(json.dumps(to_dict(config)))
    assert cli.main(["finetune", "--config", str(file)]) == 0
    path = Path(capsys.readouterr().out.strip())
    assert path == config.output / "s3d-finetuned.s3dmodel"
    assert read_description(path).training["scores"]["how"] == "k-fold"
    assert {event["kind"] for event in read_events(config.output / "events.jsonl")} >= {"progress", "metric"}


def test_an_unknown_case_on_the_command_line_is_one_sentence(
    options: Options, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "1000")
    file = tmp_path / "config.json"
    file.write_text(json.dumps(to_dict(options())))
    assert cli.main(["finetune", "--config", str(file), "--cases", "case_7"]) == 2
    shown = capsys.readouterr().err
    assert "no case 'case_7'" in shown
    assert "Traceback" not in shown
