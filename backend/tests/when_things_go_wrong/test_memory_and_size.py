"""Memory that runs out, and patches larger than the volume: in training a sentence, in segmenting a way round."""

import json

import pytest

from s3d.models.resenc_unet import ResEncUNet
from s3d.models.spark import SparkAutoencoder
from s3d.progress import read_events

NO_MEMORY = (
    "[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate "
    "8589934592 bytes. Error code 12 (Cannot allocate memory)"
)


@pytest.fixture
def run_out_of_memory(monkeypatch):
    """Lets the network's first convolution ask for too much where condition(windows) is true."""

    def install(condition=lambda _: True):
        for network in (ResEncUNet, SparkAutoencoder):

            def forward(self, volume, *rest, real=network.forward):
                if condition(volume):
                    raise RuntimeError(NO_MEMORY)
                return real(self, volume, *rest)

            monkeypatch.setattr(network, "forward", forward)

    return install


@pytest.mark.parametrize("verb", ["finetuning", "pretraining"])
def test_training_names_the_batch_and_then_the_patch_to_try(
    verb, request, refused, files_in, run_out_of_memory, tmp_path
):
    words = [*request.getfixturevalue(verb), "--batch-size", "4"]
    run_out_of_memory()
    sentence = refused(*words)
    assert "Out of memory on cpu with 4 sample(s) at a time. Try accumulate 2 (slower, less memory)" in sentence
    assert "a smaller batch_size" in sentence
    sentence = refused(*words, "--accumulate", "4")
    assert "Out of memory on cpu with 1 sample(s) at a time. Try a smaller patch_size" in sentence
    assert "accumulate" not in sentence
    assert not [name for name in files_in(tmp_path / "run") if "checkpoint" in name or "s3dmodel" in name]


def test_what_was_advised_works_in_the_same_folder(finetuning, s3d, refused, run_out_of_memory):
    run_out_of_memory(lambda volume: len(volume) > 1)
    assert "Try accumulate 2" in refused(*finetuning)
    assert s3d(*finetuning, "--accumulate", "2").code == 0


@pytest.mark.parametrize("error", [RuntimeError(NO_MEMORY), MemoryError()])
def test_memory_that_runs_out_anywhere_else_is_a_sentence_too(finetuning, refused, monkeypatch, error):
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("s3d.data.dataset_store.preprocess_image", fail)
    assert refused(*finetuning).endswith("Memory ran out. Close other programs, or use a machine with more memory.")


def notes_of(folder) -> list[str]:
    (case,) = json.loads((folder / "segmentation.json").read_text())["cases"]
    return case["notes"]


def segmenting(dataset, make_model, tmp_path, **options) -> list[object]:
    model = make_model(**options)
    return [
        "segment", "--model", model, "--input", dataset.image(), "--output", tmp_path / "out",
        "--device", "cpu", "--precision", "fp32",
    ]  # fmt: skip


def test_segmenting_goes_on_with_one_window_at_a_time_and_says_so(
    dataset, make_model, s3d, run_out_of_memory, tmp_path
):
    words = segmenting(dataset, make_model, tmp_path)
    assert s3d(*words).code == 0
    expected = (tmp_path / "out" / "a.nii.gz").read_bytes()
    run_out_of_memory(lambda windows: len(windows) > 1)
    ended = s3d(*words, "--batch-size", "4")
    assert ended.code == 0, ended
    said = "Memory ran out: now one window at a time; slower, with the same result."
    assert f"Note: {said}" in ended.err
    assert notes_of(tmp_path / "out") == [said]
    assert (tmp_path / "out" / "a.nii.gz").read_bytes() == expected


def test_a_smaller_window_only_where_allowed_and_the_result_says_so(
    dataset, make_model, s3d, refused, files_in, run_out_of_memory, tmp_path
):
    words = segmenting(dataset, make_model, tmp_path, patch_size=(16, 16, 16))
    run_out_of_memory(lambda windows: windows.shape[-1] > 8)
    sentence = refused(*words)
    assert "Memory ran out even with one window of 16 x 16 x 16 voxels on cpu." in sentence
    assert sentence.endswith("a smaller window (allow_smaller_window) needs less but changes the result.")
    assert files_in(tmp_path / "out") == set()
    ended = s3d(*words, "--allow-smaller-window")
    assert ended.code == 0, ended
    said = "Memory ran out: the window is now 8 x 8 x 8 voxels instead of 16 x 16 x 16 voxels."
    assert said in ended.err
    assert any(note.startswith(said) and "the result differs" in note for note in notes_of(tmp_path / "out"))


@pytest.mark.parametrize("verb", ["finetuning", "pretraining"])
def test_training_pads_volumes_smaller_than_the_patch_and_says_so(verb, request, s3d, tmp_path):
    words = request.getfixturevalue(verb)
    small = s3d(*words)
    assert small.code == 0, small
    assert "zeros" not in small.err
    large = s3d(*words, "--patch-size", "16", "16", "24", "--output", tmp_path / "large")
    assert large.code == 0, large
    said = "2 case(s) are smaller than the patch of 16 x 16 x 24 voxels along some axis and are filled up with zeros"
    assert f"Note: {said}" in large.err
    events = read_events(tmp_path / "large" / "events.jsonl")
    assert [event["message"].startswith(said) for event in events if event["kind"] == "warning"] == [True]


def test_segmenting_pads_an_image_smaller_than_the_window_and_says_so(dataset, make_model, s3d, tmp_path):
    ended = s3d(*segmenting(dataset, make_model, tmp_path, patch_size=(16, 16, 24)))
    assert ended.code == 0, ended
    said = "The image is 12 x 14 x 16 voxels on the model's grid, smaller than the window of 16 x 16 x 24; it was"
    assert said in ended.err
    assert notes_of(tmp_path / "out")[0].startswith(said)
