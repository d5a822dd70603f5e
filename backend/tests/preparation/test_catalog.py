import dataclasses
from pathlib import Path

import pytest

from s3d.errors import ConfigError, DatasetError
from s3d.preparation.catalog import CatalogEntry, read_catalog, shard_path, without_duplicates, write_catalog
from s3d.preparation.config import CatalogConfig, PreprocessConfig, Shard, parse_shard


def entry(name: str, **changes: object) -> CatalogEntry:
    values = {
        "path": Path(name),
        "importer": "folder",
        "subject": "1",
        "modality": "T1",
        "shape": (160, 200, 180),
        "spacing_mm": (1.0, 1.0, 1.2),
        "bytes": 3_000_000,
        "sha256": f"hash of {name}",
        "kept": True,
    }
    return CatalogEntry(**{**values, **changes})  # type: ignore[arg-type]


def test_a_catalogue_comes_back_as_it_was_written(tmp_path: Path) -> None:
    written = [
        entry("/a.nii.gz", anonymization_mask=Path("/a_mask.nii.gz")),
        entry("/b.nii.gz", kept=False, rule="spacing", reason="The spacing is 8 mm.", shape=None, spacing_mm=None),
        entry("/ü.nii.gz", session="x", series_id="1.2.3"),
    ]
    write_catalog(tmp_path / "catalog.jsonl", written)
    assert read_catalog(tmp_path / "catalog.jsonl") == written
    assert len((tmp_path / "catalog.jsonl").read_text(encoding="utf-8").splitlines()) == 3


def test_relative_paths_start_at_the_catalogue(tmp_path: Path) -> None:
    write_catalog(tmp_path / "catalog.jsonl", [entry("images/a.nii.gz", anatomy_mask=Path("m.nii.gz"))])
    (read,) = read_catalog(tmp_path / "catalog.jsonl")
    assert (read.path, read.anatomy_mask) == (tmp_path / "images" / "a.nii.gz", tmp_path / "m.nii.gz")
    assert read.anonymization_mask is None


def test_of_images_with_the_same_content_the_first_path_stays() -> None:
    same = [entry(name, sha256="x") for name in ("c", "a", "b")]
    result = without_duplicates(same)
    assert [(e.path.name, e.kept) for e in result] == [("a", True), ("b", False), ("c", False)]
    assert result[1].rule == "duplicate"
    assert "content as a" in str(result[1].reason)


def test_a_dropped_image_does_not_make_its_copy_a_duplicate() -> None:
    result = without_duplicates([entry("a", sha256="x", kept=False, rule="modality"), entry("b", sha256="x")])
    assert [e.kept for e in result] == [False, True]


def test_looking_for_duplicates_twice_changes_nothing() -> None:
    once = without_duplicates([entry(name, sha256=name[0]) for name in ("xa", "xb", "y", "xc")])
    assert without_duplicates(once) == once


def test_shards_are_read_together_and_duplicates_between_them_dropped(tmp_path: Path) -> None:
    path = tmp_path / "catalog.jsonl"
    write_catalog(shard_path(path, Shard(1, 2)), [entry("/a", sha256="x"), entry("/c")])
    write_catalog(shard_path(path, Shard(2, 2)), [entry("/b", sha256="x"), entry("/d")])
    assert [e.path.name for e in read_catalog(path) if e.kept] == ["a", "c", "d"]


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    path = tmp_path / "catalog.jsonl"
    for number in (1, 3):
        write_catalog(shard_path(path, Shard(number, 3)), [entry(f"/{number}")])
    with pytest.raises(DatasetError, match=r"Of the 3 shards .* \[2\] are missing; run `s3d catalog` for them"):
        read_catalog(path)


def test_shards_of_two_runs_are_not_mixed(tmp_path: Path) -> None:
    path = tmp_path / "catalog.jsonl"
    for shard in (Shard(1, 2), Shard(2, 2), Shard(1, 3)):
        write_catalog(shard_path(path, shard), [entry(f"/{shard}")])
    with pytest.raises(DatasetError, match=r"different runs \(\[2, 3\] jobs\); remove the old ones"):
        read_catalog(path)
    write_catalog(path, [entry("/all")])
    with pytest.raises(DatasetError, match="shards of another run"):
        read_catalog(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "There is no catalogue at .*Write one with `s3d catalog`"),
        ("", "is empty"),
        ('{"path": "/a"}\n', "line 1 is damaged .*must be given"),
        ("{not json\n", "line 1 is damaged"),
        ("[1]\n", "line 1 is damaged"),
        ('{"path": "/a", "color": 1}\n', "line 1 .*unknown key 'color'"),
    ],
)
def test_a_damaged_catalogue_is_refused_with_file_and_line(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "catalog.jsonl"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    with pytest.raises(DatasetError, match=message):
        read_catalog(path)


def test_shards_take_every_image_exactly_once() -> None:
    items = list(range(17))
    shards = [parse_shard(f"{number}/5") for number in range(1, 6)]
    shares = [items[shard.number - 1 :: shard.count] for shard in shards]
    assert sorted(item for share in shares for item in share) == items
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize("text", ["0/4", "5/4", "4", "a/b", "1/0", "-1/2", ""])
def test_an_impossible_shard_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="write i/n with i from 1 to n"):
        parse_shard(text)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_spacing_mm": 0.0}, "max_spacing_mm is 0.0; it must be above 0"),
        ({"workers": 0}, "workers is 0"),
        ({"min_file_kilobytes": -1.0}, "min_file_kilobytes is -1.0"),
        ({"output": Path("catalog.json")}, "ends in .jsonl"),
        ({"modalities": ()}, "modalities is empty"),
        ({"modalities": ("T1", "banana")}, "'banana' is not known; known are"),
        ({"assume_modality": "banana"}, "'banana' is not known"),
        ({"shard": "3/2"}, "shard is '3/2'"),
    ],
)
def test_an_option_out_of_range_is_refused_with_its_value(changes: dict[str, object], message: str) -> None:
    config = CatalogConfig(source=Path("in"), output=Path("catalog.jsonl"))
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(config, **changes)  # type: ignore[arg-type]


def test_preprocessing_refuses_a_spacing_of_zero() -> None:
    with pytest.raises(ConfigError, match=r"spacing_mm is \(1.0, 0.0, 1.0\)"):
        PreprocessConfig(catalog=Path("catalog.jsonl"), output=Path("store"), spacing_mm=(1.0, 0.0, 1.0))
