"""The app's end of a worker: start it, ask it, stop it."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import subprocess
import tempfile
import threading
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from engine.errors import Failed, Problem
from engine.i18n import _, language
from engine.settings import Settings

BOOTSTRAP = Path(__file__).parent / "bootstrap.py"
_STARTED: weakref.WeakSet[WorkerClient] = weakref.WeakSet()
"""The clients that have started a process."""
_CHANGING = threading.Lock()
"""Held to add to them, or to read them."""


NOT_HERE = "import sys; sys.path[:] = [place for place in sys.path if place]\n"
"""What a program for ``python -c`` begins with: a workspace may have a folder or a file called
like a module, and the current folder is first on the path (-P is not known to Python 3.10)."""


def command(python: str, module: str, *arguments: str) -> list[str]:
    """The command line that runs `module` of ``engine`` under `python`."""
    return [python, str(BOOTSTRAP), module, *arguments]


def environment(settings: Settings) -> dict[str, str]:
    """The environment for a process of ours: no current folder on the path, unbuffered."""
    values = dict(os.environ)
    values.update(
        PYTHONSAFEPATH="1",
        PYTHONUNBUFFERED="1",
        PYTHONIOENCODING="utf-8",
        TOKENIZERS_PARALLELISM="false",
        TUNEDECK_LANGUAGE=language(),
    )
    # Waiting threads sleep. Spinning ones save about 15 % of a step on idle cores,
    # but cost much more as soon as another program wants a core (measured on two
    # cores with one busy program beside it: 5.6 s a step against 3.4 s).
    values.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if settings.interpreter:
        values.pop("PYTHONPATH", None)  # it was meant for our own Python
    if settings.threads:
        values["OMP_NUM_THREADS"] = str(settings.threads)
    return values


def stop_all() -> None:
    """End every worker, whatever it does, for this process ends: nobody waits for an answer."""
    with _CHANGING:
        clients = list(_STARTED)
    for client in clients:
        client.stop()


class WorkerClient:
    """A worker process that stays warm between requests.

    Blocking: in the app, call it from a thread. One request at a time; another
    thread may `cancel` it. What the worker prints beside its answers goes to a
    file, whose end is quoted when it dies.
    """

    def __init__(
        self, module: str, settings: Settings, extra: Mapping[str, str] | None = None
    ) -> None:
        self.module = module
        self.settings = settings
        self.extra = dict(extra or {})
        self._process: subprocess.Popen[str] | None = None
        self._errors: Any = None
        self._numbers = itertools.count(1)
        self._current = 0
        self._lock = threading.Lock()

    @property
    def pid(self) -> int | None:
        """The worker's process id while it runs."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def start(self) -> None:
        """Start the process if it is not running; returns before it is ready."""
        if self.pid is not None:
            return
        self.close()
        self._errors = tempfile.TemporaryFile(  # noqa: SIM115 (open as long as the worker)
            "w+", encoding="utf-8", errors="replace"
        )
        try:
            self._process = subprocess.Popen(
                command(self.settings.python, self.module),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                text=True,
                encoding="utf-8",
                env=environment(self.settings) | self.extra,
                start_new_session=True,
            )
        except OSError as error:
            raise Problem(
                _("Cannot start the training interpreter {python}").format(
                    python=self.settings.python
                ),
                error.strerror or str(error),
                _("Set 'interpreter' in the settings to the Python that has XTuner."),
            ) from error
        with _CHANGING:
            _STARTED.add(self)

    def ask(self, do: str, **values: Any) -> Iterator[dict[str, Any]]:
        """Send a request; yield its events, the last being ``done``.

        Raises what the worker reports (a `Problem`, or `Failed`), and `Failed` for its death.
        """
        with self._lock:
            self.start()
            process = self._process
            assert process is not None and process.stdin is not None and process.stdout is not None
            self._current = next(self._numbers)
            try:
                process.stdin.write(
                    json.dumps({"id": self._current, "do": do, **values}, ensure_ascii=False) + "\n"
                )
                process.stdin.flush()
            except BrokenPipeError:
                raise self._death(process) from None
            for line in process.stdout:
                message = json.loads(line)
                if message.get("id") != self._current:
                    continue
                if message["event"] == "error":
                    kind = Problem if message.get("status") == Problem.status else Failed
                    ways = tuple(message["ways"])
                    what, why, todo = message["what"], message["why"], message["todo"]
                    raise kind(what, why, todo, message["details"], ways)
                yield message
                if message["event"] == "done":
                    return
            raise self._death(process)

    def result(self, do: str, **values: Any) -> dict[str, Any]:
        """Send a request and return its result; events on the way are dropped."""
        return list(self.ask(do, **values))[-1]

    def cancel(self) -> None:
        """Ask the worker to end the request in progress; safe from any thread."""
        process = self._process
        if process is not None and process.stdin is not None and process.poll() is None:
            try:
                process.stdin.write(json.dumps({"do": "cancel", "id": self._current}) + "\n")
                process.stdin.flush()
            except BrokenPipeError:
                pass

    def stop(self) -> None:
        """End the worker in the middle of a request, which then raises; safe from any thread."""
        process = self._process
        if process is not None:
            process.kill()

    def close(self) -> None:
        """End the worker and free what it holds."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    with contextlib.suppress(BrokenPipeError):
                        stream.close()
        if self._errors is not None:
            self._errors.close()
            self._errors = None

    def _death(self, process: subprocess.Popen[str]) -> Failed:
        status = process.wait()
        said: list[str] = []
        if self._errors is not None:
            self._errors.seek(0)
            said = [line.strip() for line in self._errors if line.strip()]
        if status == -9:
            why = _("It was killed (signal 9): most likely the machine ran out of memory.")
        elif status < 0:
            why = _("It was ended by signal {number}.").format(number=-status)
        else:
            why = (
                said[-1] if said else _("It ended with exit status {status}.").format(status=status)
            )
        return Failed(
            _("The worker {module} died").format(module=self.module),
            why,
            _("Run `tunedeck doctor` to check the training environment."),
            "\n".join(said[-60:]),
        )

    def __enter__(self) -> WorkerClient:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()
