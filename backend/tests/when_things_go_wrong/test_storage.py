"""A full disk, no permission, a file in the way: one sentence, and whole files only."""

import contextlib
import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

FULL = "(No space left on device). The disk is full; free some space or choose another folder."
FORBIDDEN = "(Permission denied). There is no permission to write there; choose another folder or change its"


def being_written(folder: Path) -> set[str]:
    """Names of files and folders under temporary names; other threads may be writing, too."""
    holders = (found for found in os.walk(folder) if Path(found[0]).name.startswith(".writing-"))
    return {name for _, folders, files in holders for name in (*folders, *files)}


@pytest.fixture
def disk_full_at(tmp_path, monkeypatch) -> Callable[[str], contextlib.AbstractContextManager[None]]:
    """A context in which the file or folder of this name (or what is in it) can be written, but not synced."""

    @contextlib.contextmanager
    def full(name: str) -> Iterator[None]:
        real = os.fsync

        def fail(descriptor: int) -> None:
            if name in being_written(tmp_path):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            real(descriptor)

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", fail)
            yield

    return full


@pytest.mark.parametrize("name", ["store.json", "a", "checkpoint.safetensors", "s3d-finetuned.s3dmodel"])
def test_fine_tuning_goes_on_after_a_full_disk(finetuning, s3d, refused, files_in, disk_full_at, tmp_path, name):
    with disk_full_at(name):
        sentence = refused(*finetuning)
    assert sentence.endswith(f"{name} cannot be written {FULL}")
    left = files_in(tmp_path / "run")
    assert not [file for file in left if ".writing" in file or f"{name}/" in f"{file}/"]
    assert s3d(*finetuning).code == 0
    assert "s3d-finetuned.s3dmodel/model.json" in files_in(tmp_path / "run")


@pytest.mark.parametrize(
    ("verb", "name"),
    [
        ("catalog", "catalog.jsonl"),
        ("catalog", "catalog.summary.json"),
        ("segment", "a.nii.gz"),
        ("segment", "segmentation.json"),
        ("evaluate", "cases.csv"),
        ("evaluate", "report.html"),
    ],
)
def test_every_verb_ends_with_a_sentence_on_a_full_disk(
    verb, name, dataset, make_model, catalog_words, refused, files_in, disk_full_at, tmp_path
):
    references, out = dataset.folder / "labelsTr", tmp_path / "out"
    words = {
        "catalog": [*catalog_words, "--output", out / "catalog.jsonl"],
        "segment": ["segment", "--model", make_model(), "--input", dataset.image(), "--output", out],
        "evaluate": ["evaluate", "--predictions", references, "--references", references, "--output", out],
    }[verb]
    with disk_full_at(name):
        assert refused(*words).endswith(f"{out / name} cannot be written {FULL}")
    assert not [file for file in files_in(out) if ".writing" in file or file == name]


def test_preprocessing_goes_on_after_a_full_disk(catalog_words, s3d, refused, files_in, disk_full_at, tmp_path):
    assert s3d(*catalog_words).code == 0
    words = ["preprocess", "--catalog", tmp_path / "archive" / "catalog.jsonl", "--output", tmp_path / "store"]
    with disk_full_at("image.b2nd"), disk_full_at("preprocess.summary.json"):
        sentence = refused(*words)
    assert sentence.endswith(f"preprocess.summary.json cannot be written {FULL}")
    assert not [file for file in files_in(tmp_path / "store") if ".writing" in file]
    assert s3d(*words).code == 0


@pytest.mark.parametrize("verb", ["finetune", "pretrain"])
def test_no_permission_to_make_the_output_folder(verb, finetuning, refused, monkeypatch, tmp_path):
    run = tmp_path / "locked" / "run"
    forbid(monkeypatch, run)
    words = [*finetuning, "--output", run] if verb == "finetune" else [verb, "--store", "s", "--output", run]
    assert f"{run / 'events.jsonl'} cannot be written {FORBIDDEN}" in refused(*words)
    assert not (tmp_path / "locked").exists()


def forbid(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """As a user without rights would find it; tests may run as root, who may write anywhere."""
    real = os.mkdir

    def refuse(path: "os.PathLike[str] | str", *rest: object, **more: object) -> None:
        if Path(path) == folder or folder in Path(path).parents:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        real(path, *rest, **more)

    monkeypatch.setattr(os, "mkdir", refuse)


@pytest.mark.parametrize("verb", ["catalog", "preprocess", "segment", "evaluate", "demo"])
def test_no_permission_to_write_results(
    verb, dataset, make_model, catalog_words, s3d, refused, monkeypatch, files_in, tmp_path
):
    references, out = dataset.folder / "labelsTr", tmp_path / "locked"
    assert s3d(*catalog_words).code == 0
    words = {
        "catalog": [*catalog_words, "--output", out / "catalog.jsonl"],
        "preprocess": ["preprocess", "--catalog", tmp_path / "archive" / "catalog.jsonl", "--output", out],
        "segment": ["segment", "--model", make_model(), "--input", dataset.image(), "--output", out],
        "evaluate": ["evaluate", "--predictions", references, "--references", references, "--output", out],
        "demo": ["demo", "--output", out],
    }[verb]
    forbid(monkeypatch, out)
    sentence = refused(*words)
    assert str(out) in sentence
    assert FORBIDDEN in sentence
    assert files_in(out) == set()


@pytest.mark.parametrize("verb", ["finetune", "segment"])
def test_a_file_where_the_output_folder_should_be(verb, dataset, make_model, finetuning, refused, tmp_path):
    place = tmp_path / "taken"
    place.write_text("mine")
    words = {
        "finetune": [*finetuning, "--output", place],
        "segment": ["segment", "--model", make_model(), "--input", dataset.image(), "--output", place],
    }[verb]
    sentence = refused(*words)
    assert f"{place}" in sentence
    assert sentence.endswith("A part of the path is a file, not a folder; choose another path.")
    assert place.read_text() == "mine"


@pytest.fixture
def tiny_disk(tmp_path) -> Iterator[Callable[[int], Path]]:
    """Mounts a real file system of so many kilobytes, where that is allowed (Linux, as root)."""
    place = tmp_path / "disk"
    place.mkdir()
    if sys.platform != "linux" or not shutil.which("mount"):
        pytest.skip("a small file system can only be mounted on Linux")

    def mount(kilobytes: int) -> Path:
        command = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(place)]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("mounting is not allowed here")
        return place

    yield mount
    subprocess.run(["umount", str(place)], capture_output=True, check=False)


@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".nrrd", ".mha"])
def test_a_really_full_disk_leaves_no_truncated_segmentation(
    ending, dataset, make_model, refused, files_in, tiny_disk, tmp_path
):
    disk = tiny_disk(32)
    image = dataset.write(tmp_path / f"big{ending}", dataset.intensities(shape=(40, 40, 40)))
    words = ["segment", "--model", make_model(), "--input", image, "--output", disk / f"result{ending}"]
    sentence = refused(*words, "--probabilities")
    assert f"result{ending} cannot be written" in sentence
    assert "The disk is full" in sentence
    assert files_in(disk) == set()


@pytest.mark.parametrize("kilobytes", [4, 32, 80, 600])
def test_a_really_full_disk_stops_a_training_with_a_sentence(kilobytes, finetuning, refused, files_in, tiny_disk):
    """The least holds the events only, the most all but the checkpoint."""
    disk = tiny_disk(kilobytes)
    sentence = refused(*finetuning, "--output", disk / "run")
    assert f"{disk / 'run'}" in sentence
    assert sentence.endswith("The disk is full; free some space or choose another folder.")
    assert not [file for file in files_in(disk) if ".writing" in file]
