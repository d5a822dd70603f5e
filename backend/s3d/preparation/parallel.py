"""Work on many images side by side, in threads: reading, resampling and compressing release Python's lock."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_parallel(work: Callable[[Item], Result], items: Sequence[Item], workers: int) -> Iterator[Result]:
    """work(item) for every item, in order, `workers` at a time. The first error stops what was not begun yet."""
    executor = ThreadPoolExecutor(workers)
    try:
        yield from executor.map(work, items)
    finally:
        executor.shutdown(cancel_futures=True)
