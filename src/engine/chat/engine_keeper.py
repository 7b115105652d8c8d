"""Holds an engine's server: it ends, with all its processes, when the one who wanted it is gone.

    python .../worker/bootstrap.py engine.chat.engine_keeper LOG COMMAND…

The server's output goes to LOG, which lies in a folder of its own. It is ended
when stdin closes, which the kernel does even for an app that was killed; then
the folder goes, too. Standard library only.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

GRACE = 10.0
"""Seconds that a server has to end by itself."""


def main(log: str, command: list[str]) -> int:
    """Run `command` in a process group of its own; returns its exit status."""
    with Path(log).open("ab") as output:
        server = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    left = threading.Event()

    def watch() -> None:
        sys.stdin.read()
        left.set()
        _signal(server.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(GRACE)
        _signal(server.pid, signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()
    status = server.wait()
    # Its workers on the GPU do not always end with it.
    _signal(server.pid, signal.SIGKILL)
    if left.is_set():
        shutil.rmtree(Path(log).parent, ignore_errors=True)
    return status if status >= 0 else 128 - status


def _signal(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
