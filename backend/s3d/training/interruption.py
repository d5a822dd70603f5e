"""Stopping politely: Ctrl-C, a termination signal or a file named `cancel` end a run after a complete checkpoint."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

CANCEL_FILE = "cancel"
SAME_PRESS_SECONDS = 1.0


class StopRequest:
    """Asked between steps: has somebody asked to stop?"""

    def __init__(self, folder: Path | None = None) -> None:
        """folder: where a file named `cancel` is a request, too."""
        self._event = threading.Event()
        self._file = None if folder is None else folder / CANCEL_FILE

    def set(self) -> None:
        """Ask."""
        self._event.set()

    @property
    def is_set(self) -> bool:
        """Whether anybody asked."""
        return self._event.is_set() or (self._file is not None and self._file.exists())

    def obeyed(self) -> None:
        """Remove the file, so that the next start goes on."""
        if self._file is not None:
            self._file.unlink(missing_ok=True)


@contextmanager
def stop_on_signals(request: StopRequest) -> Iterator[None]:
    """Ctrl-C or a termination signal sets the request; Ctrl-C again, a second or more later, stops at once.

    A repetition within that second is the same press: the terminal signals all processes, and torchrun or the demo then
    passes the signal on to its children once more. In the main thread only; in others nothing happens.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    first_press: float | None = None

    def ask(number: int, _frame: FrameType | None) -> None:
        nonlocal first_press
        now = time.monotonic()
        if first_press is None:
            first_press = now
            request.set()
        elif number == signal.SIGINT and now - first_press >= SAME_PRESS_SECONDS:
            raise KeyboardInterrupt

    previous = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
