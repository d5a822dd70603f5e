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


DAMAGES = {
    truncate: r"(damaged|truncated).*(Copy|export) it again\.",
    flip_bytes: r"(damaged|truncated|cannot be read).*(Copy|export) it again\.",
    truncate_inside: r"truncated: .*(Copy|export) it again\.",
    empty: r"cannot be read.*(export it again|complete).*[.?]",
    text: r"cannot be read.*(export it again|complete).*[.?]",
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
