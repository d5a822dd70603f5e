"""An image that taught a model is known again, whatever the case is called now."""

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from s3d.bundle import read_description
from s3d.data.dataset import read_dataset
from s3d.finetuning.lineage import image_hash, learnt_by, learnt_images, says_what_it_learnt


def test_the_hash_follows_the_image_not_its_name(dataset: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(dataset, tmp_path / "copied")
    (copied / "imagesTr" / "case_0_0000.nii.gz").rename(copied / "imagesTr" / "zebra_0000.nii.gz")
    (copied / "labelsTr" / "case_0.nii.gz").rename(copied / "labelsTr" / "zebra.nii.gz")
    first = {case.name: image_hash(case) for case in read_dataset(dataset).cases}
    second = {case.name: image_hash(case) for case in read_dataset(copied).cases}
    assert first["case_0"] == second["zebra"]
    assert len(set(first.values())) == len(first)


def test_a_card_hands_down_what_its_ancestors_learnt(make_parent: Callable[..., Path]) -> None:
    grandparent = read_description(make_parent(labels={"Head": 3}, training={"learnt_images": ["aa", "bb"]}))
    own = learnt_images(grandparent, {"x": "cc", "y": "aa", "z": "dd"}, ("x", "y"))
    assert own == ["aa", "bb", "cc"]
    assert learnt_images(None, {"x": "cc"}, ("x",)) == ["cc"]


@pytest.mark.parametrize(
    ("labels", "training", "known"),
    [(None, {}, True), ({"Head": 3}, {}, False), ({"Head": 3}, {"learnt_images": []}, True)],
)
def test_only_a_fine_tuned_parent_without_a_list_leaves_doubt(
    labels: dict[str, int] | None, training: dict[str, list[str]], known: bool, make_parent: Callable[..., Path]
) -> None:
    card = read_description(make_parent(labels=labels, training=training))
    assert says_what_it_learnt(card) is known
    assert learnt_by(card) == frozenset()
    assert says_what_it_learnt(None)
    assert learnt_by(dataclasses.replace(card, training={"learnt_images": ["aa"]})) == {"aa"}
