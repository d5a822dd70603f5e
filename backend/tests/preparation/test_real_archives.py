"""The four importers on real MRI (docs/data.md): what stays, what goes, and why."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from s3d.data.case_store import CaseStore
from s3d.preparation.catalog import CatalogEntry, read_catalog
from s3d.preparation.config import CatalogConfig, PreprocessConfig
from s3d.preparation.run import catalog, preprocess
from s3d.progress import Progress


def entries_of(source: Path, output: Path, **changes: object) -> dict[str, CatalogEntry]:
    config = CatalogConfig(source=source, output=output / "catalog.jsonl", **changes)  # type: ignore[arg-type]
    return {entry.path.name: entry for entry in read_catalog(catalog(config, Progress()))}


def test_thick_flair_slices_are_dropped_and_6_4_mm_stay(test_data: Path, tmp_path: Path) -> None:
    """Two headers say 6.4999995 mm where the scanner's protocol says 6.5: they are meant by the paper's filter."""
    entries = entries_of(test_data / "ms_tabriz_flair5" / "subjects_flair", tmp_path)
    reasons = {entry.subject: entry.reason for entry in entries.values()}
    assert reasons == {
        "104252": "The spacing is 6.5 mm along z, 6.5 mm or more.",
        "105074": "The spacing is 8 mm along z, 6.5 mm or more.",
        "105465": "The spacing is 7.7 mm along z, 6.5 mm or more.",
        "105755": None,
        "105911": "The spacing is 7.2 mm along z, 6.5 mm or more.",
    }
    assert {entry.modality for entry in entries.values()} == {"T2-FLAIR"}


def test_label_folders_of_a_data_set_never_pass_as_images(test_data: Path, tmp_path: Path) -> None:
    entries = entries_of(test_data / "ms_tabriz_flair5", tmp_path, check_voxels=False)
    masks = [entry for entry in entries.values() if "segmentations" in str(entry.path)]
    assert {(entry.modality, entry.kept) for entry in masks} == {("mask", False)}
    assert len(masks) == 5


def test_isles_keeps_the_flair_and_drops_diffusion(test_data: Path, tmp_path: Path) -> None:
    entries = entries_of(test_data / "isles22_case0009", tmp_path)
    told = {name.split("_")[-1]: (entry.kept, entry.modality, entry.rule) for name, entry in entries.items()}
    assert told == {
        "adc.nii.gz": (False, "ADC", "modality"),
        "dwi.nii.gz": (False, "DWI", "modality"),
        "flair.nii.gz": (True, "T2-FLAIR", None),
    }


def test_dicom_series_are_measured_whole_and_nothing_personal_is_written(test_data: Path, tmp_path: Path) -> None:
    source = test_data / "tcia_brain_tumor_progression_dicom"
    entries = entries_of(source, tmp_path)
    assert {entry.rule for entry in entries.values()} == {"spacing"}
    for entry in entries.values():
        assert entry.shape == (22, 320, 280)
        assert entry.spacing_mm == pytest.approx((6.5, 0.6875, 0.6875), abs=1e-6)
        assert entry.bytes == sum(file.stat().st_size for file in entry.path.iterdir())
    text = "".join(path.read_text() for path in tmp_path.iterdir())
    for personal in ("Dumbledore", "PGBM", 'T1post"', "3083564386975476"):  # name, id, description, accession number
        assert personal not in text


def test_dicom_series_are_preprocessed(test_data: Path, tmp_path: Path) -> None:
    source = test_data / "tcia_brain_tumor_progression_dicom" / "Study3" / "11-T1post-18670"
    config = CatalogConfig(source=source, output=tmp_path / "catalog.jsonl", max_spacing_mm=7.0)
    path = catalog(config, Progress())
    options = PreprocessConfig(catalog=path, output=tmp_path / "store", spacing_mm=(6.5, 3.0, 3.0), workers=1)
    store = CaseStore.open(preprocess(options, Progress()))
    (name,) = store.names()
    image = store.read_image(name)
    assert image.shape[0] == 1
    assert abs(float(image.mean())) < 0.05
    assert np.isfinite(image).all()
    assert "Dumbledore" not in json.dumps(store.properties(name))


def test_a_dicom_series_with_a_missing_slice_becomes_a_dropped_line(test_data: Path, tmp_path: Path) -> None:
    source = test_data / "tcia_brain_tumor_progression_dicom" / "Study3" / "11-T1post-18670"
    shutil.copytree(source, tmp_path / "series")
    (tmp_path / "series" / "000000.dcm").unlink()
    (tmp_path / "series" / "000001.dcm").unlink()
    (entry,) = entries_of(tmp_path / "series", tmp_path, max_spacing_mm=20.0).values()
    assert (entry.kept, entry.rule) == (False, "unreadable")
    assert "not evenly spaced" in str(entry.reason)


@pytest.mark.slow
def test_skull_stripped_t1_images_go_into_a_store(test_data: Path, tmp_path: Path) -> None:
    source = test_data / "miccai2012_oasis" / "images_T1_SS"
    path = catalog(CatalogConfig(source=source, output=tmp_path / "catalog.jsonl"), Progress())
    entries = read_catalog(path)
    assert {(entry.kept, entry.modality) for entry in entries} == {(True, "T1")}
    assert len({entry.subject for entry in entries}) == 15
    store = CaseStore.open(preprocess(PreprocessConfig(catalog=path, output=tmp_path / "store"), Progress()))
    assert len(store.names()) == 15
    for name in store.names():
        assert min(store.shape(name)) > 100  # 1 mm, cropped to the brain
        assert abs(float(store.read_image(name).mean())) < 0.01
