"""Images, labels and folders that cannot be used, through every verb that may meet them."""

import gzip
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest


def flip_bytes(data: bytes) -> bytes:
    """Damage in the middle, the length unchanged."""
    middle = len(data) // 2
    return data[:middle] + bytes(value ^ 0xFF for value in data[middle : middle + 20]) + data[middle + 20 :]


def truncate_inside(data: bytes) -> bytes:
    """A whole gzip stream whose content is too short; ITK fills what is missing with zeros."""
    content = gzip.decompress(data)
    return gzip.compress(content[: len(content) // 2])


BROKEN: dict[str, Callable[[bytes], bytes]] = {
    "truncated": lambda data: data[: len(data) // 2],
    "flipped": flip_bytes,
    "truncated inside": truncate_inside,
    "empty": lambda _: b"",
    "text": lambda _: b"See the other folder.",
}


def spoil(dataset: Any, path: Path, how: str) -> None:
    """Make a file one that cannot be used."""
    if how in BROKEN:
        path.write_bytes(BROKEN[how](path.read_bytes()))
    elif how == "removed":
        path.unlink()
    else:
        image, labels = dataset.intensities(), dataset.some_labels()
        image[3, 3, 3] = {"nan": np.nan, "infinite": np.inf}.get(how, 50)
        written = {
            "constant": np.full_like(image, 7),
            "4-D": np.stack([image, image]),
            "other shape": labels[:, :, :-1],
            "elsewhere": labels,
            "unknown value": labels * 3,
            "fractional": labels / np.float32(4),
        }
        dataset.write(path, written.get(how, image), origin_mm=(0, 0, 3 if how == "elsewhere" else 0))


AGAIN = r"(Copy|export) it again\."
DAMAGED = {
    "truncated": f"is damaged or truncated .*{AGAIN}",
    "flipped": f"(is damaged|cannot be read) .*({AGAIN}|Is it complete.*\\?)",
    "truncated inside": f"is truncated: .*{AGAIN}",
    "empty": f"cannot be read .*({AGAIN}|Is it complete.*\\?)",
    "text": f"cannot be read .*({AGAIN}|Is it complete.*\\?)",
}
FINITE = r"holds NaN or infinite values\. Replace them, or export the image again\."
NOTHING = r"has the value 7 everywhere: .* Leave it out\."
UNUSABLE = {**DAMAGED, "nan": FINITE, "infinite": FINITE, "constant": NOTHING}
FOUR_DIMENSIONAL = r"holds 2 volumes or channels; one is expected\. .* dataset\.json names the channels\."
BAD_LABELS = {
    **DAMAGED,
    "other shape": r"does not lie on the grid of \S+: .*12 x 14 x 15 .* against 12 x 14 x 16 .* grid\.",
    "elsewhere": r"does not lie on the grid of \S+: .*from \(0, 0, 3\) mm against .* grid\.",
    "unknown value": r"holds the label value 3, 6, which \S+dataset\.json does not name\. Add it there.*\.",
    "fractional": r"holds the value 0\.25; labels are whole numbers\. .*\?",
    "4-D": FOUR_DIMENSIONAL,
}
CASE_FILES = ("case.json", "image.b2nd", "labels.b2nd", "foreground.npy")


def says(sentence: str, path: Path, rest: str) -> bool:
    """Whether the sentence names the file first and ends in what is wrong with it and what to do."""
    return re.fullmatch(rf"s3d \w+: (Case 'a': )?{re.escape(str(path))} {rest}", sentence) is not None


@pytest.mark.parametrize(("how", "rest"), [*UNUSABLE.items(), ("4-D", FOUR_DIMENSIONAL)])
def test_fine_tuning_refuses_an_image_it_cannot_use(dataset, refused, finetuning, files_in, tmp_path, how, rest):
    spoil(dataset, dataset.image(), how)
    sentence = refused(*finetuning)
    assert says(sentence, dataset.image(), rest), sentence
    assert files_in(tmp_path / "run") == {"events.jsonl", "store/store.json"}


@pytest.mark.parametrize(("how", "rest"), UNUSABLE.items())
def test_segmenting_refuses_an_image_it_cannot_use(dataset, refused, make_model, files_in, tmp_path, how, rest):
    spoil(dataset, dataset.image(), how)
    sentence = refused("segment", "--model", make_model(), "--input", dataset.image(), "--output", tmp_path / "out")
    assert says(sentence, dataset.image(), rest), sentence
    assert files_in(tmp_path / "out") == set()


def test_a_case_stored_before_the_bad_one_is_whole_and_kept(dataset, s3d, refused, finetuning, files_in, tmp_path):
    good = dataset.image("b").read_bytes()
    spoil(dataset, dataset.image("b"), "truncated")
    assert "Case 'b': " in refused(*finetuning)
    kept = files_in(tmp_path / "run" / "store")
    assert kept == {
        "store.json",
        *(f"cases/a/{name}" for name in ("case.json", "image.b2nd", "labels.b2nd", "foreground.npy")),
    }
    written = (tmp_path / "run" / "store" / "cases" / "a" / "image.b2nd").stat().st_mtime_ns
    dataset.image("b").write_bytes(good)
    assert s3d(*finetuning).code == 0
    assert (tmp_path / "run" / "store" / "cases" / "a" / "image.b2nd").stat().st_mtime_ns == written


@pytest.mark.parametrize(("how", "rest"), BAD_LABELS.items())
def test_fine_tuning_refuses_labels_it_cannot_use(dataset, refused, finetuning, files_in, tmp_path, how, rest):
    spoil(dataset, dataset.labels(), how)
    sentence = refused(*finetuning)
    assert says(sentence, dataset.labels(), rest), sentence
    assert files_in(tmp_path / "run") == {"events.jsonl", "store/store.json"}


def test_fine_tuning_misses_a_label_file(dataset, refused, finetuning, files_in, tmp_path):
    spoil(dataset, dataset.labels(), "removed")
    sentence = refused(*finetuning)
    assert f"Case 'a' has an image but no {dataset.labels()}. Add it, or take the case out." in sentence
    assert files_in(tmp_path / "run") == {"events.jsonl"}


@pytest.fixture
def scoring(dataset, tmp_path):
    """The words that score predictions equal to the references; the predictions are in PREDICTIONS."""
    predictions = tmp_path / "predictions"
    for case in ("a", "b"):
        dataset.write(predictions / f"{case}.nii.gz", dataset.some_labels())
    references = dataset.folder / "labelsTr"
    return ["evaluate", "--predictions", predictions, "--references", references, "--output", tmp_path / "scores"]


@pytest.mark.parametrize(("how", "rest"), BAD_LABELS.items())
def test_scoring_refuses_predictions_it_cannot_use(dataset, scoring, refused, files_in, tmp_path, how, rest):
    path = tmp_path / "predictions" / "a.nii.gz"
    spoil(dataset, path, how)
    sentence = refused(*scoring)
    assert says(sentence, path, rest), sentence
    assert files_in(tmp_path / "scores") == set()


def test_scoring_misses_a_prediction(dataset, scoring, refused, files_in, tmp_path):
    spoil(dataset, tmp_path / "predictions" / "a.nii.gz", "removed")
    sentence = refused(*scoring)
    assert f"{tmp_path / 'predictions'} holds no prediction for a. Segment these cases, or count them as" in sentence
    assert files_in(tmp_path / "scores") == set()


def test_an_archive_is_catalogued_and_stored_without_its_bad_images(dataset, catalog_words, s3d, tmp_path):
    archive = tmp_path / "archive"
    for number, how in enumerate(["good", *UNUSABLE, "4-D"]):
        path = dataset.write(archive / "images" / f"{how}_T1w.nii.gz", dataset.intensities(number))
        if how != "good":
            spoil(dataset, path, how)
    listed = archive / "catalog.jsonl"
    assert s3d(*catalog_words, "--source", archive / "images").code == 0
    entries = {Path(entry["path"]).name: entry for entry in map(json.loads, listed.read_text().splitlines())}
    assert len(entries) == len(UNUSABLE) + 2
    assert entries.pop("good_T1w.nii.gz")["kept"]
    for name, entry in entries.items():
        assert not entry["kept"]
        assert name in entry["reason"]
        assert entry["reason"].endswith((".", "?"))
    ended = s3d("preprocess", "--catalog", listed, "--output", archive / "store")
    assert ended.code == 0, ended
    assert "1 stored, 0 were there, 0 left out." in ended.err


def test_an_image_damaged_after_it_was_listed_is_left_out_with_a_sentence(dataset, catalog_words, s3d, tmp_path):
    assert s3d(*catalog_words).code == 0
    spoil(dataset, dataset.image(), "truncated")
    listed, store = tmp_path / "archive" / "catalog.jsonl", tmp_path / "store"
    ended = s3d("preprocess", "--catalog", listed, "--output", store)
    assert ended.code == 0, ended
    assert "Note: " in ended.err
    assert f"{dataset.image()} is damaged or truncated" in ended.err
    assert "It is left out." in ended.err
    assert len(list((store / "cases").iterdir())) == 1
