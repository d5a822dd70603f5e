"""Which series count as one patient's."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from s3d.data.dicom_series import list_dicom_series


def write_series(folder: Path, patient: str | None, study: str) -> None:
    """Two slices; patient None: without the tag."""
    folder.mkdir(parents=True)
    for number in range(2):
        image = sitk.GetImageFromArray(np.full((1, 4, 5), number, np.int16))
        tags = {"0010|0020": patient, "0020|000d": study, "0020|000e": f"{study}.1", "0020|0013": str(number)}
        for key, value in {"0008|0060": "MR", **tags}.items():
            if value is not None:
                image.SetMetaData(key, value)
        writer = sitk.ImageFileWriter()
        writer.KeepOriginalImageUIDOn()
        writer.SetFileName(str(folder / f"{number}.dcm"))
        writer.Execute(image)


@pytest.mark.parametrize("nobody", [None, "", " "])
def test_without_a_patients_id_each_study_is_a_patient(tmp_path: Path, nobody: str | None) -> None:
    """Else all of them would be one subject, and stay together in every split."""
    write_series(tmp_path / "a", nobody, "1.2.3")
    write_series(tmp_path / "b", nobody, "1.2.4")
    write_series(tmp_path / "c" / "again", nobody, "1.2.4")
    first, second, again = (series.patient for series in list_dicom_series(tmp_path))
    assert first != second == again


def test_with_a_patients_id_studies_do_not_matter(tmp_path: Path) -> None:
    write_series(tmp_path / "a", "somebody", "1.2.3")
    write_series(tmp_path / "b", "somebody", "1.2.4")
    first, second = (series.patient for series in list_dicom_series(tmp_path))
    assert first == second
    assert "somebody" not in first
