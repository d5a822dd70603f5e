import errno
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from s3d.bundle import save_bundle
from s3d.config import from_dict
from s3d.errors import BundleError, ConfigError, DatasetError, ImageError, StorageError
from s3d.inference.config import SegmentConfig
from s3d.inference.run import segment
from s3d.progress import Progress, read_events


@pytest.fixture
def model(make_bundle, tmp_path) -> Path:
    return saved(make_bundle(), tmp_path / "toy.s3dmodel")


def saved(bundle, path: Path) -> Path:
    save_bundle(path, bundle.description, bundle.weights)
    return path


def write_image(path: Path, seed: int = 0, channels: int = 1, size: int = 10, spacing: float = 1.0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    images = []
    for _ in range(channels):
        image = sitk.GetImageFromArray(random.normal(size=(12, size, 9)).astype(np.float32))
        image.SetSpacing((1.0, spacing, 1.5))
        image.SetOrigin((4.0, -7.0, 2.5))
        images.append(image)
    sitk.WriteImage(images[0] if channels == 1 else sitk.JoinSeries(images), str(path))
    return path


def options(model: Path, inputs: Any, output: Path, **more: Any) -> SegmentConfig:
    inputs = (inputs,) if isinstance(inputs, Path) else tuple(inputs)
    return SegmentConfig(model=model, input=inputs, output=output, device="cpu", precision="fp32", **more)


def files_under(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_one_file_gives_labels_on_its_grid_and_a_record(model, tmp_path):
    image = write_image(tmp_path / "anna.nii.gz")
    record_path = segment(options(model, image, tmp_path / "out"))
    assert files_under(tmp_path / "out") == {"anna.nii.gz", "segmentation.json"}
    result, source = sitk.ReadImage(str(tmp_path / "out" / "anna.nii.gz")), sitk.ReadImage(str(image))
    assert result.GetSize() == source.GetSize()
    np.testing.assert_allclose(result.GetOrigin(), source.GetOrigin())
    np.testing.assert_allclose(result.GetSpacing(), source.GetSpacing())
    assert set(np.unique(sitk.GetArrayFromImage(result))) == {0, 7, 300}
    record = json.loads(record_path.read_text())
    assert record["model"]["name"] == "toy"
    assert record["model"]["id"] == json.loads((model / "model.json").read_text())["id"]
    assert [(label["value"], label["name"], label["color"]) for label in record["labels"]] == [
        (7, "Left half", [255, 0, 0]),
        (300, "Right half", None),
    ]
    assert record["device"] == {"name": "cpu", "precision": "fp32"}
    assert "not a medical device" in record["disclaimer"]
    (case,) = record["cases"]
    assert (case["name"], case["labels"], case["notes"]) == ("anna", "anna.nii.gz", [])
    assert case["seconds"] > 0


def test_a_named_result_keeps_its_record_beside_it(model, tmp_path):
    image = write_image(tmp_path / "anna.nrrd")
    for name in ("first.nrrd", "second.mha"):
        segment(options(model, image, tmp_path / "out" / name))
    assert files_under(tmp_path / "out") == {
        "first.nrrd", "first.segmentation.json", "second.mha", "second.segmentation.json",
    }  # fmt: skip


def test_a_folder_in_nnunet_naming(make_bundle, tmp_path):
    model = saved(make_bundle(("T1", "FLAIR")), tmp_path / "two.s3dmodel")
    for case in ("a", "b"):
        write_image(tmp_path / "in" / f"{case}_0000.nii.gz", seed=ord(case))
        write_image(tmp_path / "in" / f"{case}_0001.nii.gz", seed=ord(case) + 10)
    segment(options(model, tmp_path / "in", tmp_path / "out"))
    assert files_under(tmp_path / "out") == {"a.nii.gz", "b.nii.gz", "segmentation.json"}


def labels_of(path: Path) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


def test_four_dimensional_files_hold_all_channels(make_bundle, tmp_path):
    model = saved(make_bundle(("T1", "FLAIR")), tmp_path / "two.s3dmodel")
    both = write_image(tmp_path / "in" / "a.nii.gz", channels=2)
    segment(options(model, tmp_path / "in", tmp_path / "out"))
    series = sitk.ReadImage(str(both))
    parts = [tmp_path / "a_0000.nii.gz", tmp_path / "a_0001.nii.gz"]
    for index, part in enumerate(parts):
        sitk.WriteImage(series[..., index], str(part))
    segment(options(model, parts, tmp_path / "apart"))
    np.testing.assert_array_equal(labels_of(tmp_path / "out" / "a.nii.gz"), labels_of(tmp_path / "apart" / "a.nii.gz"))


def test_channels_on_different_grids_end_on_the_first_ones(make_bundle, tmp_path):
    model = saved(make_bundle(("T1", "FLAIR")), tmp_path / "two.s3dmodel")
    first = write_image(tmp_path / "a_0000.nii.gz")
    other = write_image(tmp_path / "a_0001.nii.gz", seed=3, size=8, spacing=1.3)
    segment(options(model, [first, other], tmp_path / "out"))
    assert labels_of(tmp_path / "out" / "a.nii.gz").shape == labels_of(first).shape


def test_probabilities_are_written_when_asked(model, tmp_path):
    image = write_image(tmp_path / "anna.nii.gz")
    record = json.loads(segment(options(model, image, tmp_path / "out", probabilities=True)).read_text())
    assert record["cases"][0]["probabilities"] == "probabilities/anna.nii.gz"
    written = labels_of(tmp_path / "out" / "probabilities" / "anna.nii.gz")
    assert written.shape == (12, 10, 9, 3)
    np.testing.assert_allclose(written.sum(axis=-1), 1, rtol=1e-5)
    best = np.array([0, 7, 300])[written.argmax(axis=-1)]
    np.testing.assert_array_equal(best, labels_of(tmp_path / "out" / "anna.nii.gz"))


def test_notes_reach_the_record(make_bundle, tmp_path):
    model = saved(make_bundle(patch_size=(16, 16, 16)), tmp_path / "wide.s3dmodel")
    image = write_image(tmp_path / "anna.nii.gz")
    record = json.loads(segment(options(model, image, tmp_path / "out")).read_text())
    assert "padded with zeros" in record["cases"][0]["notes"][0]


def test_one_bad_case_does_not_stop_the_others(model, tmp_path):
    for name in ("a", "b", "c", "d"):
        write_image(tmp_path / "in" / f"{name}.nii.gz")
    whole = (tmp_path / "in" / "b.nii.gz").read_bytes()
    (tmp_path / "in" / "b.nii.gz").write_bytes(whole[: len(whole) // 2])
    write_image(tmp_path / "in" / "x_0000.nii.gz")
    write_image(tmp_path / "in" / "x_0002.nii.gz")
    progress = Progress(tmp_path / "events.jsonl")
    with pytest.raises(DatasetError) as caught:
        segment(options(model, tmp_path / "in", tmp_path / "out"), progress)
    progress.close()
    message = str(caught.value)
    assert message.startswith("2 of 5 cases could not be segmented; the others are done, see ")
    assert "b.nii.gz" in message
    assert "has no x_0001.nii.gz beside it" in message
    assert caught.value.exit_code == 2
    assert files_under(tmp_path / "out") == {"a.nii.gz", "c.nii.gz", "d.nii.gz", "segmentation.json"}
    record = json.loads((tmp_path / "out" / "segmentation.json").read_text())
    failed = {case["name"]: case["error"]["code"] for case in record["cases"] if "error" in case}
    assert failed == {"b": "E_IMAGE", "x": "E_DATASET"}
    warnings = [event["message"] for event in read_events(tmp_path / "events.jsonl") if event["kind"] == "warning"]
    assert warnings[0].startswith("b was left out: ")


def test_many_bad_cases_are_counted_but_not_all_recited(model, tmp_path):
    for number in range(8):
        write_image(tmp_path / "in" / f"case{number}.nii", channels=2)
    with pytest.raises(DatasetError, match=r"8 of 8 cases.*case4: .* And 3 more\."):
        segment(options(model, tmp_path / "in", tmp_path / "out"))


def test_a_single_bad_image_says_what_is_wrong_and_leaves_nothing(model, tmp_path):
    image = write_image(tmp_path / "a.nii.gz")
    image.write_bytes(image.read_bytes()[:100])
    with pytest.raises(ImageError, match=r"a\.nii\.gz"):
        segment(options(model, image, tmp_path / "out"))
    assert files_under(tmp_path / "out") == set()


def test_an_image_of_one_value_within_zeros_is_refused_by_name(model, tmp_path):
    voxels = np.zeros((10, 10, 10), np.float32)
    voxels[3:7, 3:7, 3:7] = 7
    sitk.WriteImage(sitk.GetImageFromArray(voxels), str(tmp_path / "flat.nii.gz"))
    with pytest.raises(ImageError, match=r"flat\.nii\.gz: Channel 0 has the value 7 everywhere"):
        segment(options(model, tmp_path / "flat.nii.gz", tmp_path / "out"))


def test_a_missing_input_is_named(model, tmp_path):
    with pytest.raises(ImageError, match=r"There is no file or folder .*absent\.nii\.gz"):
        segment(options(model, tmp_path / "absent.nii.gz", tmp_path / "out"))


def test_a_wrong_number_of_channels_names_both_numbers_and_the_channels(make_bundle, model, tmp_path):
    image = write_image(tmp_path / "a.nii.gz")
    two = saved(make_bundle(("T1", "FLAIR")), tmp_path / "two.s3dmodel")
    with pytest.raises(BundleError, match=r"has 1 channel, but model 'toy' takes 2 \(T1, FLAIR\)"):
        segment(options(two, image, tmp_path / "out"))
    other = write_image(tmp_path / "b.nii.gz")
    with pytest.raises(BundleError, match=r"have 2 channels, but model 'toy' takes 1 \(T1\)"):
        segment(options(model, [image, other], tmp_path / "out"))
    with pytest.raises(BundleError, match=r"has 3 channels, but model 'toy' takes 2"):
        segment(options(two, write_image(tmp_path / "c.nii.gz", channels=3), tmp_path / "out"))


def test_altered_weights_are_refused_before_anything_is_written(model, tmp_path):
    image = write_image(tmp_path / "a.nii.gz")
    weights = model / "weights.safetensors"
    changed = bytearray(weights.read_bytes())
    changed[-1] ^= 1
    weights.write_bytes(changed)
    with pytest.raises(BundleError, match=r"the weights' hash is .* the bundle is damaged or was altered"):
        segment(options(model, image, tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_pretrained_model_is_refused(make_bundle, tmp_path):
    model = saved(make_bundle(kind="pretrained", labels=()), tmp_path / "pretrained.s3dmodel")
    with pytest.raises(BundleError, match=r"only pre-trained.*Fine-tune it first"):
        segment(options(model, write_image(tmp_path / "a.nii.gz"), tmp_path / "out"))


def test_no_permission_to_write_is_told_before_computing(model, tmp_path, monkeypatch):
    def refuse(**_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("s3d.inference.run.TemporaryFile", refuse)
    monkeypatch.setattr("s3d.inference.run.read_channels", lambda *_: pytest.fail("computing had begun"))
    with pytest.raises(StorageError, match=r"out cannot be written \(Permission denied\)\. There is no permission"):
        segment(options(model, write_image(tmp_path / "a.nii.gz"), tmp_path / "out"))


def test_an_output_folder_that_is_a_file_is_refused(model, tmp_path):
    (tmp_path / "out").touch()
    with pytest.raises(StorageError, match=r"out cannot be written"):
        segment(options(model, write_image(tmp_path / "a.nii.gz"), tmp_path / "out"))


def test_a_full_disk_stops_a_folder_at_once_and_leaves_whole_files_only(model, tmp_path, monkeypatch):
    for name in ("a", "b", "c"):
        write_image(tmp_path / "in" / f"{name}.nii.gz")
    real = sitk.WriteImage

    def full(image: sitk.Image, path: str, *rest: object, **more: object) -> None:
        if Path(path).name == "b.nii.gz":
            Path(path).write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        real(image, path, *rest, **more)

    monkeypatch.setattr(sitk, "WriteImage", full)
    with pytest.raises(StorageError, match=r"b\.nii\.gz cannot be written .*The disk is full"):
        segment(options(model, tmp_path / "in", tmp_path / "out"))
    assert files_under(tmp_path / "out") == {"a.nii.gz", "segmentation.json"}
    assert [case["name"] for case in json.loads((tmp_path / "out" / "segmentation.json").read_text())["cases"]] == ["a"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"step": 0.0}, r"step is 0\.0; it must be above 0 and at most 1"),
        ({"step": 1.5}, r"step is 1\.5"),
        ({"batch_size": 0}, r"batch_size is 0; it must be at least 1"),
        ({"input": []}, r"input is empty; give the image files"),
        ({"mirrors": True}, r"unknown key 'mirrors'. Did you mean 'mirror'"),
    ],
)
def test_wrong_options_are_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        from_dict(SegmentConfig, {"model": "m.s3dmodel", "input": ["a.nii.gz"], "output": "out", **change})


def test_segmenting_loads_nothing_that_only_training_or_plotting_needs():
    code = "import sys, s3d.inference.run; print('\\n'.join(sys.modules))"
    listed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "torch" in listed
    heavy = {"monai", "matplotlib", "blosc2", "pandas", "nibabel", "nilearn", "huggingface_hub", "tyro"}
    assert not heavy & set(listed)
    ours = {name for name in listed if name.startswith("s3d.")}
    training_only = ("pretraining", "finetuning", "evaluation", "demo", "preparation", "masking", "models.sparse")
    training_only += ("models.spark", "training.loop", "training.losses", "training.schedules", "training.optimizers")
    training_only += ("training.checkpoint", "training.distributed", "data.patches", "data.augmentation")
    assert not {name for name in ours if name.removeprefix("s3d.").startswith(training_only)}
