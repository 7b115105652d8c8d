"""What is open is written down beside the screen: a disk that hangs holds up no key."""

from __future__ import annotations

import threading
from collections.abc import Callable

_AT_THE_END = 2.0
"""Seconds that a window which closes waits for what is not written yet."""


class Keeping:
    """Calls `write` in a thread of its own, once for all that was noted meanwhile."""

    def __init__(self, write: Callable[[], object]) -> None:
        self._write = write
        self._change = threading.Condition()
        self._noted = self._written = 0
        self._thread = threading.Thread(target=self._run, daemon=True, name="keeping")

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def soon(self) -> None:
        """Something is to be written; returns at once."""
        with self._change:
            self._noted += 1
            self._change.notify_all()

    def close(self, seconds: float = _AT_THE_END) -> bool:
        """Wait until all is written, at most so long; whether it is."""
        with self._change:
            return self._change.wait_for(lambda: self._written == self._noted, seconds)

    def _run(self) -> None:
        while True:
            with self._change:
                self._change.wait_for(lambda: self._written != self._noted)
                noted = self._noted
            self._write()
            with self._change:
                self._written = noted
                self._change.notify_all()
