"""Rows looked at by several processes, in parts that come back in order.

The processes are forked from the worker once the tokenizer is loaded: they
share its memory, and none of them imports anything again.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from engine.errors import Failed
from engine.i18n import _

PART = 1_000
"""Rows of one part at most."""
AHEAD = 4
"""Parts for each process that are under way or waiting to be taken."""

Made = TypeVar("Made")
Cancelled = Callable[[], bool]
Work = Callable[[int, int, Callable[[int], None]], Made]
"""``work(start, end, each)`` looks at the rows from `start` up to `end`."""


class Stop(Exception):
    """Raised inside a part that nobody waits for any more."""


def cores() -> int:
    """The cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        return os.cpu_count() or 1


def in_parts(
    rows: int,
    work: Work[Made],
    progress: Callable[[int], None],
    cancelled: Cancelled,
    processes: int = 0,
) -> Iterator[Made]:
    """What `work` makes of all rows, part by part in order.

    `progress` gets the number of rows done. Raises `Failed` when cancelled, or when
    a process dies.
    """
    processes = processes or cores()
    size = max(1, min(PART, -(-rows // (2 * processes))))
    parts = [(start, min(start + size, rows)) for start in range(0, rows, size)]
    if processes == 1 or len(parts) <= 1:
        yield from _alone(parts, work, progress, cancelled)
    else:
        yield from _together(parts, work, progress, cancelled, min(processes, len(parts)))


def _alone(
    parts: list[tuple[int, int]],
    work: Work[Made],
    progress: Callable[[int], None],
    cancelled: Cancelled,
) -> Iterator[Made]:
    def each(row: int) -> None:
        if cancelled():
            raise Stop
        progress(row)

    for start, end in parts:
        try:
            each(start)
            made = work(start, end, each)
        except Stop:
            raise _stopped() from None
        progress(end)
        yield made


def _together(
    parts: list[tuple[int, int]],
    work: Work[Made],
    progress: Callable[[int], None],
    cancelled: Cancelled,
    processes: int,
) -> Iterator[Made]:
    context = multiprocessing.get_context("fork")
    stop, done = context.Event(), context.Value("Q", 0)
    gc.freeze()  # what is shared stays shared: the collector does not touch it
    pool = ProcessPoolExecutor(processes, context, _begin, (work, stop, done, os.getpid()))
    under_way: deque[Future[Made]] = deque()
    waiting = iter(parts)
    # A forked process first closes its stdin, and would wait for ever for the lock
    # that the worker's reading thread held at that moment.
    stdin, sys.stdin = sys.stdin, None
    try:
        while True:
            while len(under_way) < AHEAD * processes and (part := next(waiting, None)):
                under_way.append(pool.submit(_do, *part))
            if not under_way:
                return
            while not under_way[0].done():
                if cancelled():
                    raise _stopped()
                progress(done.value)
                time.sleep(0.02)
            yield under_way.popleft().result()
    except BrokenProcessPool:
        raise Failed(
            _("A process that looked at rows died"),
            _("Most likely the machine ran out of memory."),
            _("Free memory, or shorten the longest rows, then check again."),
        ) from None
    finally:
        sys.stdin = stdin
        stop.set()
        pool.shutdown(cancel_futures=True)
        gc.unfreeze()


def _stopped() -> Failed:
    return Failed(_("Stopped before every row was checked"))


_work: Any = None
_stop: Any = None
_done: Any = None


def _begin(work: Any, stop: Any, done: Any, parent: int) -> None:
    """In each process: what to do, and not to outlive the parent."""
    global _work, _stop, _done
    _work, _stop, _done = work, stop, done

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _do(start: int, end: int) -> Any:
    counted = start

    def each(row: int) -> None:
        nonlocal counted
        if _stop.is_set():
            raise Stop
        with _done.get_lock():
            _done.value += row - counted
        counted = row

    made = _work(start, end, each)
    each(end)
    return made
