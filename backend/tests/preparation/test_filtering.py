import dataclasses
from pathlib import Path

import pytest

from s3d.preparation.catalog import CatalogEntry
from s3d.preparation.config import CatalogConfig
from s3d.preparation.filtering import filtered

PAPER = CatalogConfig(source=Path("archive"), output=Path("catalog.jsonl"))
GOOD = CatalogEntry(
    path=Path("a.nii.gz"),
    importer="folder",
    subject="1",
    modality="T1",
    shape=(25, 240, 256),
    spacing_mm=(6.0, 1.0, 1.0),
    bytes=200 * 1024,
    sha256="x",
    kept=True,
)


def test_an_image_just_inside_the_papers_thresholds_stays() -> None:
    """method.md 0.7: field of view < 50 mm, spacing >= 6.5 mm, file < 200 kB (1024 bytes) are dropped."""
    assert filtered(GOOD, PAPER) == GOOD
    edge = dataclasses.replace(GOOD, shape=(50, 240, 256), spacing_mm=(1.0, 1.0, 6.499))
    assert filtered(edge, PAPER).kept


@pytest.mark.parametrize(
    ("changes", "rule", "reason"),
    [
        ({"modality": "SWI"}, "modality", "SWI is not among the wanted modalities (T1, T2, T1-FLAIR, T2-FLAIR)."),
        ({"modality": "ADC"}, "modality", "ADC is not among the wanted"),
        ({"modality": "unknown"}, "modality", "Neither name nor tags tell the modality; --assume-modality T1"),
        ({"shape": (49, 240, 256), "spacing_mm": (1.0, 1.0, 1.0)}, "field of view", "is 49 mm along z (49 x 1 mm)"),
        ({"shape": (160, 160, 30)}, "field of view", "is 30 mm along x"),
        ({"spacing_mm": (6.5, 1.0, 1.0)}, "spacing", "The spacing is 6.5 mm along z, 6.5 mm or more."),
        ({"spacing_mm": (6.0, 1.0, 8.0)}, "spacing", "The spacing is 8 mm along x, 6.5 mm or more."),
        ({"bytes": 200 * 1024 - 1}, "file size", "The file has 204799 bytes, less than 200 kB of 1024 bytes."),
        ({"bytes": 1024}, "file size", "The file has 1024 bytes, less than 200 kB"),
    ],
)
def test_each_filter_drops_with_its_rule_and_the_value(changes: dict[str, object], rule: str, reason: str) -> None:
    result = filtered(dataclasses.replace(GOOD, **changes), PAPER)  # type: ignore[arg-type]
    assert (result.kept, result.rule) == (False, rule)
    assert reason in str(result.reason)


def test_a_spacing_rounded_by_dicom_counts_as_what_was_meant() -> None:
    assert not filtered(dataclasses.replace(GOOD, spacing_mm=(6.4999998, 1.0, 1.0)), PAPER).kept


def test_thresholds_and_modalities_are_options() -> None:
    config = dataclasses.replace(PAPER, max_spacing_mm=9.0, modalities=("t2*", "PD"), min_file_kilobytes=0)
    thick = dataclasses.replace(GOOD, spacing_mm=(8.0, 1.0, 1.0), modality="T2*", bytes=1)
    assert filtered(thick, config).kept
    assert not filtered(GOOD, config).kept


def test_unknown_modalities_are_kept_where_the_user_says_what_they_are() -> None:
    result = filtered(dataclasses.replace(GOOD, modality="unknown"), dataclasses.replace(PAPER, assume_modality="T1w"))
    assert (result.kept, result.modality) == (True, "T1")


def test_an_image_dropped_before_keeps_its_first_reason() -> None:
    broken = dataclasses.replace(GOOD, kept=False, rule="unreadable", reason="truncated", bytes=1)
    assert filtered(broken, PAPER) == broken
