"""The same with real processes, as a shell sees them: exit codes, streams, signals."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from s3d.progress import read_events

COMMAND = [sys.executable, "-m", "s3d.cli"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def run(words: Sequence[object]) -> "subprocess.CompletedProcess[str]":
    command = [*COMMAND, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=ENVIRONMENT)


def test_a_refusal_is_one_line_on_the_error_stream(dataset, make_model, tmp_path):
    whole = dataset.image().read_bytes()
    dataset.image().write_bytes(whole[: len(whole) // 2])
    ended = run(["segment", "--model", make_model(), "--input", dataset.image(), "--output", tmp_path / "out"])
    assert (ended.returncode, ended.stdout) == (2, "")
    (line,) = ended.stderr.splitlines()
    assert line.startswith(f"s3d segment: {dataset.image()} "), "the end of a line must not break a path"
    assert not list((tmp_path / "out").iterdir())


def steps_of(run_folder: Path) -> int:
    path = run_folder / "events.jsonl"
    steps = [event["step"] for event in read_events(path) if event.get("stage") == "Train"] if path.exists() else []
    return max(steps, default=0)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signal to a single process")
def test_ctrl_c_stops_a_training_after_a_whole_checkpoint(finetuning, tmp_path):
    folder = tmp_path / "run"
    words = [*map(str, finetuning), "--steps", "100000", "--log-every", "1"]
    process = subprocess.Popen(
        [*COMMAND, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT
    )
    try:
        deadline = time.monotonic() + 60
        while steps_of(folder) < 2:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert (process.returncode, out) == (130, "")
    assert "Traceback" not in err
    checkpoint = folder / "final" / "checkpoint.safetensors"
    said = err.strip().splitlines()[-1]
    assert said.startswith("s3d finetune: Stopped after step ")
    assert said.endswith(f"of 100000; the same command goes on from {checkpoint}.")
    assert [path.name for path in checkpoint.parent.iterdir()] == ["checkpoint.safetensors"]
    assert not list(folder.glob("*.s3dmodel"))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no broken pipe")
def test_a_reader_that_leaves_is_nobodys_fault():
    process = subprocess.Popen(
        [*COMMAND, "finetune", "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT
    )
    assert process.stdout is not None
    process.stdout.close()
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (128 + signal.SIGPIPE, b"")
