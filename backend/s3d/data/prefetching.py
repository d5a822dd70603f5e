"""Reading ahead: threads fetch the next batches from disk while the device works on this one."""

from collections import deque
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import torch

from s3d.data.patches import PatchBatch, PatchSampler, ReadSample

_BATCHES_AHEAD_PER_THREAD = 2


def prefetched(
    sampler: PatchSampler, batches_of_numbers: Iterable[Sequence[int]], device: torch.device | str, threads: int
) -> Generator[PatchBatch, None, None]:
    """The batches in the order of batches_of_numbers; at most two per thread are read ahead.

    Threads only read; augmentation runs in the consumer, on the device. An error of a thread is raised where its batch
    would have come. Closing the generator, or an error, ends all threads. threads: 1 or more.
    """
    pending: deque[Future[list[ReadSample]]] = deque()
    numbers = iter(batches_of_numbers)
    with ThreadPoolExecutor(threads, thread_name_prefix="s3d-reader") as pool:
        try:
            while True:
                while len(pending) < _BATCHES_AHEAD_PER_THREAD * threads and (batch := next(numbers, None)) is not None:
                    pending.append(pool.submit(sampler.read, batch))
                if not pending:
                    return
                yield sampler.finish(pending.popleft().result(), device)
        finally:
            for future in pending:
                future.cancel()
