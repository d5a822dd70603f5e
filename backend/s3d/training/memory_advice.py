"""When a training does not fit into memory: what to make smaller."""

from collections.abc import Iterator
from contextlib import contextmanager

from s3d.errors import OutOfMemoryError
from s3d.training.config import TrainingConfig
from s3d.training.device import Device, is_out_of_memory
from s3d.training.distributed import Processes


@contextmanager
def memory_advice(config: TrainingConfig, device: Device, processes: Processes) -> Iterator[None]:
    """Turn running out of memory, on any device, into an OutOfMemoryError that names what to try."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        samples = config.batch_size // (config.accumulate * processes.count)
        raise OutOfMemoryError(
            f"Out of memory on {device.torch_device} with {samples} sample(s) at a time. {_remedy(config, processes)}"
        ) from error


def _remedy(config: TrainingConfig, processes: Processes) -> str:
    """The next accumulate that cuts the batch evenly, for every process; else a smaller patch."""
    for accumulate in range(config.accumulate + 1, config.batch_size + 1):
        if config.batch_size % (accumulate * processes.count) == 0:
            return f"Try accumulate {accumulate} (slower, less memory), a smaller batch_size, or a smaller patch_size."
    return "Try a smaller patch_size (halve one axis first) or a smaller network preset."
