import gc
import itertools
import weakref

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from s3d.errors import OutOfMemoryError
from s3d.inference.memory_ladder import Rung, descend, ladder, smaller_windows

FULL = (160, 160, 160)


def rung(batch_size: int, window: tuple[int, int, int], compute: str, sums: str) -> Rung:
    return Rung(batch_size=batch_size, window=window, compute_device=compute, accumulate_device=sums)


def test_on_a_gpu_speed_goes_first_and_the_window_only_where_allowed():
    speed = [rung(4, FULL, "cuda:0", "cuda:0"), rung(1, FULL, "cuda:0", "cuda:0"),
             rung(1, FULL, "cuda:0", "cpu"), rung(1, FULL, "cpu", "cpu")]  # fmt: skip
    assert ladder("cuda:0", 4, FULL, 32, allow_smaller_window=False) == speed
    windows = [rung(1, (96, 96, 96), "cuda:0", "cpu"), rung(1, (64, 64, 64), "cuda:0", "cpu")]
    assert ladder("cuda:0", 4, FULL, 32, allow_smaller_window=True) == speed + windows


def test_on_the_cpu_only_different_rungs_remain():
    assert ladder("cpu", 3, FULL, 32, allow_smaller_window=False) == [
        rung(3, FULL, "cpu", "cpu"),
        rung(1, FULL, "cpu", "cpu"),
    ]
    assert ladder("cpu", 1, FULL, 32, allow_smaller_window=False) == [rung(1, FULL, "cpu", "cpu")]


@given(st.tuples(*[st.integers(1, 12)] * 3), st.sampled_from([2, 4, 8, 32]))
def test_smaller_windows_shrink_to_multiples_of_the_stride_and_end(blocks, stride):
    window = tuple(count * stride for count in blocks)
    sizes = [window, *smaller_windows(window, stride)]
    for before, after in itertools.pairwise(sizes):
        assert after != before
        assert all(small <= large for small, large in zip(after, before, strict=True))
        assert all(size % stride == 0 for size in after)
    assert all(size <= 2 * stride for size in sizes[-1])


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried"),
        RuntimeError("MPS backend out of memory (MPS allocated: 8.00 GB)"),
        MemoryError(),
    ],
)
def test_each_step_down_is_announced_until_the_work_fits(error):
    rungs = ladder("cuda:0", 4, FULL, 32, allow_smaller_window=True)
    tried, said = [], []

    def attempt(one: Rung) -> str:
        tried.append(one)
        if one.window == FULL:
            raise error
        return "labels"

    assert descend(rungs, attempt, said.append) == ("labels", rungs[4])
    assert tried == rungs[:5]
    expected = ["one window at a time", "main memory", "on the CPU", "96 x 96 x 96 voxels instead of 160 x 160 x 160"]
    assert len(said) == len(expected)
    assert all(words in sentence for words, sentence in zip(expected, said, strict=True))
    assert "rounding may differ" in said[2]
    assert ["differs" in sentence for sentence in said] == [False, False, False, True]


def test_below_the_last_rung_the_error_names_the_way_out():
    def attempt(_: Rung) -> None:
        raise MemoryError

    with pytest.raises(OutOfMemoryError, match=r"window of 160 x 160 x 160 voxels on cpu.*allow_smaller_window"):
        descend(ladder("cuda:0", 2, FULL, 32, allow_smaller_window=False), attempt, lambda _: None)


def test_another_error_is_not_taken_for_lack_of_memory():
    def attempt(_: Rung) -> None:
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes do not match"):
        descend(ladder("cpu", 2, FULL, 32, allow_smaller_window=False), attempt, lambda _: None)


def test_what_a_failed_try_held_is_free_before_the_next_one():
    class Held:
        """Stands for a tensor in the failed call's frame, held by a cycle as a graph or a traceback does."""

        def __init__(self) -> None:
            self.itself = self

    alive: list[weakref.ref[Held]] = []

    def attempt(one: Rung) -> bool:
        if one.batch_size > 1:
            held = Held()
            alive.append(weakref.ref(held))
            raise MemoryError
        return alive[0]() is None

    gc.disable()
    try:
        freed, _ = descend(ladder("cpu", 2, FULL, 32, allow_smaller_window=False), attempt, lambda _: None)
    finally:
        gc.enable()
    assert freed
