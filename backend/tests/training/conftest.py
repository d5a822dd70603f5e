"""Small real inputs and real subprocesses: what a run is when it is started from a terminal, and killed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK
import torch
from scipy.ndimage import gaussian_filter

from s3d.data.case_record import StoreDescription
from s3d.data.case_store import CaseStore

NETWORK = {"features": [4, 8], "blocks": [1, 1], "decoder_convs": [1]}
_LONGEST_WAIT_SECONDS = 120


def _smooth(seed: int, shape: tuple[int, int, int] = (20, 18, 22)) -> np.ndarray:
    smooth = gaussian_filter(np.random.default_rng(seed).standard_normal(shape), 2.0)
    scaled: np.ndarray = ((smooth - smooth.mean()) / smooth.std()).astype(np.float32)
    return scaled


@pytest.fixture(scope="session")
def store_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of three unlabelled cases."""
    store = CaseStore.create(tmp_path_factory.mktemp("unlabelled") / "store", StoreDescription(channels=("MR",)))
    for number in range(3):
        store.write(f"case{number}", _smooth(number)[None])
    return store.folder


@pytest.fixture(scope="session")
def dataset_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An nnU-Net dataset of six cases; the label is where the smooth image is bright."""
    folder = tmp_path_factory.mktemp("labelled") / "Dataset001_Bright"
    for number in range(6):
        image = _smooth(100 + number)
        for kind, array in (("imagesTr", image), ("labelsTr", (image > 0.8).astype(np.uint8))):
            ending = "_0000.nii.gz" if kind == "imagesTr" else ".nii.gz"
            path = folder / kind / f"case{number}{ending}"
            path.parent.mkdir(parents=True, exist_ok=True)
            SimpleITK.WriteImage(SimpleITK.GetImageFromArray(array), str(path))
    description = {
        "channel_names": {"0": "T1"},
        "labels": {"background": 0, "bright": 1},
        "numTraining": 6,
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(description), encoding="utf-8")
    return folder


@pytest.fixture
def pretraining_options(store_folder: Path, tmp_path: Path) -> dict[str, Any]:
    """A tiny pre-training on one thread, as its JSON file says it; `output` is to be changed per run."""
    return {
        "store": str(store_folder),
        "output": str(tmp_path / "run"),
        "architecture": NETWORK,
        "patch_size": [16, 16, 16],
        "batch_size": 2,
        "steps": 60,
        "save_every": 2,
        "log_every": 1,
        "device": "cpu",
        "precision": "fp32",
        "cpu_threads": 1,
    }


@pytest.fixture
def finetuning_options(dataset_folder: Path, tmp_path: Path) -> dict[str, Any]:
    """A tiny training from scratch on one thread, as its JSON file says it."""
    return {
        "dataset": str(dataset_folder),
        "output": str(tmp_path / "run"),
        "architecture": NETWORK,
        "patch_size": [16, 16, 16],
        "batch_size": 2,
        "steps": 20,
        "save_every": 2,
        "log_every": 1,
        "device": "cpu",
        "precision": "fp32",
        "cpu_threads": 1,
    }


@dataclass
class Command:
    """A running verb in a process group of its own, as a terminal would start it."""

    process: "subprocess.Popen[bytes]"
    log: Path

    def press(self, number: signal.Signals) -> None:
        """Send a signal to the whole group, as Ctrl-C in a terminal does."""
        os.killpg(self.process.pid, number)

    def kill(self) -> None:
        """SIGKILL to every process of the group."""
        self.press(signal.SIGKILL)
        self.process.wait()

    def exit_code(self) -> int:
        """Wait for the end."""
        return self.process.wait(_LONGEST_WAIT_SECONDS)

    @property
    def is_running(self) -> bool:
        return self.process.poll() is None

    @property
    def said(self) -> str:
        """Everything on stdout and stderr."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Return as soon as condition holds or the process ended."""
        give_up = time.monotonic() + _LONGEST_WAIT_SECONDS
        while self.is_running and not condition():
            assert time.monotonic() < give_up, self.said
            time.sleep(0.002)


Start = Callable[..., Command]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """start("pretrain", options) runs `s3d pretrain --config FILE`; processes > 1 does it under torchrun."""
    started: list[Command] = []

    def run(verb: str, options: dict[str, Any], processes: int = 1) -> Command:
        number = len(started)
        file = tmp_path / f"{verb}-{number}.json"
        file.write_text(json.dumps(options), encoding="utf-8")
        torchrun = ["-m", "torch.distributed.run", "--nproc-per-node", str(processes), "--standalone"]
        command = [sys.executable, *(torchrun if processes > 1 else []), "-m", "s3d.cli", verb, "--config", str(file)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "1000"}
        log = tmp_path / f"{verb}-{number}.txt"
        with log.open("wb") as target:
            process = subprocess.Popen(
                command, stdout=target, stderr=target, stdin=subprocess.DEVNULL, env=environment, start_new_session=True
            )
        started.append(Command(process, log))
        return started[-1]

    yield run
    for command in started:
        if command.is_running:
            command.kill()


@pytest.fixture(autouse=True)
def _threads_stay() -> Iterator[None]:
    """A run with cpu_threads sets torch's threads for the whole process; put them back."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
