"""Two trainings at once, each in its own process on its share of the cores, watched through their events."""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from s3d.atomic_files import storage_errors, write_json
from s3d.config import to_dict
from s3d.errors import InterruptedRunError, OutOfMemoryError, S3DError, UserError
from s3d.finetuning.config import FinetuneConfig
from s3d.progress import Progress, Stage, read_events
from s3d.training.interruption import StopRequest, stop_on_signals

_SECONDS_BETWEEN_LOOKS = 0.5
_KILLED = -9
"""What Linux does to the largest process when memory runs out."""


def finetune_side_by_side(configs: Sequence[FinetuneConfig], title: str, progress: Progress) -> None:
    """Run `s3d finetune` once per config, all at the same time; the same call goes on where they stopped.

    When one fails, the others are stopped too. Raises what it said, or InterruptedRunError after Ctrl-C.
    """
    stop = StopRequest()
    running = [_start(config) for config in configs]
    try:
        with stop_on_signals(stop), progress.stage(title, sum(config.steps for config in configs)) as bar:
            while not stop.is_set and _failed(running) is None and any(process.poll() is None for process in running):
                time.sleep(_SECONDS_BETWEEN_LOOKS)
                _show(bar, configs)
            _show(bar, configs)
            failed = _failed(running)
    finally:
        _end(running)
    if stop.is_set:
        done = sum(steps_done(config.output / "events.jsonl", "Train") for config in configs)
        raise InterruptedRunError(
            f"Stopped after {done} of {sum(config.steps for config in configs)} steps of both trainings; "
            f"the same command goes on from their checkpoints in {configs[0].output.parent}."
        )
    if failed is not None:
        _raise_failure(configs[failed], running[failed].returncode)


def steps_done(events_path: Path, stage: str) -> int:
    """How far the newest progress event of a stage is; 0 before the first."""
    if not events_path.exists():
        return 0
    steps = [event["step"] for event in read_events(events_path) if event.get("stage") == stage]
    return int(steps[-1]) if steps else 0


def _start(config: FinetuneConfig) -> "subprocess.Popen[bytes]":
    file = config.output / "config.json"
    write_json(file, to_dict(config))
    command = [sys.executable, "-m", "s3d.cli", "finetune", "--config", str(file)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(config.cpu_threads or 1)}
    path = config.output / "log.txt"
    with storage_errors(path), path.open("ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment)


def _failed(running: Sequence["subprocess.Popen[bytes]"]) -> int | None:
    """Which one has ended with an error."""
    return next((number for number, process in enumerate(running) if process.poll()), None)


def _end(running: Sequence["subprocess.Popen[bytes]"]) -> None:
    """Ask those that still run to stop, and wait until each has written its checkpoint."""
    for process in running:
        if process.poll() is None:
            process.terminate()
    for process in running:
        process.wait()


def _show(bar: Stage, configs: Sequence[FinetuneConfig]) -> None:
    done = sum(steps_done(config.output / "events.jsonl", "Train") for config in configs)
    bar.advance(max(0, done - bar.done))


def _raise_failure(config: FinetuneConfig, returncode: int) -> None:
    path = config.output / "events.jsonl"
    events = read_events(path) if path.exists() else []
    kinds = {UserError.exit_code: UserError, InterruptedRunError.exit_code: InterruptedRunError}
    kind = kinds.get(returncode, S3DError)
    if events and events[-1]["kind"] == "error":
        reason = events[-1]["message"]
    elif returncode == _KILLED:
        kind = OutOfMemoryError
        reason = "The system ended it, most likely because memory ran out. Close other programs and start again."
    else:
        reason = f"It ended with exit code {returncode}."
    raise kind(f"{config.name} failed: {reason} (log: {config.output / 'log.txt'})")
