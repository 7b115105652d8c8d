"""Ctrl-C for work that can be stopped in the middle."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def on_interrupt(stop: Callable[[], object]) -> Iterator[threading.Event]:
    """Ctrl-C calls `stop` and sets the event; a second one ends the program."""
    before = signal.getsignal(signal.SIGINT)
    pressed = threading.Event()

    def handle(_signal: int, _frame: object) -> None:
        signal.signal(signal.SIGINT, before)
        pressed.set()
        stop()

    signal.signal(signal.SIGINT, handle)
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, before)
