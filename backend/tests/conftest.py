"""What every test may ask for: the real data and the golden files, where they are."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

# A busy machine is slow, not wrong; a landing must not hang on luck. `make test-all` takes the profile "full".
settings.register_profile("quick", deadline=None, derandomize=True, max_examples=25)
settings.register_profile("full", deadline=None, derandomize=True, max_examples=200)
settings.load_profile("quick")

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder with real MRI: S3D_TEST_DATA, by default shared/data beside the repository."""
    folder = Path(os.environ.get("S3D_TEST_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; set S3D_TEST_DATA (docs/data.md says where each set comes from)")
    return folder


@pytest.fixture(scope="session")
def golden_folder() -> Path:
    """The official network's outputs: S3D_GOLDEN, by default shared/golden beside the repository."""
    folder = Path(os.environ.get("S3D_GOLDEN", REPOSITORY.parent / "shared" / "golden"))
    if not folder.is_dir():
        pytest.skip(f"no golden files at {folder}; set S3D_GOLDEN to the folder that holds them")
    return folder
