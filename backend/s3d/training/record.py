"""What a model card says about how a model came to be."""

import importlib.metadata
import platform

_NAMED = ("s3d-backend", "torch", "numpy", "scipy", "SimpleITK", "blosc2")


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that shape the numbers."""
    found = {"python": platform.python_version()}
    for name in _NAMED:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found
