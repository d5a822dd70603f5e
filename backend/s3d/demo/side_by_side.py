"""Two trainings at once, each in its own process on its share of the cores, watched through their events."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from s3d.atomic_files import write_json
from s3d.config import to_dict
from s3d.errors import S3DError, UserError
from s3d.finetuning.config import FinetuneConfig
from s3d.progress import Progress, Stage, read_events

_SECONDS_BETWEEN_LOOKS = 0.5


def finetune_side_by_side(configs: Sequence[FinetuneConfig], title: str, progress: Progress) -> None:
    """Run `s3d finetune` once per config, all at the same time. Raises what the first failing one said."""
    running = [_start(config) for config in configs]
    try:
        with progress.stage(title, sum(config.steps for config in configs)) as bar:
            while any(process.poll() is None for process in running):
                time.sleep(_SECONDS_BETWEEN_LOOKS)
                _show(bar, configs)
            _show(bar, configs)
    finally:
        for process in running:
            if process.poll() is None:
                process.terminate()
            process.wait()
    for process, config in zip(running, configs, strict=True):
        if process.returncode:
            _raise_failure(config, process.returncode)


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
    with (config.output / "log.txt").open("ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment)


def _show(bar: Stage, configs: Sequence[FinetuneConfig]) -> None:
    done = sum(steps_done(config.output / "events.jsonl", "Train") for config in configs)
    bar.advance(max(0, done - bar.done))


def _raise_failure(config: FinetuneConfig, returncode: int) -> None:
    events = config.output / "events.jsonl"
    said = [event for event in (read_events(events) if events.exists() else []) if event["kind"] == "error"]
    message = f"{config.name} failed: {said[-1]['message'] if said else json.dumps(returncode)}"
    kind = UserError if returncode == UserError.exit_code else S3DError
    raise kind(f"{message} (log: {config.output / 'log.txt'})")
