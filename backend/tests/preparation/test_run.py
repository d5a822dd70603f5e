import dataclasses
import errno
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from s3d.data.case_store import CaseStore
from s3d.errors import DatasetError, StorageError
from s3d.preparation.case_preparation import case_name
from s3d.preparation.catalog import read_catalog
from s3d.preparation.config import CatalogConfig, PreprocessConfig
from s3d.preparation.run import catalog, preprocess
from s3d.progress import Progress, read_events

Write = Callable[..., np.ndarray]
WRITTEN = ("a_T1.nii.gz", "b_T1.nii.gz", "c_FLAIR.nii.gz", "d_T2.nrrd", "e_T1.mha")


@pytest.fixture
def archive(tmp_path: Path, write_image: Write) -> Path:
    """Five good images, a copy, a thick one, a mask, a broken and an unnamed one."""
    folder = tmp_path / "archive"
    for seed, name in enumerate(WRITTEN):
        write_image(folder / name, seed=seed)
    (folder / "copy_T1.nii.gz").write_bytes((folder / "a_T1.nii.gz").read_bytes())
    write_image(folder / "thick_T1.nii.gz", seed=7, spacing_mm=(7.2, 5.0, 5.0))
    write_image(folder / "a_T1_mask.nii.gz", seed=8)
    (folder / "broken_T1.nii.gz").write_bytes((folder / "b_T1.nii.gz").read_bytes()[:-3000])
    write_image(folder / "something.nii.gz", seed=9)
    return folder


def catalog_config(archive: Path, **changes: object) -> CatalogConfig:
    output = archive.parent / "catalog.jsonl"
    config = CatalogConfig(source=archive, output=output, min_file_kilobytes=0)
    return dataclasses.replace(config, **changes)  # type: ignore[arg-type]


def preprocess_config(catalog_path: Path, **changes: object) -> PreprocessConfig:
    config = PreprocessConfig(catalog=catalog_path, output=catalog_path.parent / "store", spacing_mm=(5.0, 5.0, 5.0))
    return dataclasses.replace(config, **changes)  # type: ignore[arg-type]


def test_every_image_has_a_line_and_every_drop_its_reason(archive: Path) -> None:
    entries = read_catalog(catalog(catalog_config(archive), Progress()))
    assert {entry.path.name for entry in entries if entry.kept} == set(WRITTEN)
    assert {entry.path.name: entry.rule for entry in entries if not entry.kept} == {
        "a_T1_mask.nii.gz": "modality",
        "broken_T1.nii.gz": "unreadable",
        "copy_T1.nii.gz": "duplicate",
        "something.nii.gz": "modality",
        "thick_T1.nii.gz": "spacing",
    }
    assert all(entry.reason for entry in entries if not entry.kept)
    assert all(entry.sha256 and entry.bytes for entry in entries)


def test_the_counts_are_told_to_people_and_written_for_machines(archive: Path, tmp_path: Path) -> None:
    progress = Progress(tmp_path / "events.jsonl")
    path = catalog(catalog_config(archive), progress)
    progress.close()
    summary = json.loads(path.with_name("catalog.summary.json").read_text())
    assert (summary["kind"], summary["images"], summary["kept"]) == ("folder", 10, 5)
    assert summary["kept_by_modality"] == {"T1": 3, "T2": 1, "T2-FLAIR": 1}
    assert summary["dropped_by_rule"] == {
        "duplicate": 1,
        "modality mask": 1,
        "modality unknown": 1,
        "spacing": 1,
        "unreadable": 1,
    }
    assert summary["config"]["max_spacing_mm"] == 6.5
    (table,) = [event["message"] for event in read_events(tmp_path / "events.jsonl") if event["kind"] == "note"]
    assert "dropped: spacing" in table
    assert "kept: T2-FLAIR" in table


def test_shards_together_say_what_one_job_says(archive: Path) -> None:
    alone = read_catalog(catalog(catalog_config(archive), Progress()))
    shared = archive.parent / "shards" / "catalog.jsonl"
    for number in (1, 2, 3):
        catalog(catalog_config(archive, output=shared, shard=f"{number}/3"), Progress())
    together = read_catalog(shared)
    assert [(e.path, e.kept, e.sha256) for e in together] == [(e.path, e.kept, e.sha256) for e in alone]
    assert len(list(shared.parent.glob("catalog.*-of-3.summary.json"))) == 3


def test_every_kept_image_is_stored_and_a_second_run_adds_nothing(archive: Path) -> None:
    path = catalog(catalog_config(archive), Progress())
    config = preprocess_config(path)
    store = CaseStore.open(preprocess(config, Progress()))
    assert store.names() == tuple(sorted(case_name(entry) for entry in read_catalog(path) if entry.kept))
    before = {name: (store.folder / "cases" / name / "case.json").stat().st_mtime_ns for name in store.names()}
    preprocess(config, Progress())
    after = {name: (store.folder / "cases" / name / "case.json").stat().st_mtime_ns for name in store.names()}
    assert before == after
    summary = json.loads((store.folder / "preprocess.summary.json").read_text())
    assert summary == {"images": 5, "stored": 0, "present_before": 5, "refused": []}


def test_a_run_that_was_cut_off_is_continued(archive: Path) -> None:
    config = preprocess_config(catalog(catalog_config(archive), Progress()))
    whole = CaseStore.open(preprocess(config, Progress()))
    fingerprint, removed = whole.fingerprint(), whole.names()[2]
    whole.remove(removed)
    preprocess(config, Progress())
    assert CaseStore.open(whole.folder).fingerprint() == fingerprint
    summary = json.loads((whole.folder / "preprocess.summary.json").read_text())
    assert (summary["stored"], summary["present_before"]) == (1, 4)


def test_shards_and_workers_make_the_same_store(archive: Path, tmp_path: Path) -> None:
    path = catalog(catalog_config(archive), Progress())
    alone = CaseStore.open(preprocess(preprocess_config(path, workers=1), Progress()))
    shared = tmp_path / "shared store"
    for number in (2, 1):
        preprocess(preprocess_config(path, output=shared, workers=3, shard=f"{number}/2"), Progress())
    together = CaseStore.open(shared)
    assert together.names() == alone.names()
    assert together.fingerprint() == alone.fingerprint()


@pytest.mark.parametrize(("shard", "left"), [("1/1", 0), ("1/2", 1)])
def test_what_a_killed_run_left_is_removed_unless_another_job_may_be_writing_it(
    archive: Path, shard: str, left: int
) -> None:
    path = catalog(catalog_config(archive), Progress())
    config = preprocess_config(path, shard=shard)
    (config.output / "cases" / ".writing-x" / "case").mkdir(parents=True)
    preprocess(config, Progress())
    assert len(list((config.output / "cases").glob(".writing-*"))) == left


def test_an_image_that_broke_since_is_left_out_and_named(archive: Path, tmp_path: Path) -> None:
    path = catalog(catalog_config(archive), Progress())
    (archive / "b_T1.nii.gz").write_text("gone")
    progress = Progress(tmp_path / "events.jsonl")
    store = CaseStore.open(preprocess(preprocess_config(path), progress))
    progress.close()
    (refused,) = json.loads((store.folder / "preprocess.summary.json").read_text())["refused"]
    assert refused["path"] == str(archive / "b_T1.nii.gz")
    assert "cannot be read as an image" in refused["reason"]
    assert len(store.names()) == 4
    warnings = [event for event in read_events(tmp_path / "events.jsonl") if event["kind"] == "warning"]
    assert [event["code"] for event in warnings] == ["E_IMAGE_DROPPED"]


def test_a_catalogue_that_keeps_nothing_or_only_broken_images_stops(archive: Path) -> None:
    nothing = catalog(catalog_config(archive, modalities=("PD",)), Progress())
    with pytest.raises(DatasetError, match=r"catalog\.jsonl keeps no image; its summary says why"):
        preprocess(preprocess_config(nothing), Progress())
    path = catalog(catalog_config(archive), Progress())
    for name in WRITTEN:
        (archive / name).unlink()
    with pytest.raises(DatasetError, match=r"None of the 5 images of .* The first: There is no image file"):
        preprocess(preprocess_config(path), Progress())


def test_a_full_disk_stops_with_one_sentence_and_leaves_whole_cases_only(
    archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = preprocess_config(catalog(catalog_config(archive), Progress()), workers=1)
    written = []
    write_bytes = Path.write_bytes

    def until_full(path: Path, data: bytes) -> int:
        written.append(path)
        if len(written) > 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write_bytes(path, data)

    monkeypatch.setattr(Path, "write_bytes", until_full)
    with pytest.raises(StorageError, match="The disk is full; free some space"):
        preprocess(config, Progress())
    monkeypatch.undo()
    store = CaseStore.open(config.output)
    assert len(store.names()) == 2
    for name in store.names():
        store.check(name)
    preprocess(config, Progress())
    assert len(store.names()) == 5


def test_an_output_that_cannot_be_written_stops_with_one_sentence(archive: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"catalog\.jsonl cannot be written"):
        catalog(catalog_config(archive, output=tmp_path / "file" / "catalog.jsonl"), Progress())
    path = catalog(catalog_config(archive), Progress())
    with pytest.raises(StorageError, match="cannot be written"):
        preprocess(preprocess_config(path, output=tmp_path / "file"), Progress())


def test_pretrain_data_json_of_nnssl_goes_the_whole_way_with_its_masks(
    tmp_path: Path, write_image: Write, mask_writer: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_image(tmp_path / "raw" / "Dataset001" / "a.nii.gz")
    face = np.zeros((12, 14, 16), dtype=bool)
    face[:3] = True
    mask_writer(tmp_path / "raw" / "Dataset001" / "face.nii.gz", face)
    masks = {"anonymization_mask": "$nnssl_raw/Dataset001/face.nii.gz", "anatomy_mask": None}
    images = [
        {"name": name, "modality": "T1w", "image_path": f"$nnssl_raw/Dataset001/{name}", "associated_masks": masks}
        for name in ("a.nii.gz", "missing.nii.gz")
    ]
    content = {"datasets": {"1": {"subjects": {"sub-1": {"sessions": {"ses-1": {"images": images}}}}}}}
    (tmp_path / "pretrain_data.json").write_text(json.dumps(content))
    monkeypatch.setenv("nnssl_raw", str(tmp_path / "raw"))
    path = catalog(catalog_config(tmp_path / "pretrain_data.json"), Progress())
    kept, missing = read_catalog(path)
    assert (kept.kept, missing.kept, missing.rule) == (True, False, "unreadable")
    assert "Set the environment variable nnssl_raw" in str(missing.reason)
    config = preprocess_config(path, orientation="as_stored", spacing_mm=None)
    store = CaseStore.open(preprocess(config, Progress()))
    assert np.array_equal(store.read_excluded(case_name(kept)), face)
