"""The real command on tiny real files: what it says, how it ends, what it leaves behind."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK
import torch

from s3d import cli
from s3d.bundle import BundleDescription, Channel, Label, save_bundle
from s3d.models.presets import Architecture
from s3d.models.resenc_unet import ResEncUNet

SHAPE = (12, 14, 16)
QUICK = (
    "--steps",
    "2",
    "--patch-size",
    "8",
    "8",
    "8",
    "--device",
    "cpu",
    "--precision",
    "fp32",
    "--reader-threads",
    "1",
)
NETWORK = Architecture(features=(4, 6), blocks=(1, 1), decoder_convs=(1,), output_channels=3)


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def sentence(self) -> str:
        """The last line on the error stream."""
        return self.err.strip().splitlines()[-1]


@pytest.fixture
def s3d(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ended]:
    """Runs `s3d WORDS...` in this process."""
    monkeypatch.delenv("S3D_DATA", raising=False)

    def run(*words: object) -> Ended:
        capsys.readouterr()
        code = cli.main([str(word) for word in words])
        shown = capsys.readouterr()
        return Ended(code, shown.out, shown.err)

    return run


@pytest.fixture
def refused(s3d: Callable[..., Ended]) -> Callable[..., str]:
    """Runs a command (verb first) that must end with one sentence and exit code 2; returns the sentence."""

    def run(*words: object) -> str:
        ended = s3d(*str(words[0]).split(), *words[1:])
        assert ended.code == 2, ended
        assert ended.out == ""
        assert "Traceback" not in ended.err
        assert ended.sentence.startswith(f"s3d {words[0]}: "), ended.err
        assert ended.err.count(ended.sentence) == 1
        return ended.sentence

    return run


@pytest.fixture
def files_in() -> Callable[[Path], set[str]]:
    """Every file below a folder, hidden ones as well."""
    return lambda folder: {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@dataclass(frozen=True)
class Files:
    """A labelled dataset with the cases a and b, one channel, labels 1 and 2; and how to write its files."""

    folder: Path

    def image(self, case: str = "a") -> Path:
        return self.folder / "imagesTr" / f"{case}_0000.nii.gz"

    def labels(self, case: str = "a") -> Path:
        return self.folder / "labelsTr" / f"{case}.nii.gz"

    @staticmethod
    def intensities(seed: int = 0, shape: Sequence[int] = SHAPE) -> np.ndarray:
        """float32 noise, nowhere 0."""
        return np.random.default_rng(seed).uniform(10, 90, shape).astype(np.float32)

    @staticmethod
    def some_labels() -> np.ndarray:
        """Values 0, 1 and 2."""
        labels = np.zeros(SHAPE, np.uint8)
        labels[2:6, 3:9, 4:10] = 1
        labels[7:10, 3:9, 4:10] = 2
        return labels

    @staticmethod
    def write(path: Path, array: np.ndarray, origin_mm: Sequence[float] = (0.0, 0.0, 0.0)) -> Path:
        """array (z, y, x) or (t, z, y, x), voxels of 1 mm."""
        image = SimpleITK.GetImageFromArray(array, isVector=False)
        image.SetOrigin([*origin_mm, 0.0][: image.GetDimension()])
        path.parent.mkdir(parents=True, exist_ok=True)
        SimpleITK.WriteImage(image, str(path))
        return path

    def describe(self, **changes: object) -> None:
        """Write dataset.json."""
        values = {
            "channel_names": {"0": "T1"},
            "labels": {"background": 0, "head": 1, "tail": 2},
            "file_ending": ".nii.gz",
            "numTraining": 2,
        }
        (self.folder / "dataset.json").write_text(json.dumps(values | changes))


@pytest.fixture
def dataset(tmp_path: Path) -> Files:
    files = Files(tmp_path / "dataset")
    for seed, case in enumerate(("a", "b")):
        files.write(files.image(case), files.intensities(seed))
        files.write(files.labels(case), files.some_labels())
    files.describe()
    return files


@pytest.fixture
def finetuning(dataset: Files, tmp_path: Path) -> list[object]:
    """The words of a fine-tuning that takes a second and would succeed; its output folder is RUN."""
    return ["finetune", "--dataset", dataset.folder, "--output", tmp_path / "run", "--preset", "tiny", *QUICK]


@pytest.fixture
def make_model(tmp_path: Path) -> Callable[..., Path]:
    """Writes a segmentation bundle with random weights; options replace fields of the description."""

    def make(channels: Sequence[str] = ("T1",), **options: Any) -> Path:
        values: dict[str, Any] = {
            "name": "toy",
            "kind": "segmentation",
            "architecture": Architecture(
                features=NETWORK.features, blocks=NETWORK.blocks, decoder_convs=NETWORK.decoder_convs,
                input_channels=len(channels), output_channels=3,
            ),
            "channels": tuple(Channel(name=name) for name in channels),
            "patch_size": (8, 8, 8),
            "labels": (Label(value=1, name="head"), Label(value=2, name="tail")),
        }  # fmt: skip
        description = BundleDescription(**(values | options))
        torch.manual_seed(0)
        network = ResEncUNet(description.architecture)
        path = tmp_path / "toy.s3dmodel"
        save_bundle(path, description, {name: value.numpy() for name, value in network.state_dict().items()})
        return path

    return make


@pytest.fixture
def catalog_words(dataset: Files, tmp_path: Path) -> list[object]:
    """The words that list the dataset's images as an archive, small as they are."""
    return [
        "catalog", "--source", dataset.folder / "imagesTr", "--output", tmp_path / "archive" / "catalog.jsonl",
        "--min-file-kilobytes", "0", "--min-field-of-view-mm", "1", "--assume-modality", "T1",
    ]  # fmt: skip


@pytest.fixture
def pretraining(catalog_words: list[object], s3d: Callable[..., Ended], tmp_path: Path) -> list[object]:
    """The words of a pre-training that takes a second and would succeed, its store made; its output folder is RUN."""
    archive = tmp_path / "archive"
    assert s3d(*catalog_words).code == 0
    assert s3d("preprocess", "--catalog", archive / "catalog.jsonl", "--output", archive / "store").code == 0
    return ["pretrain", "--store", archive / "store", "--output", tmp_path / "run", "--preset", "tiny", *QUICK]
