"""The GPU under a test: how much of it is used, by whom, and a program that fills it.

Without a GPU nothing is used, so that what is measured on one can be tried without.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from engine.machine import gpu
from engine.machine.gpu import Gpu

ROOT = Path(__file__).parents[2]
ROOM = 200 << 20
"""Bytes by which a card that is as it was may differ."""

_HOG = """
import sys, torch
torch.zeros(1, device="cuda:0")
print("ready", flush=True)
for line in sys.stdin:
    held = None
    torch.cuda.empty_cache()
    if int(line):
        free, _total = torch.cuda.mem_get_info()
        held = torch.empty(max(1, free - int(line)), dtype=torch.uint8, device="cuda:0")
    print("done", flush=True)
"""


def used() -> int:
    """Bytes in use on the first GPU, by whomever."""
    cards = gpu.read("0").gpus
    return cards[0].used if cards else 0


def held_by(pids: Collection[int]) -> int | None:
    """Bytes of the first GPU that these processes hold; None where that cannot be seen."""
    listed = gpu.read("0").gpus[0].processes
    found = [one.memory for one in listed or [] if one.pid in pids]
    return None if not found or None in found else sum(one or 0 for one in found)


def comes(what: Callable[[], bool], seconds: float) -> bool:
    """Wait until `what()` holds; whether it came to that."""
    end = time.monotonic() + seconds
    while not what():
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


def until(what: Callable[[], bool], seconds: float, why: Callable[[], str] = str) -> None:
    """Wait until `what()` holds; `why()` is told when it does not."""
    assert comes(what, seconds), why() or "it did not happen in time"


class Watch:
    """What is in use on the card, looked at while something runs."""

    def __init__(self) -> None:
        self.seen: list[Gpu] = []

    @property
    def peak(self) -> int:
        """The most bytes that were in use."""
        return max((one.used for one in self.seen), default=0)


@contextmanager
def watched(every: float = 0.2, also: Callable[[], object] | None = None) -> Iterator[Watch]:
    """Look at the card every so many seconds, and call `also` each time."""
    watch, over = Watch(), threading.Event()

    def look() -> None:
        while True:
            watch.seen += gpu.read("0").gpus
            if also is not None:
                also()
            if over.wait(every):
                return

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield watch
    finally:
        over.set()
        thread.join()
        watch.seen += gpu.read("0").gpus


class Helper:
    """A program beside the tests; its lines are read one by one."""

    def __init__(self, code: str, *arguments: str | Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, *map(str, arguments)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "CUDA_DEVICE_ORDER": "PCI_BUS_ID"},
        )

    def line(self, wanted: str = "") -> str:
        """The next line that begins with `wanted`; libraries print others."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith(wanted):
                return line
        raise AssertionError("it died: see what it wrote above")

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


class Hog(Helper):
    """Another program on the card, which takes of it what it is told."""

    def __init__(self) -> None:
        super().__init__(_HOG)
        self.line("ready")

    def leave_free(self, size: int) -> None:
        """Take all of the card's memory but `size` bytes; 0 gives all back."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{size}\n")
        self.process.stdin.flush()
        self.line("done")
