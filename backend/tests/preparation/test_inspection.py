import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from s3d.data.image_files import read_volume, write_volume
from s3d.preparation.config import CatalogConfig
from s3d.preparation.importers.found_image import FoundImage
from s3d.preparation.inspection import inspect

CONFIG = CatalogConfig(source=Path("archive"), output=Path("catalog.jsonl"), min_file_kilobytes=0)
HEADERS_ONLY = CatalogConfig(
    source=Path("archive"), output=Path("catalog.jsonl"), min_file_kilobytes=0, check_voxels=False
)


def found(path: Path, **more: object) -> FoundImage:
    values = {"importer": "folder", "subject": "1", "modality": "T1", **more}
    return FoundImage(path=path, **values)  # type: ignore[arg-type]


def test_a_good_image_gets_its_grid_size_and_hash(tmp_path: Path, write_image: Callable[..., np.ndarray]) -> None:
    path = tmp_path / "a.nii.gz"
    write_image(path, shape=(12, 14, 16), spacing_mm=(6.0, 5.0, 4.0))
    entry = inspect(found(path, session="x"), CONFIG)
    assert (entry.kept, entry.reason, entry.rule) == (True, None, None)
    assert (entry.shape, entry.spacing_mm, entry.session) == ((12, 14, 16), (6.0, 5.0, 4.0), "x")
    content = path.read_bytes()
    assert (entry.bytes, entry.sha256) == (len(content), hashlib.sha256(content).hexdigest())


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-2000])


def make_constant(path: Path) -> None:
    volume = read_volume(path)
    volume.voxels[:] = 7
    write_volume(path, volume)


def make_nan(path: Path) -> None:
    volume = read_volume(path)
    volume.voxels[0, 3, 2, 1] = np.nan
    write_volume(path, volume)


@pytest.mark.parametrize(
    ("ending", "spoil", "sentence"),
    [
        (".nii.gz", cut_short, "is damaged or truncated"),
        (".nii.gz", make_constant, "has the value 7 everywhere"),
        (".nii.gz", make_nan, "holds NaN or infinite values"),
        (".nrrd", make_nan, "holds NaN or infinite values"),
        (".nii.gz", lambda path: path.write_text("not an image"), "cannot be read as an image"),
        (".nii.gz", lambda path: path.write_bytes(b""), "cannot be read as an image"),
        (".nii.gz", lambda path: path.unlink(), "cannot be read (No such file or directory)"),
    ],
)
def test_a_broken_image_becomes_a_dropped_line_with_the_readers_sentence(
    tmp_path: Path, write_image: Callable[..., np.ndarray], ending: str, spoil: Callable[[Path], None], sentence: str
) -> None:
    path = tmp_path / f"a{ending}"
    write_image(path)
    spoil(path)
    entry = inspect(found(path), CONFIG)
    assert (entry.kept, entry.rule) == (False, "unreadable")
    assert sentence in str(entry.reason)
    assert str(path) in str(entry.reason)


def test_without_the_voxel_check_only_the_header_is_read(
    tmp_path: Path, write_image: Callable[..., np.ndarray]
) -> None:
    path = tmp_path / "a.nii.gz"
    write_image(path)
    cut_short(path)
    assert not inspect(found(path), CONFIG).kept
    assert inspect(found(path), HEADERS_ONLY).kept


def test_an_image_with_several_volumes_is_dropped(tmp_path: Path, write_image: Callable[..., np.ndarray]) -> None:
    path = tmp_path / "bold.nii.gz"
    write_image(tmp_path / "a.nii.gz")
    one = SimpleITK.ReadImage(str(tmp_path / "a.nii.gz"))
    SimpleITK.WriteImage(SimpleITK.JoinSeries([one, one, one]), str(path))
    entry = inspect(found(path), CONFIG)
    assert (entry.kept, entry.rule) == (False, "4-D")
    assert entry.reason == "bold.nii.gz holds 3 volumes or channels, not one."


def test_filters_apply_before_the_voxels_are_read(tmp_path: Path, write_image: Callable[..., np.ndarray]) -> None:
    path = tmp_path / "a.nii.gz"
    write_image(path, spacing_mm=(8.0, 5.0, 5.0))
    cut_short(path)
    assert inspect(found(path), CONFIG).rule == "spacing"


def test_a_mask_that_is_named_but_missing_drops_the_image(
    tmp_path: Path, write_image: Callable[..., np.ndarray]
) -> None:
    path = tmp_path / "a.nii.gz"
    write_image(path)
    mask = tmp_path / "face.nii.gz"
    entry = inspect(found(path, anonymization_mask=mask), CONFIG)
    assert (entry.kept, entry.rule) == (False, "mask missing")
    assert "face.nii.gz is not there" in str(entry.reason)
    write_image(mask)
    assert inspect(found(path, anonymization_mask=mask), CONFIG).kept


def test_what_the_importer_knows_to_be_wrong_is_the_reason(tmp_path: Path) -> None:
    entry = inspect(found(tmp_path / "a.nii.gz", problem="There is no file."), CONFIG)
    assert (entry.kept, entry.reason, entry.sha256) == (False, "There is no file.", None)


def test_many_slices_have_one_hash_whatever_their_order(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("1", "2")]
    for file in files:
        file.write_text(file.name)
    hashes = {
        inspect(found(tmp_path, files=tuple(order), series_id="1.2"), CONFIG).sha256 for order in (files, files[::-1])
    }
    assert len(hashes) == 1
    assert None not in hashes
