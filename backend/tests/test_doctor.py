"""The doctor tells what is there, and what to do about what is not."""

import importlib.metadata
import os
import re
import shutil
import sys
from collections import namedtuple
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from s3d import cli
from s3d.doctor import DoctorConfig, doctor
from s3d.progress import Progress

Usage = namedtuple("Usage", "total used free")


def line_of(name: str, folder: Path = Path()) -> str:
    """The line of the quick report that begins with name."""
    text = doctor(DoctorConfig(folder=folder, speed=False), Progress())
    (line,) = [line for line in text.splitlines() if line.startswith(name)]
    return line


def test_every_fact_has_its_line() -> None:
    lines = doctor(DoctorConfig(speed=False), Progress()).splitlines()
    names = [line.split()[0] for line in lines]
    wanted = {"system", "python", "processor", "memory", "free", "cpu", "torch", "numpy", "SimpleITK", "s3d-backend"}
    wanted |= {"monai", "matplotlib", "rich", "tyro", "huggingface_hub", "verdict"}
    assert wanted <= set(names)
    assert len(names) == len(set(names))
    assert torch.__version__.split("+")[0] in line_of("torch")


def test_the_speed_is_measured_and_can_be_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor"]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("speed")]
    assert float(line.split()[1]) > 0
    assert "training steps/s of the small network on " in line
    assert cli.main(["doctor", "--no-speed"]) == 0
    assert "speed" not in capsys.readouterr().out


def test_little_disk_is_told_with_a_remedy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**12, 0, 12 * 10**9))
    assert line_of("free disk", tmp_path) == f"free disk   12 GB at {tmp_path}"
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**12, 0, 3 * 10**9))
    assert line_of("free disk", tmp_path) == (
        f"free disk   3 GB at {tmp_path}  -> less than 10 GB; free some space or choose another output folder"
    )


def test_a_folder_that_is_still_to_be_made_is_told_about_all_the_same(tmp_path: Path) -> None:
    assert f"GB at {tmp_path / 'runs' / 'first'}" in line_of("free disk", tmp_path / "runs" / "first")
    (tmp_path / "file").touch()
    assert line_of("free disk", tmp_path / "file" / "run").endswith(
        f"-> {tmp_path / 'file'} is a file; choose another output folder"
    )


def test_a_folder_one_may_not_write_to_is_told_with_a_remedy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert "-> no permission to write there; choose another" in line_of("free disk", tmp_path)


@pytest.mark.skipif(not hasattr(os, "sysconf"), reason="this system does not tell its memory this way")
@pytest.mark.parametrize(("gigabytes", "told"), [(16, False), (4, True)])
def test_little_memory_is_told_with_a_remedy(gigabytes: int, told: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"SC_PAGE_SIZE": 1000, "SC_PHYS_PAGES": gigabytes * 10**6}
    monkeypatch.setattr(os, "sysconf", values.__getitem__)
    line = line_of("memory")
    assert f" {gigabytes} GB" in line
    assert line.endswith("-> less than 8 GB; keep to small presets and patches") == told


def test_without_a_gpu_it_says_what_still_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert line_of("cuda") == "cuda        none  -> training ResEnc-L needs a GPU; small presets work on the CPU"


def test_every_gpu_is_named_with_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    properties = namedtuple("Properties", "name total_memory")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: properties(f"Card {index}", 24 * 10**9))
    text = doctor(DoctorConfig(speed=False), Progress())
    assert [line.split(maxsplit=1)[1] for line in text.splitlines() if line.startswith("cuda")] == [
        "Card 0, 24 GB",
        "Card 1, 24 GB",
    ]


def pretend_missing(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.metadata.version

    def version(name: str) -> str:
        if name == missing:
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)


def test_a_missing_nilearn_is_told_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_missing("nilearn", monkeypatch)
    assert line_of("nilearn").endswith("only `s3d demo` without data needs it: pip install nilearn")
    assert line_of("verdict").startswith("verdict     ready")


@pytest.mark.parametrize("name", ["monai", "blosc2"])
def test_a_missing_library_is_told_with_a_remedy_and_spoils_the_verdict(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "not installed" not in line_of(name)
    pretend_missing(name, monkeypatch)
    assert line_of(name) == f"{name:<11} not installed  -> pip install {name}, or make install"
    assert line_of("verdict") == f"verdict     not ready: {name} is missing"


def test_the_last_line_says_whether_the_machine_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**12, 0, 12 * 10**9))
    monkeypatch.setattr(os, "sysconf", {"SC_PAGE_SIZE": 1000, "SC_PHYS_PAGES": 16 * 10**6}.__getitem__, raising=False)
    assert doctor(DoctorConfig(speed=False), Progress()).splitlines()[-1] == "verdict     ready"
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**12, 0, 3 * 10**9))
    assert line_of("verdict") == "verdict     ready, but for what the arrow above says"


@pytest.mark.parametrize(("threads", "told"), [(1, "1 thread,"), (2, "2 threads,")])
def test_threads_are_counted_in_good_english(threads: int, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    assert f" {told} bf16" in line_of("cpu")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere free memory is not cheaply known")
def test_free_memory_is_told() -> None:
    assert re.search(r"memory +\d+ GB, \d+ GB of it free", line_of("memory"))


def test_golden_files_that_agree_end_with_exit_code_0(golden_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor", "--golden", str(golden_folder)]) == 0
    shown = capsys.readouterr().out
    files = [path.name for path in golden_folder.iterdir() if path.suffix in (".safetensors", ".txt")]
    for name in files:
        assert name in shown
    for quantity in ("parameter names", "output", "encoder features", "reconstruction", "loss", "gradients"):
        assert f"\n  {quantity} " in shown
    assert shown.strip().endswith(f"All {len(files)} files agree within 1e-10.")


def test_a_golden_file_that_deviates_is_named_and_the_exit_code_is_1(
    golden_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(golden_folder / "resenc_l_parameter_names.txt", tmp_path)
    name = "resenc_unet_2in_3classes.safetensors"
    with safe_open(golden_folder / name, framework="pt") as file:
        metadata, tensors = file.metadata(), {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    output = next(key for key in tensors if key.startswith("output."))
    tensors[output] = tensors[output] + 1e-9
    save_file(tensors, tmp_path / name, metadata)
    assert cli.main(["doctor", "--golden", str(tmp_path)]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "Traceback" not in shown.err
    assert f"\nAbove the largest accepted deviation of 1e-10: {name}." in shown.err
    assert "  output                   1.00e-09" in shown.err
    assert "resenc_l_parameter_names.txt\n" in shown.err
