"""The user's own command, called at each alarm, at its end, and when a run ends.

It gets what happened twice: in the environment, for a line of shell, and as
JSON on stdin, for a program. It can do no harm: one runs at a time, in a
session of its own, for `SECONDS` at most; what it prints is kept only to say
why it failed.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections import deque
from pathlib import Path

import msgspec
import psutil

from engine.i18n import _
from engine.run.processes import MARK
from engine.text import one_line

SECONDS = 30.0
"""A mail or a request to a server takes a few; one that hangs must not pile up."""
_KEPT = 2000


class Message(msgspec.Struct, frozen=True):
    """What happened to a run. Also the JSON on the command's stdin."""

    event: str
    """"alarm", "alarm-over", or the state that a run has ended in."""
    run: str
    dir: str
    host: str
    time: float
    """Seconds since the epoch."""
    state: str
    text: str
    """One sentence in the user's language."""
    todo: str = ""
    code: str = ""
    """The alarm's code, or the cause's of an end."""
    values: dict[str, str] = {}
    step: int | None = None
    steps: int | None = None
    loss: float | None = None

    def environment(self) -> dict[str, str]:
        """The same as environment variables (``TUNEDECK_TEXT``, …)."""
        given = msgspec.structs.asdict(self) | {"name": self.run}
        del given["values"], given["run"]  # TUNEDECK_RUN marks a run's own processes
        return {
            f"TUNEDECK_{name.upper()}": "" if value is None else one_line(str(value))
            for name, value in given.items()
        }


class Outcome(msgspec.Struct, frozen=True):
    """What became of one call."""

    seconds: float
    status: int | None
    """Its exit status (minus the signal's number); None when it was ended after `SECONDS`."""
    output: str
    """The end of what it printed."""

    @property
    def ending(self) -> str:
        """How it ended, in a word or two."""
        return _("ended after 30 s") if self.status is None else str(self.status)

    @property
    def ok(self) -> bool:
        """Whether it ended by itself and said that all went well."""
        return self.status == 0


class Call:
    """One call of the command, as it runs.

    Raises OSError when it cannot be started.
    """

    def __init__(self, command: str, message: Message) -> None:
        environment = {name: value for name, value in os.environ.items() if name != MARK}
        self._began = time.monotonic()
        self._output = b""
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", command],
            cwd=message.dir if Path(message.dir).is_dir() else "/",
            env=environment | message.environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        os.set_blocking(self._process.stdout.fileno(), False)
        os.set_blocking(self._process.stdin.fileno(), False)  # far less than a pipe takes
        with contextlib.suppress(OSError), self._process.stdin:
            self._process.stdin.write(msgspec.json.encode(message) + b"\n")

    def poll(self) -> Outcome | None:
        """What became of it; None while it runs. Ends it when its time is over."""
        status = self._process.poll()
        self._read()
        passed = time.monotonic() - self._began
        if status is None and passed < SECONDS:
            return None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)  # what it left behind, too
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
        output = self._output.decode("utf-8", errors="replace").strip()
        return Outcome(passed, status, output)

    def pids(self) -> set[int]:
        """Its processes."""
        try:
            children = psutil.Process(self._process.pid).children(recursive=True)
        except psutil.Error:
            children = []
        return {self._process.pid, *(child.pid for child in children)}

    def _read(self) -> None:
        """Take what it printed; one that prints more than is taken waits for us."""
        assert self._process.stdout is not None
        with contextlib.suppress(OSError):
            for _piece in range(16):
                data = os.read(self._process.stdout.fileno(), 65536)
                self._output = (self._output + data)[-_KEPT:]


class Hook:
    """Calls the command for one message after the other, without waiting for it."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[str, Message]] = deque()
        self._call: Call | None = None

    def call(self, command: str, message: Message) -> None:
        """Call `command` with `message` as soon as the calls before have ended."""
        self._waiting.append((command, message))

    def poll(self) -> Outcome | None:
        """Look after the calls; returns what became of one that has just ended."""
        if self._call is None and self._waiting:
            command, message = self._waiting.popleft()
            try:
                self._call = Call(command, message)
            except OSError as error:
                return Outcome(0.0, -1, error.strerror or str(error))
        outcome = self._call.poll() if self._call is not None else None
        if outcome is not None:
            self._call = None
        return outcome

    @property
    def busy(self) -> bool:
        """Whether a call runs or waits."""
        return self._call is not None or bool(self._waiting)

    def pids(self) -> set[int]:
        """The processes of the call that runs."""
        return self._call.pids() if self._call is not None else set()
