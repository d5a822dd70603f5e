"""Processes add up: values, gradients and decisions are those of one process."""

import os
import runpy
import socket
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file
from torch import Tensor

from s3d.errors import DeviceError
from s3d.training.device import choose_device
from s3d.training.distributed import Processes, joined_processes, sum_gradients, sum_over_processes

SCRIPT = Path(__file__).with_name("two_process_script.py")
TWO = 2


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tensor]:
    """What one process finds."""
    found: dict[str, Tensor] = runpy.run_path(str(SCRIPT))["measure"](Processes(), tmp_path_factory.mktemp("alone"))
    return found


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which two processes wrote what they found."""
    folder = tmp_path_factory.mktemp("together")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    common = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    ranks = [{"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(TWO)]
    running = [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), str(folder)], env={**os.environ, **common, **rank}, stderr=subprocess.PIPE
        )
        for rank in ranks
    ]
    for process in running:
        try:
            _, errors = process.communicate(timeout=100)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        assert process.returncode == 0, errors.decode()
    return folder


@pytest.mark.parametrize("rank", range(TWO))
def test_two_processes_find_what_one_finds(rank: int, alone: dict[str, Tensor], together: Path) -> None:
    found = load_file(together / f"found{rank}.safetensors")
    assert found.keys() == alone.keys()
    for name, expected in alone.items():
        if expected.dtype == torch.float64:
            torch.testing.assert_close(found[name], expected, rtol=1e-12, atol=1e-14, msg=name)
        else:
            torch.testing.assert_close(found[name], expected, rtol=1e-5, atol=1e-7, msg=name)


def test_processes_take_decisions_together(together: Path) -> None:
    for rank in range(TWO):
        found = load_file(together / f"found{rank}.safetensors")
        assert found["any"].tolist() == [True, False]
        assert found["least"] == 7


def test_one_process_that_is_asked_stops_all_and_only_the_first_writes(together: Path) -> None:
    for rank in range(TWO):
        assert load_file(together / f"found{rank}.safetensors")["stopped_after"] == 3
    assert (together / "rank0" / "checkpoint.safetensors").exists()
    assert not (together / "rank1").exists()


def test_one_process_alone_changes_nothing() -> None:
    parameter = torch.nn.Parameter(torch.ones(3))
    parameter.grad = torch.full((3,), 2.0)
    sum_gradients([parameter])
    assert parameter.grad.tolist() == [2, 2, 2]
    assert sum_over_processes(parameter) is parameter
    with joined_processes() as processes:
        assert processes == Processes(rank=0, count=1, local_rank=0)
        assert processes.is_first


@pytest.mark.parametrize(("gpu", "backend"), [(False, "gloo"), (True, "cpu:gloo,cuda:nccl")])
def test_the_group_serves_the_chosen_device_and_waits_for_slow_work(
    gpu: bool, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With GPUs present a run on the CPU must work too, and the first process may preprocess for hours."""
    asked: dict[str, Any] = {}

    def remember(backend: str, timeout: timedelta) -> None:
        asked.update(backend=backend, timeout=timeout)

    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(dist, "init_process_group", remember)
    monkeypatch.setattr(dist, "destroy_process_group", lambda: None)
    monkeypatch.setattr(dist, "get_rank", lambda: 1)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    with joined_processes() as processes:
        assert processes == Processes(1, 2, 0)
    assert asked["backend"] == backend
    assert asked["timeout"] >= timedelta(hours=12)


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    assert choose_device("cuda", index=1).torch_device == torch.device("cuda", 1)
    with pytest.raises(DeviceError, match=r"Process 3 on this machine has no GPU of its own \(GPUs: 2\)"):
        choose_device("cuda", index=2)
    assert choose_device("cpu", "fp32", index=2).torch_device == torch.device("cpu")
