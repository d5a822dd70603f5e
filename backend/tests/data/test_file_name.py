"""Names that SimpleITK cannot take end in a sentence, not in the end of the process."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from s3d.data.dicom_series import list_dicom_series, read_dicom_series
from s3d.data.file_name import check_name
from s3d.data.image_files import Grid, Volume, read_channels, read_header, read_labels, read_volume, write_volume
from s3d.errors import ImageError, StorageError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the file system refuses such names")

BAD = os.fsdecode(b"T1_\xfc.nii.gz")
GRID = Grid((4, 5, 6), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0))
NOISE = Volume(np.random.default_rng(0).normal(size=(1, *GRID.shape)).astype(np.float32), GRID)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    write_volume(tmp_path / "good.nii.gz", NOISE)
    return (tmp_path / "good.nii.gz").rename(tmp_path / BAD)


@pytest.mark.parametrize("read", [read_header, read_volume, read_labels, lambda path: read_channels([path], 1)])
def test_an_image_whose_name_is_not_utf_8_is_refused(read: Callable[[Path], object], image: Path) -> None:
    with pytest.raises(ImageError, match=r"T1_\\udcfc\.nii\.gz .*rename it"):
        read(image)


def test_the_sentence_can_be_printed_and_stored(image: Path) -> None:
    with pytest.raises(ImageError) as caught:
        read_volume(image)
    str(caught.value).encode("utf-8")


def test_nothing_is_written_under_such_a_name(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"T1_\\udcfc\.nii\.gz .*rename it"):
        write_volume(tmp_path / BAD, NOISE)


@pytest.mark.parametrize("place", [Path(os.fsdecode(b"\xfc"), "slice.dcm"), Path(os.fsdecode(b"slice_\xfc.dcm"))])
def test_slices_whose_name_or_folder_is_not_utf_8_are_refused(place: Path, test_data: Path, tmp_path: Path) -> None:
    series = list_dicom_series(test_data / "tcia_brain_tumor_progression_dicom")[0]
    (tmp_path / place).parent.mkdir(exist_ok=True)
    shutil.copy(series.files[0], tmp_path / place)
    with pytest.raises(ImageError, match=r"\\udcfc.*rename it"):
        list_dicom_series(tmp_path)
    with pytest.raises(ImageError, match=r"\\udcfc.*rename it"):
        read_dicom_series((tmp_path / place).parent, series.series_id)


def test_other_alphabets_are_welcome(tmp_path: Path) -> None:
    write_volume(tmp_path / "Kopf_ä_頭.nii.gz", NOISE)
    assert read_volume(tmp_path / "Kopf_ä_頭.nii.gz").grid == GRID


def test_a_locale_in_which_names_mean_other_bytes_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    check_name(Path("ä.nii"))
    monkeypatch.setattr(os, "fsencode", lambda path: os.fspath(path).encode("latin-1"))
    with pytest.raises(ImageError, match="rename it"):
        check_name(Path("ä.nii"))
    check_name(Path("a.nii"))


def test_the_catalogue_drops_such_an_image_and_keeps_the_others(image: Path) -> None:
    """In a process of its own: SimpleITK ended the whole one."""
    write_volume(image.with_name("other_T1.nii.gz"), NOISE)
    code = (
        "import sys\nfrom pathlib import Path\nfrom s3d import cli\nfrom s3d.preparation.catalog import read_catalog\n"
        "code = cli.main(['catalog', '--source', '.', '--output', 'out/c.jsonl', '--kind', 'folder', "
        "'--min-file-kilobytes', '0', '--min-field-of-view-mm', '1'])\n"
        "for entry in read_catalog(Path('out/c.jsonl')):\n    print(ascii(entry.path.name), entry.kept, entry.rule)\n"
        "sys.exit(code)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=image.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert r"'T1_\udcfc.nii.gz' False unreadable" in done.stdout
    assert "'other_T1.nii.gz' True None" in done.stdout
