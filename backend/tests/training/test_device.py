"""Devices and precisions: what is not there is refused in one sentence."""

import pytest
import torch

from s3d.errors import DeviceError
from s3d.training.device import Device, choose_device, cpu_has_bf16, is_out_of_memory, memory_in_use_mb


def test_fp16_on_the_cpu_is_refused() -> None:
    with pytest.raises(DeviceError, match="fp16 does not work on the CPU"):
        choose_device("cpu", "fp16")


def test_a_missing_gpu_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(DeviceError, match="No usable NVIDIA GPU"):
        choose_device("cuda")
    with pytest.raises(DeviceError, match="MPS is not available"):
        choose_device("mps")
    assert choose_device("auto").torch_device.type == "cpu"


def test_auto_precision_follows_the_hardware(monkeypatch: pytest.MonkeyPatch) -> None:
    for present in (True, False):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda present=present: {"avx512_bf16": present})
        assert cpu_has_bf16() is present
        assert choose_device("cpu").precision == ("bf16" if present else "fp32")


def test_an_old_gpu_gets_fp16_and_refuses_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: False)
    assert choose_device("cuda").precision == "fp16"
    assert choose_device("cuda").needs_scaler
    with pytest.raises(DeviceError, match="no bf16"):
        choose_device("cuda", "bf16")


def test_autocast_computes_in_bf16_and_keeps_parameters_in_fp32() -> None:
    layer = torch.nn.Conv3d(1, 1, 3)
    with Device(torch.device("cpu"), "bf16").autocast():
        assert layer(torch.zeros(1, 1, 4, 4, 4)).dtype == torch.bfloat16
    with Device(torch.device("cpu"), "fp32").autocast():
        assert layer(torch.zeros(1, 1, 4, 4, 4)).dtype == torch.float32
    assert layer.weight.dtype == torch.float32


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory."), True),
        (RuntimeError("MPS backend out of memory"), True),
        (RuntimeError("size mismatch"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_lack_of_memory_is_recognised(error: BaseException, expected: bool) -> None:
    assert is_out_of_memory(error) is expected


def test_memory_in_use_is_told_in_megabytes() -> None:
    assert 10 < memory_in_use_mb(torch.device("cpu")) < 100_000
