from pathlib import Path

import pytest

from s3d.data.dicom_series import DicomSeries
from s3d.preparation.importers import dicom_tree
from s3d.preparation.importers.dicom_tree import find_in_dicom_tree, looks_like_dicom
from s3d.preparation.importers.found_image import FoundImage


def described(monkeypatch: pytest.MonkeyPatch, modality: str = "MR", **tags: str) -> FoundImage:
    """What the importer makes of one series with these tags."""
    series = DicomSeries(Path("in"), "1.2.3", (Path("in/1.dcm"),), modality, "hash of the patient", tags)
    monkeypatch.setattr(dicom_tree, "list_dicom_series", lambda _: [series])
    (found,) = find_in_dicom_tree(Path("in"))
    return found


@pytest.mark.parametrize(
    ("modality", "tags", "expected"),
    [
        ("MR", {"description": "t1_mprage_sag"}, "T1"),
        ("MR", {"description": "Series 3", "sequence": "*tfl3d1"}, "T1"),
        ("MR", {"description": "Ax FLAIR", "repetition_time_ms": "9000", "echo_time_ms": "120"}, "T2-FLAIR"),
        (
            "MR",
            {"description": "Series 4", "repetition_time_ms": "500", "echo_time_ms": "9.5", "sequence": "*se2d1"},
            "T1",
        ),
        ("MR", {"description": "ep2d_diff_b1000"}, "DWI"),
        ("MR", {}, "unknown"),
        ("CT", {"description": "T1"}, "CT"),
        ("SEG", {}, "mask"),
        ("PT", {}, "not MR"),
    ],
)
def test_modality_comes_from_dicoms_own_then_from_words_then_from_times(
    monkeypatch: pytest.MonkeyPatch, modality: str, tags: dict[str, str], expected: str
) -> None:
    assert described(monkeypatch, modality, **tags).modality == expected


def test_a_series_is_known_by_folder_id_and_hashed_patient_only(monkeypatch: pytest.MonkeyPatch) -> None:
    found = described(monkeypatch, description="T1 of Jane Doe")
    assert found == FoundImage(
        path=Path("in"),
        importer="dicom",
        subject="hash of the patient",
        modality="T1",
        series_id="1.2.3",
        files=(Path("in/1.dcm"),),
    )
    assert "Jane" not in repr(found)


def test_dicom_files_are_told_by_their_mark(tmp_path: Path, test_data: Path) -> None:
    series = test_data / "tcia_brain_tumor_progression_dicom" / "Study3" / "11-T1post-18670"
    assert looks_like_dicom(next(series.iterdir()))
    (tmp_path / "text.dcm").write_text("no DICOM")
    assert not looks_like_dicom(tmp_path / "text.dcm")
    assert not looks_like_dicom(tmp_path / "absent.dcm")


def test_real_series_are_found_with_their_contrast(test_data: Path) -> None:
    found = find_in_dicom_tree(test_data / "tcia_brain_tumor_progression_dicom")
    assert [(image.path.name[:8], image.modality, len(image.files)) for image in found] == [
        ("11-T1pos", "T1", 22),
        ("36468-FL", "T2-FLAIR", 22),
    ]
    assert len({image.subject for image in found}) == 1
