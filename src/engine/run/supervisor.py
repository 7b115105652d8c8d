"""The process beside each run: starts the trainer, writes down what becomes of it.

    python .../bootstrap.py engine.run.supervisor RUN_DIR LOCK_FD

It outlives the app, the terminal and a hang-up. All that it knows is in the
run's folder, wherever that is moved (`engine.run.place`), and all that it is
told are files there: ``stop`` (save, then end) and ``kill`` (end now). SIGTERM,
which a machine sends when it shuts down, means stop; a second one means kill.

One that finds the trainer of another, which is gone, takes that on.
"""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

import msgspec

from engine import files
from engine.errors import Problem
from engine.machine import gpu
from engine.run import checkpoints, life, oom, processes, progress, state, turn, verdict
from engine.run.alarms.watch import Watch
from engine.run.claim import Claim
from engine.run.family import Family
from engine.run.place import Place
from engine.run.processes import MARK, Identity
from engine.run.state import Cause, Event, Order, RunState, Word
from engine.worker.client import command

TICK = 0.2
"""Seconds between looks at the trainer and the folder."""
SAMPLE = 2.0
"""Seconds between samples of the GPUs."""
GRACE = 10.0
"""Seconds that the trainer's processes have to end by themselves before SIGKILL."""
HASTE = 2.0
"""The same after a kill, and for what is left when the trainer has ended well."""
_ASKED = {"killed", "stopped-early"}
"""Causes of an end at once that somebody asked for."""


class Supervisor:
    """One start of one run, from the trainer's first breath to the final state."""

    def __init__(self, folder: Path) -> None:
        started_in = msgspec.json.decode((folder / state.STATE).read_bytes(), type=RunState).place
        self._place = Place(folder, Path(started_in or folder.absolute()))
        self.folder = folder = self._place.path
        self.order = msgspec.json.decode((folder / state.ORDER).read_bytes(), type=Order)
        self.state = msgspec.json.decode((folder / state.STATE).read_bytes(), type=RunState)
        self._trainer: subprocess.Popen[bytes] | None = None
        """None before the start, and for one that another supervisor started."""
        self._started: dict[str, Any] = {}
        """What the state says of the trainer's start."""
        self._told: Word | None = None
        """The last state that an event tells of."""
        self._announced = False
        self._sampled = 0.0
        self._noted = 0
        """Bytes of the trainer's note of its starts, before this one."""
        self._checkpoint = checkpoints.noted(folder)
        self._terminated = 0
        self._by_signal: set[str] = set()
        """Orders that came as signals: they hold even where there is no room for a file."""
        self._claim = Claim(self.order.gpus)
        self._watch = Watch(folder, self.order, _note, self.state.started)
        self._family = Family(self._place, self._watch.pids, _note)
        self._family.trainer = self.state.trainer
        self._memory = oom.Watch()

    def run(self) -> None:
        """Start the trainer and stay until it is gone and the end is written."""
        # What has a trainer is never started again, be that gone by now.
        if self.state.trainer is None and not self._begin():
            return
        self._claim.share()
        signal.signal(signal.SIGTERM, self._on_sigterm)
        while self._runs():
            cause = None
            with _forgiving("tick"):  # a full disk, say: the trainer must not suffer for it
                cause = self._tick()
            if cause is not None:
                self._end_at_once(cause)
                return
            time.sleep(TICK)
        self._conclude()

    def _runs(self) -> bool:
        """Whether the trainer lives: our own, or one that another supervisor left."""
        if self._trainer is not None:
            return self._trainer.poll() is None
        return self.state.trainer is not None and self.state.trainer.alive

    def _begin(self) -> bool:
        """Start the trainer when its turn has come; False when the run has ended instead."""
        if self.order.wait is not None and not self._has_waited():
            return False
        self._claim.share()
        signal.signal(signal.SIGTERM, self._on_sigterm)
        (self.folder / state.FACTS).unlink(missing_ok=True)
        self._noted = self._starts()
        checkpoints.clear_parts(self.folder)
        if (cause := self._follow()) is None:
            try:
                self._trainer = self._start()
            except OSError as error:
                values = {"python": self.order.command[0], "error": error.strerror or str(error)}
                cause = Cause("interpreter", values)
        if cause is not None:
            self._finish("failed", None, cause)
        return cause is None

    def _has_waited(self) -> bool:
        """Stay until its turn has come; False when it is not to start, which is written then.

        A SIGTERM ends this process and leaves the run as one that waits: the
        machine shuts down, and is asked for it again when it is back.
        """
        self._become("queued", supervisor=Identity.of(os.getpid()), place=str(self._place.origin))
        cause = turn.wait(self.folder, self.order, self._claim)
        if cause is not None:
            self._finish("stopped" if cause.code == "unqueued" else "failed", None, cause)
        return cause is None

    def _on_sigterm(self, _number: int, _frame: FrameType | None) -> None:
        self._terminated += 1
        self._by_signal.add(state.STOP if self._terminated == 1 else state.KILL)

    def _is_ordered(self, name: str) -> bool:
        """Whether to stop, or to kill; what came as a signal is written down for the trainer."""
        if name not in self._by_signal:
            with suppress(OSError):  # a network disk that is away
                return (self.folder / name).exists()
            return False
        try:
            (self.folder / name).touch(mode=0o600)
        except OSError:  # nothing can be written, a checkpoint neither
            self._by_signal.add(state.KILL)
        return True

    def _start(self) -> subprocess.Popen[bytes]:
        log = os.open(
            self.folder / state.LOG, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600
        )
        place = str(self._place.origin)
        environment = {**os.environ, **self.order.environment, MARK: place}
        for name in self.order.unset:
            environment.pop(name, None)
        try:
            log_start = os.fstat(log).st_size
            trainer = subprocess.Popen(
                self.order.command,
                cwd=self.order.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        finally:
            os.close(log)
        self._family.child, self._family.trainer = trainer.pid, Identity.of(trainer.pid)
        self._started = {
            "supervisor": Identity.of(os.getpid()),
            "trainer": self._family.trainer,
            "place": place,
            "started": time.time(),
            "log_start": log_start,
        }
        return trainer

    def _announce(self) -> None:
        """Write that it is watched; where there is no room for that, at the next look."""
        if self._announced:
            return
        with _forgiving("start"):
            if self._started:
                self._event("start", attempt=self.state.attempt, path=self.order.resume)
                self._become("starting", **self._started)
            else:
                self._become(self.state.state, supervisor=Identity.of(os.getpid()))
            self._announced = True

    def _follow(self) -> Cause | None:
        """See to it that the trainer reaches its folder where that is now; a cause if it cannot."""
        try:
            before = self._place.follow()
        except OSError as error:
            return self._moved_away(error)
        if before is not None:
            with _forgiving("moved"):
                self._event("moved", path=str(before))
        return None

    def _moved_away(self, error: OSError) -> Cause:
        why = os.strerror(error.errno) if error.errno else str(error)
        return Cause("moved-away", {"place": str(self._place.origin), "error": why})

    def _tick(self) -> Cause | None:
        """Look around once. Returns why the trainer must be ended now, where it must."""
        if self._place.now() is None:
            return Cause("folder-gone")
        if (cause := self._follow()) is not None:
            return cause
        self._announce()
        self._family.reap()
        self._claim.share()
        if self._is_ordered(state.KILL):
            return Cause("killed")
        facts = progress.read_facts(self.folder)
        if self._is_ordered(state.STOP):
            if facts is None:
                return Cause("stopped-early")  # no step is made yet: there is nothing to save
            self._become_once("stopping")
        elif facts is not None:
            self._become_once("training")
        self._watch_checkpoints()
        self._sample_gpus()
        self._watch.look(self.state)
        return None

    def _watch_checkpoints(self) -> None:
        latest, last = checkpoints.noted(self.folder), self._checkpoint
        if latest.name and latest != last:  # empty: it is being written
            # Short steps may have saved several since the last look.
            for one in checkpoints.find(self.folder):
                if (last.step or 0) < one.step < (latest.step or 0):
                    self._event("checkpoint", path=one.path.name, step=one.step)
            self._event("checkpoint", path=latest.name, step=latest.step)
            self._checkpoint = latest

    def _sample_gpus(self) -> None:
        """A line into metrics/gpu.jsonl every `SAMPLE` seconds; `gpu_samples` reads them."""
        now = time.time()
        if not self.order.gpus or 0 <= now - self._sampled < SAMPLE:
            return
        self._sampled = now
        seen = gpu.read(",".join(str(index) for index in self.order.gpus))
        if not seen.gpus:
            return
        path = self.folder / state.GPU_METRICS
        path.parent.mkdir(mode=0o700, exist_ok=True)  # never a run's folder that was removed
        names = ("index", "used", "total", "util", "temperature", "power")
        gauges = [{name: getattr(one, name) for name in names} for one in seen.gpus]
        files.append_json(path, {"time": now, "step": self._watch.step, "gpus": gauges})

    def _end_at_once(self, cause: Cause) -> None:
        """End every process of the run, then write why."""
        there = cause.code != "folder-gone"
        with _forgiving("stopping"):
            if there:
                self._become_once("stopping")
        self._family.end(GRACE if cause.code == "stopped-early" else HASTE if there else 0.0)
        if self._trainer is not None:
            with suppress(subprocess.TimeoutExpired):
                self._trainer.wait(5)
        if there:
            self._finish("stopped" if cause.code in _ASKED else "failed", self._status(), cause)
        else:  # nothing can be written any more, and nothing is to be made anew
            self.state = self.state.become("failed", cause=cause, ended=time.time())
            with _forgiving("link"):
                self._place.leave()
            self._watch.ended(self.state)

    def _status(self) -> int | None:
        """The trainer's exit status; None while it is there, and for another supervisor's."""
        return None if self._trainer is None else self._trainer.returncode

    def _conclude(self) -> None:
        """The trainer ended by itself (or was killed from outside): say what that means."""
        status, late = self._status(), self._place.has_moved()
        lost = self._follow()
        well = status == 0 or (status is None and verdict.is_complete(self.folder))
        if well:
            # Another node's that was started on this machine, say.
            self._family.await_end(GRACE, lambda: self._is_ordered(state.KILL))
        # What it leaves behind holds GPU memory and waits for a dead partner.
        self._family.end(HASTE if well else 0.0)
        self._announce()
        with _forgiving("end"):
            self._watch_checkpoints()
        facts = progress.read_facts(self.folder)
        if not well:
            if late:  # it fell into the gap before there was a link
                lost = lost or self._moved_away(FileNotFoundError(errno.ENOENT, ""))
            why = lost or verdict.why(
                self.folder, self.state, status, self._memory, self.order.gpus
            )
            self._finish("failed", status, why)
        elif facts is None and not self._was_complete():
            # A Python without XTuner in the trainer's place, say.
            self._finish("failed", status, Cause("no-step"))
        elif facts is not None and facts.stopped is not None:
            self._finish("stopped", status, Cause("stopped", {"step": str(facts.stopped)}))
        else:
            self._finish("finished", status, None)

    def _was_complete(self) -> bool:
        """Whether the trainer went on from a checkpoint after which no step was left.

        So it is when Slurm begins a job again that had saved its last one. The trainer
        notes its start before it looks for steps.
        """
        return bool(self.order.resume) and self._starts() > self._noted

    def _starts(self) -> int:
        try:
            return (self.folder / state.STARTS).stat().st_size
        except OSError:
            return 0

    def _become_once(self, word: Word) -> None:
        if self.state.state != word:
            self._become(word)

    def _become(self, word: Word, **changes: Any) -> None:
        changed = self.state.become(word, **changes)
        # First the event: who sees the new state finds its event as well. There may be room
        # for that alone: then the state is tried again, and the event is not told twice.
        if self._told != word:
            told = {name: changes[name] for name in ("supervisor", "trainer") if name in changes}
            self._event("state", state=word, cause=changed.cause, **told)
            self._told = word
        files.write_json(self.folder / state.STATE, changed)
        self.state = changed

    def _finish(self, word: Word, status: int | None, cause: Cause | None) -> None:
        """Write the final state; a full disk is waited for, up to ten minutes."""
        with _forgiving("orders"):
            for name in (state.STOP, state.KILL):
                (self.folder / name).unlink(missing_ok=True)
        with _forgiving("link"):
            self._place.leave()
            checkpoints.note_moved(self._place.origin, self.folder.resolve())
        checkpoints.clear_parts(self.folder)  # which may be what fills the disk
        until = time.monotonic() + 600
        changes = {"exit": status, "cause": cause, "ended": time.time()}
        while self._place.now() is not None and not self._written(word, changes):
            if time.monotonic() > until:
                break
            time.sleep(2)
        if not self.state.living:
            self._watch.ended(self.state)

    def leave(self) -> None:
        """After the end: export what was made, wait for what the user's command has to do."""
        record = state.read_record(self.folder)
        if self.state.state == "finished" and record is not None and record.then_export:
            exporting = subprocess.Popen(
                command(sys.executable, "engine.joined.then_export", str(self.folder.resolve())),
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # it goes on if this process is ended
            )
            exporting.wait()
        self._watch.leave()

    def _written(self, word: Word, changes: dict[str, Any]) -> bool:
        with _forgiving(word):
            self._become(word, **changes)
            return True
        return False

    def _event(self, kind: Any, **values: Any) -> None:
        files.append_json(self.folder / state.EVENTS, Event(time.time(), kind, **values))


@contextmanager
def _forgiving(what: str) -> Iterator[None]:
    """Go on where something cannot be written: it is tried again, or comes out otherwise."""
    try:
        yield
    except (OSError, Problem) as error:
        _note(f"{what}: {error}")


def _note(text: str) -> None:
    line = f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n"
    with suppress(OSError):  # its log lies on the same disk as what it cannot write
        os.write(2, line.encode(errors="replace"))


def main() -> None:
    """Leave the one who started us, then supervise."""
    folder, lock = Path(sys.argv[1]), int(sys.argv[2])
    # The second fork: not a child of the app, and no session leader either,
    # so that no terminal can ever become ours.
    if os.fork():
        os._exit(0)
    os.set_inheritable(lock, False)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    # Not ignored: that would be inherited, and Python would take no Ctrl-C in the trainer.
    signal.signal(signal.SIGINT, lambda _number, _frame: None)
    os.umask(0o077)
    processes.adopt_orphans()
    life.keep_beating(folder)
    supervisor = Supervisor(folder)
    supervisor.run()
    os.close(lock)  # the run may be resumed now
    supervisor.leave()


if __name__ == "__main__":
    main()
