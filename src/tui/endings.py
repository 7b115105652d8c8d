"""How the app ends when it is told to: the line dropped, or the machine goes down."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from functools import partial
from types import FrameType

from textual.app import App

GRACE = 2.0
"""Seconds for an orderly end (it takes 0.3); then the process goes without one."""


def leave_when_told(app: App[int]) -> None:
    """End `app` in order on SIGHUP and SIGTERM, with exit status 128 + the signal.

    Runs are their supervisors' and stay. Call it on the event loop.

    Handlers of the loop's own would not do: when the terminal goes while a frame
    is drawn, Textual's writer thread dies of it and the loop waits for ever for
    room in that thread's queue, while the input thread spins on end-of-file. A
    plain handler runs even then, and its thread ends what does not end itself.
    """
    loop = asyncio.get_running_loop()

    def told(number: int, _frame: FrameType | None) -> None:
        status = 128 + number
        threading.Thread(target=_end_anyway, args=(status,), daemon=True).start()
        loop.call_soon_threadsafe(partial(app.exit, return_code=status))

    for number in (signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, told)


def _end_anyway(status: int) -> None:
    time.sleep(GRACE)
    os._exit(status)
