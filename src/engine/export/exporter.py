"""The process that does an export's steps.

    python .../bootstrap.py engine.export.exporter JOB_FOLDER LOCK_FD

It outlives the app and the line. All that it says is in the job's folder, and all that it
is told is the file ``cancel`` there; SIGTERM means the same.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from engine import files, i18n, unforeseen
from engine.errors import Problem
from engine.export import gguf, handover, plan, template
from engine.export.convert import convert
from engine.export.job import CANCEL, ORDER, STATE, Order, Said, State, Status, Step
from engine.export.merge import merge
from engine.export.verify import Verified, verify, verify_model, worker_for
from engine.hub import upload
from engine.worker.client import WorkerClient

_PAUSE = 1.0
"""Seconds between two writings of the state."""


class Cancelled(Exception):
    """The user wants no more of it."""


class Exporter:
    """Does a job's steps, one after the other, and writes down how far it is."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._order = msgspec.json.decode((folder / ORDER).read_bytes(), type=Order)
        self._state = State("running", self._order.steps[0], time.time())
        self._written = 0.0

    def run(self) -> None:
        """Do all steps, or as many as go well."""
        do: dict[Step, Callable[[], str]] = {
            "convert": self._convert,
            "merge": self._merge,
            "verify": self._verify,
            "gguf": self._gguf,
            "upload": self._upload,
        }
        for step in self._order.steps:
            self._note("running", step=step, began=time.time(), done=0, total=0)
            status, said, result = self._done(do[step])
            if status != "done" or step == self._order.steps[-1]:
                self._note(status, said=said, result=result)
                return

    def _done(self, work: Callable[[], str]) -> tuple[Status, Said | None, str]:
        try:
            return "done", None, work()
        except Exception as error:  # whatever goes wrong is said in the app
            if self._cancelled():  # also when it says so in words of its own
                return "cancelled", None, ""
            problem = error if isinstance(error, Problem) else unforeseen.refused(error)
            if problem is not None:
                words = (problem.what, problem.why, problem.todo, problem.details)
                said = Said(*words, problem.ways)
            else:
                said = Said(type(error).__name__, str(error), "", traceback.format_exc())
            return "failed", said, ""

    # -- the steps --------------------------------------------------------------

    def _convert(self) -> str:
        order = self._order
        made = convert(
            Path(order.checkpoint),
            Path(order.adapter or order.merged),
            base=Path(order.base) if order.base and not order.adapter else None,
            dtype=None if order.adapter or order.dtype == "auto" else order.dtype,
            force=order.again,
            progress=self._progress,
        )
        return str(made.adapter)

    def _merge(self) -> str:
        order = self._order
        made = merge(
            Path(order.base),
            Path(order.adapter),
            Path(order.merged),
            dtype=order.dtype,
            device=order.device,
            settings=order.settings,
            force=order.again,
            progress=self._progress,
            cancelled=self._cancelled,
        )
        return str(made.out)

    def _verify(self) -> str:
        order = self._order
        merged = Path(order.merged)
        with self._watched(worker_for(order.settings)) as worker:
            found: Verified
            if order.adapter:
                found = verify(
                    Path(order.base),
                    Path(order.adapter),
                    merged,
                    settings=order.settings,
                    rows=order.rows,
                    progress=self._progress,
                    worker=worker,
                )
            else:
                found = verify_model(
                    merged,
                    settings=order.settings,
                    rows=order.rows,
                    progress=self._progress,
                    worker=worker,
                )
        compared = template.compare(merged, order.settings, trust=handover.trusted(merged))
        plan.keep(merged, msgspec.structs.replace(found, templates=compared))
        return str(merged)

    def _gguf(self) -> str:
        order = self._order
        made = gguf.make(
            Path(order.merged),
            order.gguf,
            settings=order.settings,
            force=order.again,
            progress=self._progress,
            cancelled=self._cancelled,
        )
        return str(made.path)

    def _upload(self) -> str:
        order = self._order
        made = upload.folder(
            Path(order.merged),
            upload.target(order.upload),
            settings=order.settings,
            public=order.public,
            progress=self._progress,
            cancelled=self._cancelled,
        )
        return made.url

    # -- how far ----------------------------------------------------------------

    def _cancelled(self) -> bool:
        return (self._folder / CANCEL).exists()

    def _progress(self, done: int, total: int) -> None:
        if self._cancelled():
            raise Cancelled
        now = time.monotonic()
        if done == total or now - self._written >= _PAUSE:
            self._written = now
            self._note("running", done=done, total=total)

    @contextlib.contextmanager
    def _watched(self, worker: WorkerClient) -> Iterator[WorkerClient]:
        """End `worker` when the job is cancelled: while it loads a model it tells nothing."""
        over = threading.Event()

        def watch() -> None:
            while not over.wait(0.2):
                if self._cancelled():
                    worker.stop()

        threading.Thread(target=watch, daemon=True).start()
        try:
            yield worker
        finally:
            over.set()

    def _note(self, status: Status, **changes: object) -> None:
        self._state = msgspec.structs.replace(self._state, status=status, **changes)
        try:
            files.write_json(self._folder / STATE, self._state)
        except (OSError, Problem) as error:  # a full disk must not end what makes room on it
            sys.stderr.write(f"{time.strftime('%H:%M:%S')} {error}\n")


def main() -> None:
    """Leave the one who started us, then work."""
    folder, lock = Path(sys.argv[1]), int(sys.argv[2])
    # The second fork: not a child of the app, and no session leader either.
    if os.fork():
        os._exit(0)
    os.set_inheritable(lock, False)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda _number, _frame: (folder / CANCEL).touch(mode=0o600))
    os.umask(0o077)
    i18n.use(os.environ.get("TUNEDECK_LANGUAGE", ""))
    Exporter(folder).run()


if __name__ == "__main__":
    main()
