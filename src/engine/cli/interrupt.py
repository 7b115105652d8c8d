"""Signals: Ctrl-C for work that can be stopped in the middle, and an end that tidies up."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def tidy_end() -> Iterator[None]:
    """SIGTERM, and SIGHUP when the line to the terminal is cut, end the program as an error does.

    Else what is being written would stay in the user's folder as it is, under the name of
    something temporary. One that is ignored (nohup) stays so; a second one ends at once.
    """
    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is signal.SIG_DFL:
                before[number] = signal.signal(number, _end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(number: int, _frame: object) -> None:
    signal.signal(number, signal.SIG_DFL)
    sys.exit(128 + number)


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
