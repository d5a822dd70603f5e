"""Work on many images side by side, in threads: reading, resampling and compressing release Python's lock."""

from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_parallel(work: Callable[[Item], Result], items: Sequence[Item], workers: int) -> Generator[Result, None, None]:
    """work(item) for every item, in order, `workers` at a time, one torch thread each (the images keep the cores busy).

    The first error, or closing the generator, stops what was not begun yet; then the work under way is waited for.
    Use contextlib.closing, so that Ctrl-C does not leave a queue behind.
    """
    torch_threads = torch.get_num_threads()
    torch.set_num_threads(1 if workers > 1 else torch_threads)
    executor = ThreadPoolExecutor(workers)
    try:
        yield from executor.map(work, items)
    finally:
        executor.shutdown(cancel_futures=True)
        torch.set_num_threads(torch_threads)
