"""Options of the verbs `models list`, `models show` and `models import`. Torch-free."""

import os
from dataclasses import dataclass, field
from pathlib import Path


def models_folder() -> Path:
    """Where models are kept unless said otherwise: S3D_HOME (by default .s3d in the home folder), folder models."""
    return Path(os.environ.get("S3D_HOME", Path.home() / ".s3d")) / "models"


@dataclass(frozen=True, kw_only=True)
class ListConfig:
    """Which bundles to list."""

    folder: Path = field(default_factory=models_folder)
    """Folder that holds bundles."""


@dataclass(frozen=True, kw_only=True)
class ShowConfig:
    """Which card to show."""

    model: Path
    """A bundle, folder or zip."""


@dataclass(frozen=True, kw_only=True)
class ImportConfig:
    """Where an nnssl checkpoint lies and what the bundle is called."""

    source: str
    """A .pth file, a folder with checkpoint_final.pth, or a Hugging Face repository id (HF_ENDPOINT is respected)."""
    folder: Path = field(default_factory=models_folder)
    """Folder the bundle goes to."""
    name: str | None = None
    """Name of the bundle; unset, made from the source."""
