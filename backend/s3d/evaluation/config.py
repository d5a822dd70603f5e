"""What `s3d evaluate` can be told. Torch-free."""

from dataclasses import dataclass, field
from pathlib import Path

from s3d.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """Score a folder of segmentations against a folder of references."""

    predictions: Path
    """Folder with the segmentations; each is paired with the reference of the same name (the ending may differ)."""
    references: Path
    """Folder with the true labels, for example labelsTr of a dataset."""
    output: Path
    """Folder for cases.csv, summary.json and report.html; made if need be."""
    labels: dict[str, int] | None = None
    """Voxel values by name; other values count as background.
    Unset: those of the dataset.json in or above references, and any other value is an error."""
    ignore_value: int | None = None
    """Reference value of voxels nobody annotated, left out of both masks. Unset: `ignore` of dataset.json, if any."""
    tolerance_mm: float = 1.0
    """Distance within which a surface counts as right (NSD; 1 mm is the default of the paper's evaluation code)."""
    label_tolerances_mm: dict[str, float] = field(default_factory=dict)
    """Tolerances of single labels by name."""
    allow_missing: bool = False
    """Whether references without a prediction count as failures (an empty prediction) instead of ending the run."""
    images: Path | None = None
    """Folder with the images (NAME or NAME_0000) to draw behind the outlines in the report. Unset: outlines only."""
    pictures: int = 3
    """Cases drawn in the report, spread from the lowest to the highest Dice."""

    def __post_init__(self) -> None:
        for name, tolerance in {"tolerance_mm": self.tolerance_mm, **self.label_tolerances_mm}.items():
            if not 0 < tolerance < float("inf"):
                raise ConfigError(f"The tolerance {name} is {tolerance}; it must be above 0 mm.")
        if self.labels is not None:
            self._check_labels(self.labels)
        if self.pictures < 0:
            raise ConfigError(f"pictures is {self.pictures}; it must be 0 (none) or more.")

    def _check_labels(self, labels: dict[str, int]) -> None:
        if not labels:
            raise ConfigError("labels is empty; name at least one, or leave it out to use dataset.json.")
        if len(set(labels.values())) < len(labels) or not min(labels.values()) > 0:
            raise ConfigError(f"labels is {labels}; each needs its own value above 0 (0 is background).")
        if self.ignore_value in labels.values():
            raise ConfigError(f"ignore_value is {self.ignore_value}, which is also a label; choose another value.")
