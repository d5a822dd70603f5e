import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from s3d.data.case_record import StoreDescription
from s3d.data.case_store import CaseStore
from s3d.data.image_files import Grid, Volume, write_volume
from s3d.data.preprocessing import PreprocessingPlan
from s3d.errors import GeometryError, ImageError, OutOfMemoryError
from s3d.preparation import case_preparation
from s3d.preparation.case_preparation import case_name, prepare_case, removed_voxels
from s3d.preparation.catalog import CatalogEntry

AS_STORED = PreprocessingPlan(orientation="as_stored", spacing_mm=None, normalization="none")
Write = Callable[..., np.ndarray]


def entry(path: Path, **changes: object) -> CatalogEntry:
    values = {"importer": "nnssl", "subject": "1", "modality": "T1", "sha256": "0123456789abcdef", "kept": True}
    return CatalogEntry(path=path, **{**values, **changes})  # type: ignore[arg-type]


@pytest.fixture
def store(tmp_path: Path) -> CaseStore:
    return CaseStore.create(tmp_path / "store", StoreDescription(plan=AS_STORED))


def test_a_case_is_named_by_subject_session_modality_and_hash() -> None:
    named = entry(Path("a"), subject="ds_sub-01", session="v 1/b", modality="T2*")
    assert case_name(named) == "ds-sub-01_v-1-b_T2_0123456789ab"
    assert case_name(dataclasses.replace(named, session=None)) == "ds-sub-01_T2_0123456789ab"
    assert case_name(dataclasses.replace(named, subject="../..", session=None)) == "T2_0123456789ab"


def test_an_image_of_one_value_within_zeros_is_refused_by_name(tmp_path: Path) -> None:
    voxels = np.zeros((10, 10, 10), np.float32)
    voxels[3:7, 3:7, 3:7] = 7
    grid = Grid(voxels.shape, (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0))
    write_volume(tmp_path / "flat.nii.gz", Volume(voxels[None], grid))
    store = CaseStore.create(tmp_path / "store")
    with pytest.raises(ImageError, match=r"flat\.nii\.gz: Channel 0 has the value 7 everywhere"):
        prepare_case(entry(tmp_path / "flat.nii.gz"), store)


def test_masks_are_moved_exactly_as_their_image(
    tmp_path: Path, store: CaseStore, write_image: Write, mask_writer: Callable[..., None]
) -> None:
    """Turned, cropped and resampled like the image: a mask equal to the bright half stays equal to it."""
    store = CaseStore.create(tmp_path / "lps", StoreDescription(plan=PreprocessingPlan(normalization="none")))
    image = write_image(tmp_path / "a.nii.gz", shape=(12, 14, 16), spacing_mm=(2.0, 1.0, 1.0))
    face = np.zeros(image.shape, dtype=bool)
    face[:6, :7] = True
    mask_writer(tmp_path / "face.nii.gz", face, spacing_mm=(2.0, 1.0, 1.0))
    mask_writer(tmp_path / "anatomy.nii.gz", ~face, spacing_mm=(2.0, 1.0, 1.0))
    masks = {"anonymization_mask": tmp_path / "face.nii.gz", "anatomy_mask": tmp_path / "anatomy.nii.gz"}
    case = entry(tmp_path / "a.nii.gz", **masks)
    prepare_case(case, store)
    name = case_name(case)
    excluded, anatomy = store.read_excluded(name), store.read_anatomy(name)
    assert excluded.shape == anatomy.shape == store.shape(name) == (24, 14, 16)
    assert np.array_equal(excluded, ~anatomy)
    assert excluded[:12, :7].all()
    assert not excluded[12:].any()
    assert not excluded[:, 7:].any()


def test_without_masks_and_changes_the_stored_voxels_are_the_images(
    tmp_path: Path, store: CaseStore, write_image: Write
) -> None:
    image = write_image(tmp_path / "a.nii.gz")
    prepare_case(entry(tmp_path / "a.nii.gz", session="x"), store)
    (name,) = store.names()
    assert np.array_equal(store.read_image(name)[0], image)
    assert not store.read_excluded(name).any()
    properties = store.properties(name)
    assert (properties["subject"], properties["session"], properties["modality"]) == ("1", "x", "T1")
    assert properties["placement"]["native_grid"]["shape"] == [12, 14, 16]
    assert str(tmp_path) not in str(properties)


@pytest.mark.parametrize("marks_removed", [True, False])
def test_a_bids_defacing_mask_excludes_the_face_whichever_value_marks_it(
    tmp_path: Path, store: CaseStore, write_image: Write, mask_writer: Callable[..., None], marks_removed: bool
) -> None:
    from s3d.data.image_files import read_volume, write_volume

    write_image(tmp_path / "a.nii.gz")
    volume = read_volume(tmp_path / "a.nii.gz")
    face = np.zeros(volume.grid.shape, dtype=bool)
    face[:4, :5] = True
    volume.voxels[0, face] = 0
    write_volume(tmp_path / "a.nii.gz", volume)
    mask_writer(tmp_path / "mask.nii.gz", face if marks_removed else ~face)
    case = entry(tmp_path / "a.nii.gz", importer="bids", anonymization_mask=tmp_path / "mask.nii.gz")
    prepare_case(case, store)
    assert np.array_equal(store.read_excluded(case_name(case)), face)


def test_an_empty_or_full_defacing_mask_is_left_alone() -> None:
    voxels = np.ones((2, 2, 2))
    for mask in (np.zeros((2, 2, 2), dtype=bool), np.ones((2, 2, 2), dtype=bool)):
        assert np.array_equal(removed_voxels(mask, voxels), mask)


def test_a_mask_on_another_grid_is_refused(
    tmp_path: Path, store: CaseStore, write_image: Write, mask_writer: Callable[..., None]
) -> None:
    write_image(tmp_path / "a.nii.gz")
    mask_writer(tmp_path / "mask.nii.gz", np.ones((12, 14, 16), dtype=bool), spacing_mm=(4.0, 5.0, 5.0))
    with pytest.raises(GeometryError, match=r"mask\.nii\.gz lies on another grid than its image"):
        prepare_case(entry(tmp_path / "a.nii.gz", anatomy_mask=tmp_path / "mask.nii.gz"), store)
    assert store.names() == ()


def test_an_image_too_large_for_memory_is_said_in_one_sentence(
    tmp_path: Path, store: CaseStore, write_image: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_memory(*_: object) -> None:
        raise MemoryError

    write_image(tmp_path / "a.nii.gz")
    monkeypatch.setattr(case_preparation, "preprocess_image", no_memory)
    with pytest.raises(OutOfMemoryError, match=r"a\.nii\.gz does not fit into memory; use fewer --workers"):
        prepare_case(entry(tmp_path / "a.nii.gz"), store)
