"""Importer for BIDS: sub-*/[ses-*/]anat/sub-*_T1w.nii.gz and its kin, with their sidecars and defacing masks.

Derivatives are no raw data and are left out, but for defacing masks, which some data sets keep there. Folders without
anat/ (ISLES) are read as well.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from s3d.preparation.importers.found_image import FoundImage, is_image, stem_of, walk
from s3d.preparation.modality import PAPER_EXCLUSIONS, UNKNOWN, modality_of
from s3d.preparation.timing import refined_modality, timing_from_sidecar

_NOT_RAW = {"derivatives", "sourcedata", "code", "stimuli"}
_DEFACING = {"deface", "defaced", "defacing", "defacemask"}


@dataclass(frozen=True)
class BidsName:
    """sub-01_acq-x_T1w taken apart: entities {"sub": "01", "acq": "x"} and suffix T1w."""

    entities: Mapping[str, str]
    suffix: str

    @property
    def is_defacing_mask(self) -> bool:
        """_defacemask (BIDS) or _desc-deface_mask (many tools)."""
        return self.suffix == "defacemask" or (self.suffix == "mask" and self.entities.get("desc") in _DEFACING)

    def masks(self, image: "BidsName") -> bool:
        """Whether this mask belongs to the image: all that its name tells (mod: the image's suffix, T1w by default)
        the image's name tells as well."""
        if self.entities.get("mod", "T1w") != image.suffix:
            return False
        told = {key: value for key, value in self.entities.items() if key not in {"mod", "desc", "space"}}
        return told.items() <= image.entities.items()


def parse_bids_name(stem: str) -> BidsName:
    """Take a BIDS file stem apart; a bare word before the suffix (sub-01_T1w_defacemask) counts as mod."""
    *parts, suffix = stem.split("_")
    entities = {}
    for part in parts:
        key, dash, value = part.partition("-")
        entities[key if dash else "mod"] = value if dash else part
    return BidsName(entities, suffix)


def find_in_bids(root: Path) -> list[FoundImage]:
    """Images of every subject below root, which may also be the folder above (rawdata/sub-*)."""
    named = [(path, parse_bids_name(stem_of(path))) for path in walk(root) if is_image(path)]
    named = [(path, name) for path, name in named if "sub" in name.entities]
    masks = [(path, name) for path, name in named if name.is_defacing_mask]
    raw = [(path, name) for path, name in named if _NOT_RAW.isdisjoint(path.relative_to(root).parts)]
    return [_describe(path, name, masks) for path, name in raw if not name.is_defacing_mask]


def _describe(path: Path, name: BidsName, masks: list[tuple[Path, BidsName]]) -> FoundImage:
    by_suffix, by_stem = modality_of(name.suffix), modality_of(stem_of(path))
    by_name = by_stem if by_suffix == UNKNOWN or by_stem in PAPER_EXCLUSIONS else by_suffix
    return FoundImage(
        path=path,
        importer="bids",
        subject=f"sub-{name.entities['sub']}",
        session=name.entities.get("ses"),
        modality=refined_modality(by_name, timing_from_sidecar(_sidecar(path))),
        anonymization_mask=next((mask for mask, mask_name in masks if mask_name.masks(name)), None),
    )


def _sidecar(path: Path) -> Mapping[str, Any]:
    """The JSON beside the image; an absent or damaged one tells nothing (BIDS inheritance is not followed)."""
    try:
        values = json.loads(path.with_name(stem_of(path) + ".json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}
