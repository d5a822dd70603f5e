"""What to give up, and in which order, when memory runs out while segmenting.

First speed (one window at a time, sums in main memory, everything on the CPU), which changes the result by
rounding at most; the window, which changes it, only where the user allowed that.
"""

import dataclasses
import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch

from s3d.errors import OutOfMemoryError
from s3d.training.device import is_out_of_memory

Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class Rung:
    """One way to spend memory."""

    batch_size: int
    """Windows at a time."""
    window: tuple[int, int, int]
    """Voxels (z, y, x) the network sees at once."""
    compute_device: str
    """Where the network runs, as torch names it."""
    accumulate_device: str
    """Where the sums over windows lie: classes x volume x 4 bytes."""


def ladder(
    device: str, batch_size: int, window: tuple[int, int, int], total_stride: int, allow_smaller_window: bool
) -> list[Rung]:
    """The rungs to try, top first, each different from the one before."""
    top = Rung(batch_size=batch_size, window=window, compute_device=device, accumulate_device=device)
    single = dataclasses.replace(top, batch_size=1)
    sums_outside = dataclasses.replace(single, accumulate_device="cpu")
    rungs = [top, single, sums_outside, dataclasses.replace(sums_outside, compute_device="cpu")]
    if allow_smaller_window:
        # back on the device: a window that fits there is far quicker there
        rungs += [dataclasses.replace(sums_outside, window=size) for size in smaller_windows(window, total_stride)]
    return list(dict.fromkeys(rungs))


def smaller_windows(window: tuple[int, int, int], total_stride: int) -> list[tuple[int, int, int]]:
    """About half as large along each axis again and again, always multiples of the network's total stride.

    It ends at two strides: instance norm cannot work on the single voxel that one stride leaves at the bottleneck.
    """
    sizes = [window]
    while True:
        halved = [max(2, -(-size // (2 * total_stride))) * total_stride for size in sizes[-1]]
        z, y, x = (min(size, half) for size, half in zip(sizes[-1], halved, strict=True))
        if (z, y, x) == sizes[-1]:
            return sizes[1:]
        sizes.append((z, y, x))


def descend(
    rungs: Sequence[Rung], attempt: Callable[[Rung], Result], announce: Callable[[str], None]
) -> tuple[Result, Rung]:
    """The result of attempt on the first rung it has memory for, and that rung; announce gets a sentence per step down.

    Raises OutOfMemoryError below the last rung. Other errors of attempt pass through.
    """
    for index, rung in enumerate(rungs):
        if index:
            _release_memory()
            announce(_sentence(rungs[index - 1], rung))
        try:
            return attempt(rung), rung
        except (RuntimeError, MemoryError) as error:  # not kept: its traceback holds the tensors
            if not is_out_of_memory(error):
                raise
    last = rungs[-1]
    raise OutOfMemoryError(
        f"Memory ran out even with one window of {_voxels(last.window)} on {last.compute_device}. Close other programs "
        "or use a machine with more memory; a smaller window (allow_smaller_window) needs less but changes the result."
    )


def _sentence(before: Rung, after: Rung) -> str:
    if after.window != before.window:
        return (
            f"Memory ran out: the window is now {_voxels(after.window)} instead of {_voxels(before.window)}. "
            "The network sees less at once, so the result differs from that of the full window."
        )
    if after.compute_device != before.compute_device:
        return (
            "Memory ran out: everything is now computed on the CPU, which is much slower. Its rounding may differ, so "
            "single voxels at borders may too."
        )
    if after.accumulate_device != before.accumulate_device:
        return "Memory ran out: the sums over windows are now kept in main memory; slower, with the same result."
    return "Memory ran out: now one window at a time; slower, with the same result."


def _voxels(window: tuple[int, int, int]) -> str:
    return " x ".join(map(str, window)) + " voxels"


def _release_memory() -> None:
    """Give cached device memory back, so that the next try (or another program) can have it."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if torch.backends.mps.is_available():
        torch.mps.empty_cache()
