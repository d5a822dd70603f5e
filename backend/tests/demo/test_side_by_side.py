"""Two trainings at once: how far they are, and what is said when one of them ends badly."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from s3d.demo import side_by_side
from s3d.demo.side_by_side import finetune_side_by_side, steps_done
from s3d.errors import InterruptedRunError, OutOfMemoryError, S3DError, UserError
from s3d.finetuning.config import FinetuneConfig
from s3d.progress import Progress

Script = Callable[[str], None]


@pytest.fixture
def configs(tmp_path: Path) -> list[FinetuneConfig]:
    """Two trainings of ten steps; the first has failed before, which its events still tell."""
    made = [FinetuneConfig(dataset=tmp_path, output=tmp_path / name, name=name, steps=10) for name in ("one", "two")]
    events = Progress(made[0].output / "events.jsonl")
    events.error("E_DATASET", "There was no dataset.")
    events.close()
    return made


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Script:
    """Replaces the trainings by a few lines of Python; `config` is the folder of the run."""

    def replace(lines: str) -> None:
        def begin(config: FinetuneConfig) -> "subprocess.Popen[bytes]":
            return subprocess.Popen([sys.executable, "-c", lines, str(config.output)])

        monkeypatch.setattr(side_by_side, "_start", begin)
        monkeypatch.setattr(side_by_side, "_SECONDS_BETWEEN_LOOKS", 0.02)

    return replace


def test_both_run_to_their_end(configs: list[FinetuneConfig], script: Script) -> None:
    script("import sys, pathlib; pathlib.Path(sys.argv[1] + '.done').touch()")
    finetune_side_by_side(configs, "Train both", Progress())
    assert all(config.output.with_suffix(".done").exists() for config in configs)


@pytest.mark.parametrize(("code", "kind"), [(1, S3DError), (2, UserError), (-9, S3DError), (130, InterruptedRunError)])
def test_the_last_sentence_of_a_failed_training_is_repeated(
    code: int, kind: type[S3DError], configs: list[FinetuneConfig], script: Script
) -> None:
    end = f"os._exit({code})" if code >= 0 else "os.kill(os.getpid(), 9)"
    script(f"import os, sys\nif sys.argv[1].endswith('one'):\n    {end}")
    with pytest.raises(kind, match="one failed: There was no dataset") as caught:
        finetune_side_by_side(configs, "Train both", Progress())
    assert type(caught.value) is kind
    assert str(configs[0].output / "log.txt") in str(caught.value)


def test_an_older_failure_is_not_taken_for_a_new_one(configs: list[FinetuneConfig], script: Script) -> None:
    events = Progress(configs[0].output / "events.jsonl")
    events.metric(3, loss=0.5)
    events.close()
    script("import os, sys\nif sys.argv[1].endswith('one'):\n    os._exit(1)")
    with pytest.raises(S3DError, match=r"one failed: It ended with exit code 1\."):
        finetune_side_by_side(configs, "Train both", Progress())


def test_ctrl_c_asks_both_to_stop_waits_for_them_and_says_how_far_they_were(
    configs: list[FinetuneConfig], script: Script
) -> None:
    for config in configs:
        events = Progress(config.output / "events.jsonl")
        with events.stage("Train", 10) as bar:
            bar.advance(4)
        events.close()
    script(
        "import signal, sys, time, pathlib\n"
        "def end(*_):\n    pathlib.Path(sys.argv[1] + '.stopped').touch()\n    sys.exit(130)\n"
        "signal.signal(signal.SIGTERM, end)\npathlib.Path(sys.argv[1] + '.ready').touch()\ntime.sleep(60)"
    )

    def press_when_ready() -> None:
        while not all(config.output.with_suffix(".ready").exists() for config in configs):
            threading.Event().wait(0.01)
        signal.raise_signal(signal.SIGINT)

    presser = threading.Thread(target=press_when_ready)
    presser.start()
    with pytest.raises(InterruptedRunError, match="Stopped after 8 of 20 steps of both trainings; the same command"):
        finetune_side_by_side(configs, "Train both", Progress())
    presser.join()
    assert all(config.output.with_suffix(".stopped").exists() for config in configs)


def test_steps_are_read_from_the_newest_event_of_the_stage(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    assert steps_done(path, "Train") == 0
    events = Progress(path)
    for stage, steps in (("Train", 3), ("Score", 9)):
        with events.stage(stage, 10) as bar:
            bar.advance(steps)
    events.close()
    assert steps_done(path, "Train") == 3


def test_one_that_fails_ends_the_other_at_once(configs: list[FinetuneConfig], script: Script) -> None:
    """The second one, which would go on for a minute, is asked to stop, and what the first one said is told."""
    script("import os, sys, time\nif sys.argv[1].endswith('one'):\n    os._exit(2)\ntime.sleep(60)")
    began = time.monotonic()
    with pytest.raises(UserError, match="one failed: There was no dataset"):
        finetune_side_by_side(configs, "Train both", Progress())
    assert time.monotonic() - began < 30


def test_one_that_the_system_ended_without_a_word_ran_out_of_memory(
    configs: list[FinetuneConfig], script: Script
) -> None:
    script("import os, sys\nif sys.argv[1].endswith('two'):\n    os.kill(os.getpid(), 9)")
    with pytest.raises(OutOfMemoryError, match="two failed: The system ended it, most likely because memory ran out"):
        finetune_side_by_side(configs, "Train both", Progress())


def test_a_real_training_that_fails_says_why(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    configs = [FinetuneConfig(dataset=tmp_path / "empty", output=tmp_path / "one", name="one", steps=10)]
    with pytest.raises(UserError, match=r"one failed: \S+dataset\.json cannot be read .*\(log: \S+log\.txt\)"):
        finetune_side_by_side(configs, "Train", Progress())
    assert "s3d finetune: " in (tmp_path / "one" / "log.txt").read_text()
