"""Events: numbered without gaps, whole lines, continued after a kill."""

import errno
import io
from pathlib import Path

import pytest
from rich.console import Console

from s3d.errors import StorageError
from s3d.progress import Progress, read_events


def test_events_are_numbered_without_gaps_over_restarts_and_kills(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    first = Progress(path)
    first.metric(10, loss=0.5)
    first.warning("W_SOMETHING", "went on")
    first.close()
    with path.open("a") as file:
        file.write('{"sequence": 3, "ti')  # what a killed writer leaves
    second = Progress(path)
    second.metric(20, loss=float("nan"))
    second.close()
    events = read_events(path)
    assert [event["sequence"] for event in events] == [1, 2, 3]
    assert [event["kind"] for event in events] == ["metric", "warning", "metric"]
    assert events[2]["loss"] is None


def test_a_stage_reports_its_name_its_place_and_what_is_left(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    progress = Progress(path)
    with progress.stage("Train", total=4, start=1) as bar:
        bar.advance(2, loss=0.25)
    progress.close()
    last = read_events(path)[-1]
    assert (last["stage"], last["step"], last["of"]) == ("Train", 3, 4)
    assert last["eta_seconds"] >= 0


def test_a_person_sees_the_bar_and_the_numbers(tmp_path: Path) -> None:
    with (tmp_path / "terminal").open("w") as terminal:
        progress = Progress(None, Console(file=terminal, width=120, force_terminal=True))
        with progress.stage("Train", total=2) as bar:
            bar.advance(2, loss=0.25)
        progress.warning("W_SOMETHING", "patch [larger] than the volume")
    shown = (tmp_path / "terminal").read_text()
    assert "Train" in shown
    assert "2/2" in shown
    assert "loss 0.25" in shown
    assert "patch [larger] than the volume" in shown


def test_without_file_and_terminal_nothing_happens() -> None:
    progress = Progress()
    with progress.stage("Quiet", total=1) as bar:
        bar.advance()
    progress.close()
    assert bar.done == 1


def test_a_stage_may_run_within_another(tmp_path: Path) -> None:
    with (tmp_path / "terminal").open("w") as terminal:
        progress = Progress(None, Console(file=terminal, width=120, force_terminal=True))
        with progress.stage("Train", total=1) as outer, progress.stage("Score", total=1) as inner:
            inner.advance()
            outer.advance()
    assert "Score" in (tmp_path / "terminal").read_text()


def test_a_disk_that_fills_up_is_told_once_and_the_file_stays_readable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    progress = Progress(tmp_path / "events.jsonl")
    progress.note("before")
    progress.close()
    half = '{"sequence": 2, "ti'

    class Full(io.StringIO):
        name = str(tmp_path / "events.jsonl")

        def flush(self) -> None:
            with (tmp_path / "events.jsonl").open("a") as file:
                file.write(half)
            raise OSError(errno.ENOSPC, "No space left on device")

        def close(self) -> None:
            self.flush()

    monkeypatch.setattr(progress, "_file", Full())
    with pytest.raises(StorageError, match=r"events\.jsonl cannot be written .* free some space"):
        progress.note("after")
    progress.note("nobody hears this")
    progress.close()
    assert [event["message"] for event in read_events(tmp_path / "events.jsonl")] == ["before"]
    again = Progress(tmp_path / "events.jsonl")
    again.note("with room again")
    again.close()
    assert [event["sequence"] for event in read_events(tmp_path / "events.jsonl")] == [1, 2]


def test_a_damaged_log_does_not_stop_a_run(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'{"sequence": 1, "kind": "note"}\nnot json \xff\n[3]\n')
    progress = Progress(path)
    progress.note("went on")
    progress.close()
    assert [event["sequence"] for event in read_events(path)] == [1, 4]
