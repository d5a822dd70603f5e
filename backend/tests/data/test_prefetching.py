"""Reading ahead: same batches in the same order, bounded, errors come through, threads go away."""

import itertools
import threading
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch

from s3d.data.augmentation_config import QUICK
from s3d.data.case_store import CaseStore
from s3d.data.patches import PatchSampler, ReadSample
from s3d.data.prefetching import prefetched
from s3d.errors import DatasetError


def reader_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("s3d-reader")]


@pytest.fixture
def store(tmp_path: Path) -> CaseStore:
    store = CaseStore.create(tmp_path / "store")
    random = np.random.default_rng(0)
    for name in "ab":
        image = random.standard_normal((1, 12, 12, 12), dtype=np.float32)
        store.write(name, image, (image[0] > 1).astype(np.int16))
    return store


class CountingSampler(PatchSampler):
    """Remembers how many batches were read; fails at one number on request."""

    def __init__(self, store: CaseStore, fails_at: int | None = None) -> None:
        super().__init__(store, (6, 6, 6), 0, foreground_share=0.33, augmentation=QUICK)
        self.read_batches = 0
        self.fails_at = fails_at
        self._lock = threading.Lock()

    def read(self, numbers: object) -> list[ReadSample]:
        with self._lock:
            self.read_batches += 1
        if self.fails_at in numbers:
            raise DatasetError("The file of case 'b' is damaged.")
        return super().read(numbers)


@pytest.mark.parametrize("threads", [1, 3])
def test_batches_come_in_order_and_equal_those_read_directly(store, threads):
    sampler = CountingSampler(store)
    numbers = [range(2 * step, 2 * step + 2) for step in range(15)]
    with closing(prefetched(sampler, numbers, "cpu", threads)) as batches:
        for wanted, batch in zip(numbers, batches, strict=True):
            direct = sampler.batch(wanted)
            assert batch.numbers == tuple(wanted)
            assert torch.equal(batch.image, direct.image)
            assert torch.equal(batch.labels, direct.labels)
    assert not reader_threads()


def test_no_more_than_two_batches_per_thread_are_read_ahead_of_an_endless_source(store):
    sampler = CountingSampler(store)
    endless = ([number] for number in itertools.count())
    with closing(prefetched(sampler, endless, "cpu", 2)) as batches:
        for _ in range(3):
            next(batches)
        assert sampler.read_batches <= 3 + 2 * 2
    assert next(endless) == [6]


def test_closing_half_way_leaves_no_thread(store):
    batches = prefetched(CountingSampler(store), ([number] for number in itertools.count()), "cpu", 3)
    next(batches)
    assert reader_threads()
    batches.close()
    assert not reader_threads()
    with pytest.raises(StopIteration):
        next(batches)


def test_closing_does_not_read_what_is_still_queued(store):
    released = threading.Event()

    class SlowSampler(CountingSampler):
        def read(self, numbers: object) -> list[ReadSample]:
            samples = super().read(numbers)
            if 0 not in numbers:
                released.wait(10)
            return samples

    sampler = SlowSampler(store)
    batches = prefetched(sampler, ([number] for number in itertools.count()), "cpu", 2)
    next(batches)
    threading.Timer(0.2, released.set).start()
    batches.close()
    assert sampler.read_batches <= 3  # 1 and 2 were being read, 3 was queued


def test_an_error_of_a_thread_comes_out_where_its_batch_would_have(store):
    batches = prefetched(CountingSampler(store, fails_at=3), [[number] for number in range(6)], "cpu", 2)
    assert [next(batches).numbers for _ in range(3)] == [(0,), (1,), (2,)]
    with pytest.raises(DatasetError, match="case 'b' is damaged"):
        next(batches)
    assert not reader_threads()


def test_an_error_of_the_number_source_comes_out_and_leaves_no_thread(store):
    def numbers():
        yield [0]
        raise ValueError("no more")

    batches = prefetched(CountingSampler(store), numbers(), "cpu", 1)
    with pytest.raises(ValueError, match="no more"):
        list(batches)
    assert not reader_threads()


def test_an_error_in_the_consumer_leaves_no_thread(store):
    def consume() -> None:
        with closing(prefetched(CountingSampler(store), [[number] for number in range(50)], "cpu", 2)) as batches:
            next(batches)
            raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        consume()
    assert not reader_threads()


def test_no_numbers_give_no_batches(store):
    assert list(prefetched(CountingSampler(store), [], "cpu", 2)) == []
