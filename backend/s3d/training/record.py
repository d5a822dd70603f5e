"""What a model card says about how a model came to be; cards travel, so neither paths nor names of cases are in it."""

import importlib.metadata
import platform
from pathlib import Path
from typing import Any

from s3d.config import to_dict
from s3d.training.config import TrainingConfig

_NAMED = ("s3d-backend", "torch", "numpy", "scipy", "SimpleITK", "blosc2")
_NAMES_OF_CASES = "cases"


def options_on_card(config: TrainingConfig) -> dict[str, Any]:
    """The options of a run without what could name a person or a machine: paths and cases."""
    left_out = {_NAMES_OF_CASES}
    if getattr(config, "architecture", None) is not None:
        left_out.add("preset")  # not the one that was trained
    return {
        name: value
        for name, value in to_dict(config).items()
        if name not in left_out and not isinstance(getattr(config, name), Path)
    }


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that shape the numbers."""
    found = {"python": platform.python_version()}
    for name in _NAMED:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found
