import json
from pathlib import Path
from typing import Any

import pytest

from s3d.errors import DatasetError
from s3d.preparation.importers.nnssl_json import find_in_nnssl_json, resolve_path


def collection(*images: dict[str, Any]) -> dict[str, Any]:
    """One dataset, one subject, one session (method.md section 5)."""
    session = {"session_id": "ses-1", "session_info": None, "images": list(images)}
    subject = {"subject_id": "sub-1", "subject_info": None, "sessions": {"ses-1": session}}
    dataset = {"dataset_index": "ds1", "name": "one", "dataset_info": None, "subjects": {"sub-1": subject}}
    return {"collection_index": 1, "collection_name": "all", "datasets": {"ds1": dataset}}


def image(path: str, modality: str = "T1w", **more: Any) -> dict[str, Any]:
    return {"name": Path(path).name, "modality": modality, "image_info": {}, "image_path": path, **more}


def write(folder: Path, content: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "pretrain_data.json"
    file.write_text(json.dumps(content))
    return file


def test_images_masks_and_modalities_are_read(tmp_path: Path) -> None:
    masks = {"anonymization_mask": "anon.nii.gz", "anatomy_mask": None}
    file = write(tmp_path, collection(image("a.nii.gz", "FLAIR", associated_masks=masks), image("b.nii.gz")))
    (tmp_path / "a.nii.gz").touch()
    first, second = find_in_nnssl_json(file)
    assert (first.path, first.modality, first.problem) == (tmp_path / "a.nii.gz", "T2-FLAIR", None)
    assert (first.anonymization_mask, first.anatomy_mask) == (tmp_path / "anon.nii.gz", None)
    assert (first.subject, first.session) == ("ds1_sub-1", "ses-1")
    assert (second.modality, second.anonymization_mask) == ("T1", None)


def test_a_missing_file_is_said_with_its_place_and_remedy(tmp_path: Path) -> None:
    file = write(tmp_path, collection(image("$nnssl_raw/Dataset001/a.nii.gz"), image("/nowhere/b.nii.gz")))
    with_prefix, absolute = find_in_nnssl_json(file)
    assert "Dataset001/a.nii.gz. Set the environment variable nnssl_raw" in str(with_prefix.problem)
    assert absolute.problem == "There is no file at /nowhere/b.nii.gz. Correct image_path or restore the file."


def test_prefixes_come_from_the_environment_or_from_the_folders_above(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = tmp_path / "raw"
    file = raw / "Dataset001" / "pretrain_data.json"
    image_path = raw / "Dataset001" / "x" / "a.nii.gz"
    image_path.parent.mkdir(parents=True)
    image_path.touch()
    monkeypatch.delenv("nnssl_raw", raising=False)
    assert resolve_path("$nnssl_raw/Dataset001/x/a.nii.gz", file) == image_path
    monkeypatch.setenv("nnssl_raw", "/elsewhere")
    assert resolve_path("$nnssl_raw/Dataset001/x/a.nii.gz", file) == Path("/elsewhere/Dataset001/x/a.nii.gz")
    assert resolve_path("../x.nii.gz", file) == file.parent / "../x.nii.gz"
    assert resolve_path("/absolute/x.nii.gz", file) == Path("/absolute/x.nii.gz")


@pytest.mark.parametrize(
    ("entry", "modality"),
    [
        (image("a.nii.gz", "SWI"), "SWI"),
        (image("x_dwi.nii.gz", "T2w"), "DWI"),  # the paper drops what is called adc, pha or dwi (method.md 0.7)
        (image("a.nii.gz", "T2w", image_info={"SeriesDescription": "ADC (10^-6)"}), "ADC"),
        (image("a.nii.gz", "T2w", image_info={"SeriesDescription": "Ax T1"}), "T2"),
        (image("a_T1w.nii.gz", ""), "T1"),
        (image("a.nii.gz", "something"), "unknown"),
    ],
)
def test_the_modality_field_decides_unless_the_paper_drops_the_name(
    tmp_path: Path, entry: dict[str, Any], modality: str
) -> None:
    (found,) = find_in_nnssl_json(write(tmp_path, collection(entry)))
    assert found.modality == modality


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "'datasets' is missing"),
        ([], "'datasets' is missing"),
        ({"datasets": {"a": {"subjects": {"b": {"sessions": {"c": {"images": 3}}}}}}}, "'images' is missing or not"),
        (
            {"datasets": {"a": {"subjects": {"b": {"sessions": {"c": {"images": [{}]}}}}}}},
            "session c has no image",
        ),
    ],
)
def test_a_file_of_another_structure_is_refused_with_the_key(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        find_in_nnssl_json(write(tmp_path, content))


def test_a_file_that_is_no_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pretrain_data.json").write_text("{")
    with pytest.raises(DatasetError, match="is not valid JSON"):
        find_in_nnssl_json(tmp_path)
    with pytest.raises(DatasetError, match="cannot be read"):
        find_in_nnssl_json(tmp_path / "absent.json")
