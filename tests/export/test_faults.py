"""Killed at any moment, or out of disk: the finished model, or a clean restart."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.export.conftest import make_base, sums_hold

# A child that merges as often as it is told to, without importing again: it forks
# one process a line, so that twenty kills cost one start.
SERVER = """
import os, sys
from pathlib import Path
import numpy, ml_dtypes
from engine.errors import Problem
from engine.export import merge as module, output
import resource
base, adapter, out = map(Path, sys.argv[1:4])
for line in sys.stdin:
    limit, output.AT_ONCE = map(int, line.split())
    child = os.fork()
    if not child:
        if limit:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        print(os.getpid(), flush=True)
        try:
            module.merge(base, adapter, out, force=True)
        except Problem as problem:
            print("problem", problem.status, problem.what, problem.why, flush=True)
            os._exit(3)
        os._exit(0)
    _pid, status = os.waitpid(child, 0)
    print("end", os.waitstatus_to_exitcode(status), flush=True)
"""


class Merging:
    """The server above, and what its merges leave."""

    def __init__(self, folder: Path, base: Path, adapter: Path) -> None:
        self.out = folder / "results" / "out"
        self.out.parent.mkdir()
        self._process = subprocess.Popen(
            [sys.executable, "-c", SERVER, str(base), str(adapter), str(self.out)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )

    def start(self, limit: int = 0, at_once: int = 0) -> int:
        """Begin one; files from `at_once` bytes on are made by several threads."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{limit} {at_once}\n")
        return int(self.line())

    def line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def close(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()


@pytest.fixture
def merging(tmp_path: Path, adapter: Path) -> Iterator[Merging]:
    found = Merging(tmp_path, make_base(tmp_path / "base", shards=3), adapter)
    yield found
    found.close()


def test_twenty_kills(merging: Merging) -> None:
    merging.start()
    assert merging.line() == "end 0\n"
    started = time.monotonic()
    merging.start()
    assert merging.line() == "end 0\n"
    whole = time.monotonic() - started
    dice = random.Random(7)
    killed = 0
    for number in range(20):
        pid = merging.start(at_once=(number % 2) << 30)
        time.sleep(dice.uniform(0, whole))
        with suppress(ProcessLookupError):  # it may have come to its end
            os.kill(pid, 9)
        killed += merging.line() == "end -9\n"
        # Under the final name lies a whole model, or nothing at all.
        if merging.out.exists():
            sums_hold(merging.out)
    assert killed
    merging.start()
    assert merging.line() == "end 0\n"
    sums_hold(merging.out)
    assert [one.name for one in merging.out.parent.iterdir()] == ["out"]


@pytest.mark.parametrize("at_once", [0, 1 << 30])
@pytest.mark.parametrize("limit", [1, 200, 900])
def test_a_disk_that_is_full(merging: Merging, limit: int, at_once: int) -> None:
    """The kernel refuses to let a file grow beyond so many bytes."""
    merging.start(limit, at_once)
    said = merging.line()
    assert said.startswith("problem 1 Cannot write ") and "File too large" in said
    assert merging.line() == "end 3\n"
    assert not any(merging.out.parent.iterdir())
    merging.start()
    assert merging.line() == "end 0\n"
    sums_hold(merging.out)
