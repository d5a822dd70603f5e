from pathlib import Path

import pytest

from s3d.errors import DatasetError
from s3d.preparation.importers.detection import detect_kind, find_images


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


@pytest.mark.parametrize(
    ("files", "kind"),
    [
        (["a.nii.gz", "x.txt"], "folder"),
        (["deep/down/a.nrrd"], "folder"),
        (["sub-1/anat/sub-1_T1w.nii.gz"], "bids"),
        (["rawdata/sub-1/anat/sub-1_T1w.nii.gz"], "bids"),
        (["dataset_description.json", "a.nii.gz"], "bids"),
        (["pretrain_data.json", "sub-1/a.nii.gz"], "nnssl"),
    ],
)
def test_the_kind_of_a_source_is_seen_from_its_files(tmp_path: Path, files: list[str], kind: str) -> None:
    assert detect_kind(touch(tmp_path, *files)) == kind


def test_real_dicom_and_bids_are_recognised(test_data: Path) -> None:
    assert detect_kind(test_data / "tcia_brain_tumor_progression_dicom") == "dicom"
    assert detect_kind(test_data / "isles22_case0009") == "bids"


def test_a_json_file_is_nnssls_and_paths_come_out_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(touch(tmp_path, "images/a.nii.gz"))
    assert detect_kind(touch(tmp_path, "my.json") / "my.json") == "nnssl"
    kind, found = find_images(Path("images"), "auto")
    assert kind == "folder"
    assert found[0].path == tmp_path / "images" / "a.nii.gz"


def test_a_kind_that_is_named_is_not_guessed(tmp_path: Path) -> None:
    touch(tmp_path, "sub-1/anat/sub-1_T1w.nii.gz")
    assert find_images(tmp_path, "folder")[0] == "folder"


@pytest.mark.parametrize(
    ("source", "kind", "message"),
    [
        ("absent", "auto", "There is nothing at .*absent"),
        ("empty", "auto", "holds neither images .* nor DICOM files"),
        ("empty", "bids", r"No images were found in .*empty \(read as bids\)"),
        ("empty/notes.txt", "auto", "is a file; give the folder"),
    ],
)
def test_a_source_without_images_is_refused(tmp_path: Path, source: str, kind: str, message: str) -> None:
    touch(tmp_path, "empty/notes.txt")
    with pytest.raises(DatasetError, match=message):
        find_images(tmp_path / source, kind)
