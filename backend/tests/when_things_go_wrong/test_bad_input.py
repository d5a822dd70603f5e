"""Images, labels and folders that cannot be used, through every verb that may meet them."""

import gzip
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest


def truncate(path: Path, dataset) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip_bytes(path: Path, dataset) -> None:
    data = bytearray(path.read_bytes())
    for place in range(len(data) // 2, len(data) // 2 + 20):
        data[place] ^= 0xFF
    path.write_bytes(data)


def truncate_inside(path: Path, dataset) -> None:
    """A whole gzip stream whose content is too short; ITK fills what is missing with zeros."""
    content = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(content[: len(content) // 2]))


def empty(path: Path, dataset) -> None:
    path.write_bytes(b"")


def text(path: Path, dataset) -> None:
    path.write_text("See the other folder.")


def remove(path: Path, dataset) -> None:
    path.unlink()


def holding(value: float) -> Callable[..., None]:
    def spoil(path: Path, dataset) -> None:
        voxels = dataset.intensities()
        voxels[3, 3, 3] = value
        dataset.write(path, voxels)

    return spoil


def constant(path: Path, dataset) -> None:
    dataset.write(path, np.full_like(dataset.intensities(), 7))


def four_dimensional(path: Path, dataset) -> None:
    dataset.write(path, dataset.intensities(shape=(2, 12, 14, 16)))


AGAIN = r"(Copy|export) it again\."
DAMAGES = {
    truncate: f"is damaged or truncated .*{AGAIN}",
    flip_bytes: f"(is damaged|cannot be read) .*({AGAIN}|Is it complete.*\\?)",
    truncate_inside: f"is truncated: .*{AGAIN}",
    empty: f"cannot be read .*({AGAIN}|Is it complete.*\\?)",
    text: f"cannot be read .*({AGAIN}|Is it complete.*\\?)",
}
UNUSABLE = DAMAGES | {
    holding(float("nan")): r"holds NaN or infinite values\. Replace them, or export the image again\.",
    holding(float("inf")): r"holds NaN or infinite values\. Replace them, or export the image again\.",
    constant: r"has the value 7 everywhere: .* Leave it out\.",
}
FOUR_DIMENSIONAL = r"holds 2 volumes or channels; one is expected\. .* dataset\.json names the channels\."


def says(sentence: str, path: Path, rest: str) -> bool:
    """Whether the sentence names the file first and ends in what is wrong with it and what to do."""
    return re.fullmatch(rf"s3d \w+: (Case 'a': )?{re.escape(str(path))} {rest}", sentence) is not None


@pytest.mark.parametrize(("spoil", "rest"), [*UNUSABLE.items(), (four_dimensional, FOUR_DIMENSIONAL)])
def test_fine_tuning_refuses_an_image_it_cannot_use(dataset, refused, finetuning, files_in, tmp_path, spoil, rest):
    spoil(dataset.image(), dataset)
    sentence = refused(*finetuning)
    assert says(sentence, dataset.image(), rest), sentence
    assert files_in(tmp_path / "run") == {"events.jsonl", "store/store.json"}


@pytest.mark.parametrize(("spoil", "rest"), UNUSABLE.items())
def test_segmenting_refuses_an_image_it_cannot_use(dataset, refused, make_model, files_in, tmp_path, spoil, rest):
    spoil(dataset.image(), dataset)
    sentence = refused("segment", "--model", make_model(), "--input", dataset.image(), "--output", tmp_path / "out")
    assert says(sentence, dataset.image(), rest), sentence
    assert files_in(tmp_path / "out") == set()


def test_a_case_stored_before_the_bad_one_is_whole_and_kept(dataset, s3d, refused, finetuning, files_in, tmp_path):
    good = dataset.image("b").read_bytes()
    truncate(dataset.image("b"), dataset)
    assert "Case 'b': " in refused(*finetuning)
    kept = files_in(tmp_path / "run" / "store")
    assert kept == {"store.json", *(f"cases/a/{name}" for name in ("case.json", "image.b2nd", "labels.b2nd", "foreground.npy"))}
    written = (tmp_path / "run" / "store" / "cases" / "a" / "image.b2nd").stat().st_mtime_ns
    dataset.image("b").write_bytes(good)
    assert s3d(*finetuning).code == 0
    assert (tmp_path / "run" / "store" / "cases" / "a" / "image.b2nd").stat().st_mtime_ns == written


def other_shape(path: Path, dataset) -> None:
    dataset.write(path, dataset.some_labels()[:, :, :-1])


def elsewhere(path: Path, dataset) -> None:
    dataset.write(path, dataset.some_labels(), origin_mm=(0, 0, 3))


def unknown_value(path: Path, dataset) -> None:
    dataset.write(path, dataset.some_labels() * 3)


def fractional(path: Path, dataset) -> None:
    dataset.write(path, dataset.some_labels() / np.float32(4))


def several_label_volumes(path: Path, dataset) -> None:
    dataset.write(path, np.stack([dataset.some_labels()] * 2))


BAD_LABELS = {
    other_shape: r"does not lie on the grid of \S+: .*12 x 14 x 15 .* against 12 x 14 x 16 .* grid\.",
    elsewhere: r"does not lie on the grid of \S+: .*from \(0, 0, 3\) mm against .* grid\.",
    unknown_value: r"holds the label value 3, 6, which \S+dataset\.json does not name\. Add it there.*\.",
    fractional: r"holds the value 0\.25; labels are whole numbers\. .*\?",
    several_label_volumes: FOUR_DIMENSIONAL,
    **DAMAGES,
    remove: "",
}


@pytest.mark.parametrize(("spoil", "rest"), BAD_LABELS.items())
def test_fine_tuning_refuses_labels_it_cannot_use(dataset, refused, finetuning, files_in, tmp_path, spoil, rest):
    spoil(dataset.labels(), dataset)
    sentence = refused(*finetuning)
    if spoil is remove:
        assert f"Case 'a' has an image but no {dataset.labels()}. Add it, or take the case out." in sentence
        assert files_in(tmp_path / "run") == {"events.jsonl"}
    else:
        assert says(sentence, dataset.labels(), rest), sentence
        assert files_in(tmp_path / "run") == {"events.jsonl", "store/store.json"}


@pytest.mark.parametrize(("spoil", "rest"), BAD_LABELS.items())
def test_scoring_refuses_predictions_it_cannot_use(dataset, refused, files_in, tmp_path, spoil, rest):
    predictions = tmp_path / "predictions"
    for case in ("a", "b"):
        dataset.write(predictions / f"{case}.nii.gz", dataset.some_labels())
    spoil(predictions / "a.nii.gz", dataset)
    references = dataset.folder / "labelsTr"
    sentence = refused(
        "evaluate", "--predictions", predictions, "--references", references, "--output", tmp_path / "scores"
    )
    if spoil is remove:
        assert f"{predictions} holds no prediction for a. Segment these cases, or count them as failures" in sentence
    else:
        assert says(sentence, predictions / "a.nii.gz", rest), sentence
    assert files_in(tmp_path / "scores") == set()
