"""Which images are fit for pre-training: the paper's filters (method.md 0.7 and section 5), one function each.

A rule looks at what is known before any voxel is read and answers with a sentence, or None where it has no objection.
"""

import dataclasses
from collections.abc import Callable

from s3d.preparation.catalog import CatalogEntry, dropped
from s3d.preparation.config import CatalogConfig
from s3d.preparation.modality import UNKNOWN

_AXES = "zyx"
_KILOBYTE = 1024
_DECIMALS_MM = 3  # a spacing worked out from DICOM slice positions is 6.4999998 where 6.5 was meant

Rule = Callable[[CatalogEntry, CatalogConfig], str | None]


def filtered(entry: CatalogEntry, config: CatalogConfig) -> CatalogEntry:
    """entry, dropped by the first rule that objects; entries dropped before stay as they are."""
    if not entry.kept:
        return entry
    if entry.modality == UNKNOWN:
        entry = dataclasses.replace(entry, modality=config.assumed())
    for name, rule in RULES.items():
        reason = rule(entry, config)
        if reason is not None:
            return dropped(entry, name, reason)
    return entry


def modality_objection(entry: CatalogEntry, config: CatalogConfig) -> str | None:
    """Only the wanted kinds of MRI; unknown ones only where the user says what they are."""
    if entry.modality in config.wanted_modalities():
        return None
    if entry.modality == UNKNOWN:
        return "Neither name nor tags tell the modality; --assume-modality T1 (or another) keeps such images."
    return f"{entry.modality} is not among the wanted modalities ({', '.join(config.wanted_modalities())})."


def field_of_view_objection(entry: CatalogEntry, config: CatalogConfig) -> str | None:
    """No thin slabs: every axis at least config.min_field_of_view_mm long."""
    if entry.shape is None or entry.spacing_mm is None:
        return None
    for axis, voxels, spacing in zip(_AXES, entry.shape, entry.spacing_mm, strict=True):
        if round(voxels * spacing, _DECIMALS_MM) < config.min_field_of_view_mm:
            return (
                f"The field of view is {voxels * spacing:.6g} mm along {axis} ({voxels} x {spacing:.6g} mm), "
                f"less than {config.min_field_of_view_mm:g} mm."
            )
    return None


def spacing_objection(entry: CatalogEntry, config: CatalogConfig) -> str | None:
    """No thick slices: every voxel edge below config.max_spacing_mm."""
    if entry.spacing_mm is None:
        return None
    longest = max(entry.spacing_mm)
    if round(longest, _DECIMALS_MM) < config.max_spacing_mm:
        return None
    axis = _AXES[entry.spacing_mm.index(longest)]
    return f"The spacing is {longest:.6g} mm along {axis}, {config.max_spacing_mm:g} mm or more."


def file_size_objection(entry: CatalogEntry, config: CatalogConfig) -> str | None:
    """No tiny files: they hold masks, localisers or next to nothing."""
    if entry.bytes >= config.min_file_kilobytes * _KILOBYTE:
        return None
    return f"The file has {entry.bytes} bytes, less than {config.min_file_kilobytes:g} kB of {_KILOBYTE} bytes."


RULES: dict[str, Rule] = {
    "modality": modality_objection,
    "field of view": field_of_view_objection,
    "spacing": spacing_objection,
    "file size": file_size_objection,
}
