"""Stopping politely: Ctrl-C, a termination signal or a file named `cancel` end a run after a complete checkpoint."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

CANCEL_FILE = "cancel"


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


@contextmanager
def stop_on_signals(request: StopRequest) -> Iterator[None]:
    """The first Ctrl-C or termination signal sets the request; a second one stops at once. Main thread only."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ask(_number: int, _frame: FrameType | None) -> None:
        if request.is_set:
            raise KeyboardInterrupt
        request.set()

    previous = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
