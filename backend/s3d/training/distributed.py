"""Several processes as one training: torchrun starts them, this file lets them add up.

The rule that makes N processes equal one: every loss is a ratio of sums, the sums run over all processes, and
gradients are summed. sum_over_processes gives the global value but lets the gradient flow only into the local part.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn

_BUCKET_VALUES = 16 * 1024 * 1024
# The others wait while the first process preprocesses or scores; a dead process is torchrun's to notice, not ours.
_LONGEST_WAIT = timedelta(days=1)


@dataclass(frozen=True)
class Processes:
    """Which of how many processes this is; rank 0 writes and reports."""

    rank: int = 0
    count: int = 1
    local_rank: int = 0

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and reports."""
        return self.rank == 0


@contextmanager
def joined_processes() -> Iterator[Processes]:
    """Join the group torchrun describes in the environment (NCCL on GPUs, gloo on the CPU); alone without torchrun."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Processes()
        return
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backend, timeout=_LONGEST_WAIT)
    try:
        yield Processes(dist.get_rank(), dist.get_world_size(), int(os.environ.get("LOCAL_RANK", "0")))
    finally:
        dist.destroy_process_group()


def is_distributed() -> bool:
    """Whether a process group is alive."""
    return dist.is_available() and dist.is_initialized()


def sum_over_processes(local: Tensor) -> Tensor:
    """The sum of a tensor over all processes; its gradient is that of the local part."""
    if not is_distributed():
        return local
    total = local.detach().clone()
    dist.all_reduce(total)
    return local + (total - local.detach())


def sum_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace every gradient by its sum over all processes, in flat buckets to save round trips.

    Parameters without a gradient are left alone: all processes run the same graph, so they agree on which those are.
    """
    if not is_distributed():
        return
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    for bucket in _buckets(gradients):
        flat = torch.cat([gradient.reshape(-1) for gradient in bucket])
        dist.all_reduce(flat)
        for gradient, summed in zip(bucket, torch.split(flat, [g.numel() for g in bucket]), strict=True):
            gradient.copy_(summed.view_as(gradient))


def any_process(flag: bool, device: torch.device) -> bool:
    """Whether the flag is set in at least one process."""
    if not is_distributed():
        return flag
    value = torch.tensor(float(flag), device=device)
    dist.all_reduce(value, op=dist.ReduceOp.MAX)
    return bool(value.item())


def least_of_processes(value: int, device: torch.device) -> int:
    """The smallest of the processes' values."""
    if not is_distributed():
        return value
    shared = torch.tensor(value, device=device)
    dist.all_reduce(shared, op=dist.ReduceOp.MIN)
    return int(shared.item())


def wait_for_all() -> None:
    """Return once every process has come here."""
    if is_distributed():
        dist.barrier()


def _buckets(gradients: list[Tensor]) -> Iterator[list[Tensor]]:
    bucket: list[Tensor] = []
    values = 0
    for gradient in gradients:
        bucket.append(gradient)
        values += gradient.numel()
        if values >= _BUCKET_VALUES:
            yield bucket
            bucket, values = [], 0
    if bucket:
        yield bucket
