"""Work done by several threads whose results are taken in order."""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")

_MOST = 4


def workers() -> int:
    """How many threads compute: the CPUs that this process may use, at most four.

    (From four on the disk is what one waits for.)
    """
    return max(1, min(_MOST, len(os.sched_getaffinity(0))))


def one_blas_thread() -> None:
    """Keep numpy's matrix products to the thread that asks for them.

    The threads here do what BLAS's own would do, and those would wait for one
    another. It has an effect only before numpy is first imported.
    """
    if "numpy" not in sys.modules:
        for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
            os.environ.setdefault(name, "1")


def in_order(tasks: Iterable[Callable[[], T]]) -> Iterator[T]:
    """The tasks' results, in the tasks' order.

    Tasks run ahead of the result that is taken, by two a thread and no more,
    so that results which nobody took yet do not fill the memory. A task's
    error is raised when its turn comes; what was not begun is then dropped.
    """
    threads = workers()
    waiting: deque[Future[T]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="export") as pool:
        try:
            for task in tasks:
                waiting.append(pool.submit(task))
                if len(waiting) > 2 * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
