"""The verb `doctor`: what this machine can do, what is missing and what to do about it; golden files on request."""

import importlib.metadata
import os
import platform
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from s3d.atomic_files import existing_part
from s3d.errors import DeviationError
from s3d.progress import Progress

if TYPE_CHECKING:
    import torch

_LITTLE_DISK_GB = 10
_LITTLE_MEMORY_GB = 8
_ALSO_NEEDED = ("monai", "matplotlib", "rich", "tyro", "huggingface_hub")
_ABSENT = "not installed"


@dataclass(frozen=True, kw_only=True)
class DoctorConfig:
    """What to check."""

    golden: Path | None = None
    """Folder of golden files: outputs of the official network to compare with (float64, largest deviation 1e-10)."""
    folder: Path = Path()
    """Where runs will be written; its free space is told."""
    speed: bool = True
    """Measure a few network steps; takes some seconds."""


def doctor(config: DoctorConfig, progress: Progress) -> str:  # noqa: ARG001 - every verb takes a progress
    """A text with one fact per line; remedies stand behind an arrow. Raises DeviationError above 1e-10."""
    if config.golden is not None:
        return _golden_report(config.golden)
    needed = _needed_libraries()
    lines = [*_machine(config.folder), *_devices(), *_libraries(needed)]
    if config.speed:
        lines.append(_speed())
    return "\n".join([*lines, _verdict(lines, needed)])


def _golden_report(folder: Path) -> str:
    from s3d.golden import TOLERANCE, check_folder

    results = check_folder(folder)
    lines = []
    for result in results:
        lines.append(result.path.name)
        lines += [f"  {quantity:<24} {deviation:.2e}" for quantity, deviation in result.deviations.items()]
    failed = [result.path.name for result in results if not result.passed]
    if failed:
        lines.append(f"Above the largest accepted deviation of {TOLERANCE:.0e}: {', '.join(failed)}.")
        raise DeviationError("\n".join(lines))
    lines.append(f"All {len(results)} files agree within {TOLERANCE:.0e}.")
    return "\n".join(lines)


def _machine(folder: Path) -> list[str]:
    return [
        f"system      {platform.system()} {platform.release()}, {platform.machine()}",
        f"python      {platform.python_version()}",
        f"processor   {os.cpu_count()} cores",
        _memory(),
        _disk(folder.absolute()),
    ]


def _disk(folder: Path) -> str:
    """The folder need not exist yet."""
    existing = existing_part(folder)
    free_gb = shutil.disk_usage(existing).free / 1e9
    line = f"free disk   {free_gb:.0f} GB at {folder}"
    if not existing.is_dir():
        line += f"  -> {existing} is a file; choose another output folder"
    elif not os.access(existing, os.W_OK):
        line += "  -> no permission to write there; choose another output folder or change its permissions"
    elif free_gb < _LITTLE_DISK_GB:
        line += f"  -> less than {_LITTLE_DISK_GB} GB; free some space or choose another output folder"
    return line


def _memory() -> str:
    if sys.platform == "win32":
        return "memory      not measured on this system"
    total_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    line = f"memory      {total_gb:.0f} GB{_free_memory()}"
    if total_gb < _LITTLE_MEMORY_GB:
        line += f"  -> less than {_LITTLE_MEMORY_GB} GB; keep to small presets and patches"
    return line


def _free_memory() -> str:
    """What programs could still take, where Linux tells it."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return ""
    kilobytes = next((int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")), None)
    return "" if kilobytes is None else f", {kilobytes * 1024 / 1e9:.0f} GB of it free"


def _devices() -> list[str]:
    import torch

    from s3d.training.device import cpu_has_bf16

    threads = torch.get_num_threads()
    bf16 = "yes" if cpu_has_bf16() else "no"
    lines = [f"cpu         {threads} thread{'s' * (threads != 1)}, bf16 in hardware: {bf16}"]
    for index in range(torch.cuda.device_count()):
        gpu = torch.cuda.get_device_properties(index)
        lines.append(f"cuda:{index}      {gpu.name}, {gpu.total_memory / 1e9:.0f} GB")
    if not torch.cuda.is_available():
        lines.append("cuda        none  -> training ResEnc-L needs a GPU; small presets work on the CPU")
    if torch.backends.mps.is_available():
        lines.append("mps         Apple GPU (not timed by us)")
    return lines


def _needed_libraries() -> dict[str, str]:
    """Versions of what the package cannot do without."""
    from s3d.training.record import versions

    needed = {name: version for name, version in versions().items() if name != "python"}
    return needed | {name: _version(name) for name in _ALSO_NEEDED}


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return _ABSENT


def _libraries(needed: dict[str, str]) -> list[str]:
    lines = []
    for name, version in needed.items():
        remedy = f"  -> pip install {name}, or make install" if version == _ABSENT else ""
        lines.append(f"{name:<11} {version}{remedy}")
    if _version("nilearn") == _ABSENT:
        lines.append(f"nilearn     {_ABSENT}  -> only `s3d demo` without data needs it: pip install nilearn")
    return lines


def _verdict(lines: list[str], needed: dict[str, str]) -> str:
    missing = [name for name, version in needed.items() if version == _ABSENT]
    if missing:
        return f"verdict     not ready: {', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing"
    remarks = sum("->" in line for line in lines)
    if remarks == 0:
        return "verdict     ready"
    return f"verdict     ready, but for what the {'arrow above says' if remarks == 1 else 'arrows above say'}"


def _speed() -> str:
    import torch

    from s3d.models.presets import preset
    from s3d.models.resenc_unet import ResEncUNet
    from s3d.training.device import choose_device

    device = choose_device()
    model = ResEncUNet(preset("small")).to(device.torch_device)
    patch = torch.zeros(2, 1, 32, 48, 32, device=device.torch_device)
    seconds = min(_step_seconds(model, patch, device.autocast) for _ in range(4))
    return (
        f"speed       {1 / seconds:.1f} training steps/s of the small network on {device.torch_device} "
        f"({device.precision}; 2 patches of 32x48x32)"
    )


def _step_seconds(model: "torch.nn.Module", patch: "torch.Tensor", autocast: object) -> float:
    started = time.perf_counter()
    with autocast():  # type: ignore[operator]
        loss = model(patch).float().square().mean()
    loss.backward()
    loss.item()
    return time.perf_counter() - started
