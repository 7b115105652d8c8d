"""A worker's life: it ends with who asks it, whatever reached it of the last request."""

from __future__ import annotations

import subprocess
import sys

import pytest

from engine.worker import client

LIGHT = "engine.config.checks.load_worker"
"""A worker that imports nothing heavy before it is asked."""


@pytest.mark.parametrize("rest", ["", '{"id": 1, "do": "lo', '{"id": 1, "do": "lo\n'])
def test_it_ends_when_nobody_can_ask_any_more(rest: str) -> None:
    """Who is killed in the middle of a request leaves the half of it in the pipe."""
    command = client.command(sys.executable, LIGHT)
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as worker:
        assert worker.stdin is not None and worker.stdout is not None
        assert "ready" in worker.stdout.readline()
        worker.stdin.write(rest)
        worker.stdin.close()
        try:
            assert worker.wait(60) == 0
        finally:
            worker.kill()
