"""Reads a log for its view: one thread, so that a slow disk or a search holds up nothing.

The view asks; when there is something new, it is told so and looks at `file`,
`filter` and `search`, which may be read while this thread adds to them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from engine.run.log_file import LogFile
from engine.run.log_sieve import Sieve, Test

_QUIET = 0.5
"""Seconds between two looks at a log to which nothing is added."""
_BUSY = 3.0
"""Seconds from new lines to the next look: each redraws the view, over a slow line at times."""
_TURN = 0.03
"""Seconds that are worked at a stretch."""
_TELL = 0.3
"""Seconds between two reports of a search that goes on."""
_PLACE = 5.0
"""Seconds after which the log may lie elsewhere: a work dir of XTuner gets one for each start."""


class LogReader:
    """Follows the log that `open` names; calls `told` from its own thread."""

    def __init__(self, told: Callable[[], object]) -> None:
        self.file: LogFile | None = None
        self.filter: Sieve | None = None
        self.search: Sieve | None = None
        self.gone = False
        """Whether the file is not there (any more)."""
        self._told = told
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._ended = self._asleep = False
        self._locate: Callable[[], Path] | None = None
        self._opened = False
        self._wanted: set[int] = set()
        self._filter: Sequence[Test] = ()
        self._search: Sequence[Test] = ()
        self._anew = False  # the sieves are
        self._before = self._whole = False
        self._tail_at = self._place_at = self._tell_at = 0.0
        self._thread: threading.Thread | None = None

    # What the view calls; each returns at once

    def open(self, locate: Callable[[], Path]) -> None:
        """Read the log that `locate`, called in the thread, finds; it may find another later."""
        with self._lock:
            self._locate, self._opened = locate, False
            self.file = self.filter = self.search = None
            self._filter = self._search = ()
            self._wanted.clear()
            self._before = self._whole = False
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, daemon=True, name="log")
            self._thread.start()
        self._wake.set()

    def stop(self) -> None:
        """Read no more."""
        self._ended = True
        self._wake.set()

    def rest(self, asleep: bool) -> None:
        """Whether nobody looks, so that nothing need be read."""
        self._asleep = asleep
        self._wake.set()

    def load(self, number: int) -> None:
        """Read line `number`, which is in view and not in memory."""
        with self._lock:
            self._wanted.add(number)
        self._wake.set()

    def before(self, whole: bool = False) -> None:
        """Read on towards the start of the file; `whole`: all the way."""
        self._before, self._whole = True, self._whole or whole
        self._wake.set()

    def sift(self, only: Sequence[Test], holding: Sequence[Test]) -> None:
        """Look for the lines of a filter, and among them for those of a search; () for neither."""
        with self._lock:
            self._filter, self._search, self._anew = only, holding, True
        self._wake.set()

    @property
    def asked(self) -> bool:
        """Whether earlier lines have been asked for and have not come yet."""
        return self._before

    # The thread

    def _work(self) -> None:
        while not self._ended:
            self._wake.clear()
            busy = False
            if not self._asleep:
                try:
                    busy = self._turn()
                except OSError:
                    self.gone = True
                    self._tell_at = 0.0
                    self._told()
            if busy:
                time.sleep(0.001)  # the screen comes first
            else:
                left = max(self._tail_at - time.monotonic(), 0.01)
                self._wake.wait(None if self._asleep else left)

    def _turn(self) -> bool:
        """Do what is asked for; True when there is more to do at once."""
        now = time.monotonic()
        file = self._opened_file(now)
        news = self._tail(file, now) if now >= self._tail_at else False
        news = self._load(file) or news
        news = self._earlier(file) or news
        busy = self._whole or self._tail_at == 0.0
        busy = self._sift(file) or busy
        if news or time.monotonic() >= self._tell_at > 0.0:
            self._tell_at = 0.0
            self._told()
        return busy

    def _opened_file(self, now: float) -> LogFile:
        with self._lock:
            locate, opened = self._locate, self._opened
        assert locate is not None
        if opened and self.file is not None and now < self._place_at:
            return self.file
        path = locate()
        self._place_at = now + _PLACE
        with self._lock:
            if locate == self._locate and (self.file is None or self.file.path != path):
                self.file, self._opened, self._anew = LogFile(path), True, True
                self._tail_at = 0.0
            return self.file or LogFile(path)

    def _tail(self, file: LogFile, now: float) -> bool:
        epoch, gone = file.epoch, self.gone
        change = file.grow()
        self.gone = change == "gone"
        if change in ("same", "gone"):
            self._tail_at = now + _QUIET
            return self.gone != gone
        if file.epoch != epoch:
            self._anew = True
        # A few MB are read at a time; the rest of them at once.
        self._tail_at = 0.0 if file.behind else now + _BUSY
        return True

    def _load(self, file: LogFile) -> bool:
        with self._lock:
            wanted, self._wanted = self._wanted, set()
        for number in sorted(wanted):
            file.load(number)
        return bool(wanted)

    def _earlier(self, file: LogFile) -> bool:
        if not self._before:
            return False
        until = time.monotonic() + _TURN
        while (more := file.before()) and self._whole and time.monotonic() < until:
            pass
        if self._whole and more:
            return False
        self._before = self._whole = False
        return True

    def _sift(self, file: LogFile) -> bool:
        with self._lock:
            if self._anew:
                self._anew = False
                only, holding = self._filter, self._search
                self.filter = Sieve(file, only) if only else None
                self.search = Sieve(file, [*only, *holding]) if holding else None
                self._tell_at = time.monotonic()
        until = time.monotonic() + _TURN
        for sieve in (self.filter, self.search):
            worked = False
            while sieve is not None and time.monotonic() < until and sieve.more():
                worked = True
            if worked and not self._tell_at:
                self._tell_at = time.monotonic() + _TELL
            if worked and sieve is not None and sieve.done:
                self._tell_at = time.monotonic()
        return any(one is not None and not one.done for one in (self.filter, self.search))
