"""What a running verb tells the world: lines in events.jsonl for machines, a rich bar for people.

Every event is one JSON object on a line with `sequence` (from 1, no gaps), `time` (seconds since 1970) and `kind`:
progress (stage, step, of, eta_seconds), metric (step and numbers by name), preview (name, path),
warning and error (code, message), note (message).
"""

import json
import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.text import Text

from s3d.atomic_files import storage_errors
from s3d.errors import StorageError

_SECONDS_BETWEEN_EVENTS = 0.5
_BAR_WIDTH = 10
"""Leaves room for counts, time to go and numbers on a terminal of 80 columns."""


class Progress:
    """Reports to a file, a terminal, both or neither. The default reports to nobody (library use, tests)."""

    def __init__(self, events_path: Path | None = None, console: Console | None = None) -> None:
        """events_path: appended to, its sequence continued; console: where the bar is drawn. Raises StorageError."""
        self._sequence = 0
        self._file: TextIO | None = None
        self.console = console
        if events_path is not None:
            with storage_errors(events_path):
                events_path.parent.mkdir(parents=True, exist_ok=True)
                self._sequence = mend_last_line(events_path)
                self._file = events_path.open("a", encoding="utf-8")

    def close(self) -> None:
        """Close the event file; every event has been flushed."""
        if self._file is not None:
            self._file.close()
            self._file = None

    @contextmanager
    def stage(self, name: str, total: int, start: int = 0) -> Iterator["Stage"]:
        """A piece of work of `total` steps, `start` of them done before; closes its bar at the end."""
        bar = None
        if self.console is not None:
            bar = Bar(
                TextColumn("{task.description}"),
                BarColumn(bar_width=_BAR_WIDTH),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[numbers]}"),
                console=self.console,
            )
            bar.start()
        stage = Stage(self, name, total, start, bar)
        try:
            yield stage
        finally:
            stage.finish()
            if bar is not None:
                bar.stop()

    def metric(self, step: int, **numbers: float) -> None:
        """Record numbers by name at a step."""
        self.emit("metric", step=step, **numbers)

    def preview(self, name: str, path: Path) -> None:
        """Record that a small PNG was written."""
        self.emit("preview", name=name, path=str(path))

    def note(self, message: str) -> None:
        """Tell the user something that is neither progress nor a problem."""
        self.emit("note", message=message)
        self._print("", message)

    def warning(self, code: str, message: str) -> None:
        """Tell the user that something was handled and the work goes on."""
        self.emit("warning", code=code, message=message)
        self._print("Note: ", message)

    def error(self, code: str, message: str) -> None:
        """Record the sentence a verb ends with."""
        self.emit("error", code=code, message=message)

    def emit(self, kind: str, **fields: Any) -> None:
        """Append one event. Raises StorageError, and keeps no events from then on."""
        self._sequence += 1
        if self._file is None:
            return
        event = {"sequence": self._sequence, "time": round(time.time(), 3), "kind": kind, **_without_nan(fields)}
        try:
            with storage_errors(Path(self._file.name)):
                self._file.write(json.dumps(event, ensure_ascii=False, allow_nan=False) + "\n")
                self._file.flush()
        except StorageError:
            with suppress(OSError):  # closing flushes, which fails again
                self.close()
            self._file = None
            raise

    def _print(self, heading: str, message: str) -> None:
        if self.console is not None:
            text = Text.assemble((heading, "yellow"), message)
            self.console.print(text, soft_wrap=not self.console.is_terminal)


class Stage:
    """One bar; made by Progress.stage."""

    def __init__(self, progress: Progress, name: str, total: int, start: int, bar: Bar | None) -> None:
        self.done = start
        self._progress = progress
        self._name = name
        self._total = total
        self._start = start
        self._began = time.monotonic()
        self._last_event = 0.0
        self._bar = bar
        self._task: TaskID | None = None
        if bar is not None:
            self._task = bar.add_task(name, total=total, completed=start, numbers="")
        self._emit()

    def advance(self, steps: int = 1, **numbers: float | str) -> None:
        """Count steps as done; numbers appear beside the bar (loss=0.31)."""
        self.done += steps
        if self._bar is not None and self._task is not None:
            shown = "  ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in numbers.items())
            self._bar.update(self._task, completed=self.done)
            if numbers:
                self._bar.update(self._task, numbers=shown)
        if time.monotonic() - self._last_event >= _SECONDS_BETWEEN_EVENTS:
            self._emit()

    def finish(self) -> None:
        """Emit the last state, whatever it is."""
        self._emit()

    @property
    def eta_seconds(self) -> float | None:
        """Seconds to go at the average speed so far; None before the first step."""
        if self.done <= self._start:
            return None
        return (time.monotonic() - self._began) / (self.done - self._start) * (self._total - self.done)

    def _emit(self) -> None:
        self._last_event = time.monotonic()
        eta = None if self.eta_seconds is None else round(self.eta_seconds, 1)
        self._progress.emit("progress", stage=self._name, step=self.done, of=self._total, eta_seconds=eta)


def _without_nan(fields: dict[str, Any]) -> dict[str, Any]:
    """JSON has no NaN or infinity; null stands for them."""
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in fields.items()
    }


def mend_last_line(events_path: Path) -> int:
    """Cut a half-written last line (a killed writer leaves one) and return the last sequence number, 0 if none.

    Where the last line is no event, the number of lines stands for it: a damaged log must not stop a run.
    """
    if not events_path.exists():
        return 0
    lines = events_path.read_bytes().splitlines(keepends=True)
    if lines and not lines[-1].endswith(b"\n"):
        with events_path.open("r+b") as file:
            file.seek(-len(lines.pop()), os.SEEK_END)
            file.truncate()
    last = _event(lines[-1]) if lines else None
    return len(lines) if last is None else int(last["sequence"])


def read_events(events_path: Path) -> list[dict[str, Any]]:
    """Every whole event of a file, oldest first; lines that are none are left out."""
    lines = events_path.read_bytes().splitlines(keepends=True)
    events = (_event(line) for line in lines if line.endswith(b"\n"))
    return [event for event in events if event is not None]


def _event(line: bytes) -> dict[str, Any] | None:
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and isinstance(event.get("sequence"), int) else None
