"""Where the computing happens and in which precision."""

import contextlib
import sys
from dataclasses import dataclass
from typing import Literal

import torch

from s3d.errors import DeviceError

DeviceName = Literal["auto", "cpu", "cuda", "mps"]
PrecisionName = Literal["auto", "fp32", "bf16", "fp16"]

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Device:
    """A device with its precision."""

    torch_device: torch.device
    precision: Literal["fp32", "bf16", "fp16"]

    @property
    def needs_scaler(self) -> bool:
        """fp16 gradients underflow unless the loss is scaled."""
        return self.precision == "fp16"

    def autocast(self) -> contextlib.AbstractContextManager[object]:
        """A context in which convolutions run in the chosen precision; parameters stay float32."""
        if self.precision == "fp32":
            return contextlib.nullcontext()
        return torch.autocast(self.torch_device.type, dtype=_DTYPES[self.precision])


def choose_device(name: DeviceName = "auto", precision: PrecisionName = "auto", index: int = 0) -> Device:
    """The device of that name; auto takes CUDA, then MPS, then the CPU.

    Precision auto: bf16 where the hardware computes it (recent CUDA; CPUs with avx512_bf16 or AMX), else fp16 on CUDA,
    else fp32. index: which CUDA device. Raises DeviceError when device or precision is not available.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise DeviceError("No usable NVIDIA GPU was found. Choose device cpu, or mend the driver (see `s3d doctor`).")
    if name == "cuda" and 0 < torch.cuda.device_count() <= index:
        raise DeviceError(
            f"Process {index + 1} on this machine has no GPU of its own (GPUs: {torch.cuda.device_count()}). "
            "Start at most one process per GPU, or choose device cpu."
        )
    if name == "mps" and not torch.backends.mps.is_available():
        raise DeviceError("Apple's MPS is not available on this machine. Choose device cpu.")
    torch_device = torch.device("cuda", index) if name == "cuda" else torch.device(name)
    if precision == "auto":
        return Device(torch_device, _best_precision(name))
    if precision == "fp16" and name == "cpu":
        raise DeviceError("Precision fp16 does not work on the CPU. Choose fp32, or bf16 where `s3d doctor` names it.")
    if precision == "bf16" and name == "cuda" and not torch.cuda.is_bf16_supported():
        raise DeviceError("This GPU has no bf16. Choose precision fp16 or fp32.")
    return Device(torch_device, precision)


def _best_precision(name: DeviceName) -> Literal["fp32", "bf16", "fp16"]:
    if name == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp16"
    if name == "cpu" and cpu_has_bf16():
        return "bf16"
    return "fp32"


def cpu_has_bf16() -> bool:
    """Whether this CPU multiplies bfloat16 in hardware; elsewhere it is emulated and slower than float32."""
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def memory_in_use_mb(device: torch.device) -> float:
    """Peak memory so far in MB: of the GPU on CUDA, else of this process (0 where the system does not tell)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    if sys.platform == "win32":
        return 0.0
    import resource  # POSIX only

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak / 1e3


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out, on any device."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and ("out of memory" in text or "can't allocate memory" in text)
