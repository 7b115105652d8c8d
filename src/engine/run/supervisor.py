"""The process beside each run: starts the trainer, writes down what becomes of it.

    python .../bootstrap.py engine.run.supervisor RUN_DIR LOCK_FD

It outlives the app, the terminal and a hang-up. All that it knows is in the
run's folder, and all that it is told are files there: ``stop`` (save, then
end) and ``kill`` (end now). SIGTERM, which a machine sends when it shuts down,
means stop; a second one means kill.
"""

from __future__ import annotations

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
from engine.run import checkpoints, life, oom, processes, reasons, state, turn
from engine.run.alarms.watch import Watch
from engine.run.claim import Claim
from engine.run.processes import MARK, Identity
from engine.run.state import Cause, Event, Facts, Order, RunState, Word
from engine.worker.client import command

TICK = 0.2
"""Seconds between looks at the trainer and the folder."""
SAMPLE = 2.0
"""Seconds between samples of the GPUs."""
NO_ROOM = 64 << 10
"""Bytes free below which a trainer that says nothing ended because of that."""
GRACE = 10.0
"""Seconds that the trainer's processes have to end by themselves before SIGKILL."""


class Supervisor:
    """One start of one run, from the trainer's first breath to the final state."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.order = msgspec.json.decode((folder / state.ORDER).read_bytes(), type=Order)
        self.state = msgspec.json.decode((folder / state.STATE).read_bytes(), type=RunState)
        self._trainer: subprocess.Popen[bytes] | None = None
        self._started: dict[str, Any] = {}
        """What the state says of the trainer's start."""
        self._told: Word | None = None
        """The last state that an event tells of."""
        self._sampled = 0.0
        self._checkpoint = self._last_checkpoint()
        self._terminated = 0
        self._claim = Claim(self.order.gpus)
        self._watch = Watch(folder, self.order, _note)
        self._memory = oom.Watch()

    def run(self) -> None:
        """Start the trainer and stay until it is gone and the end is written."""
        if self.order.wait is not None and not self._has_waited():
            return
        self._claim.share()
        signal.signal(signal.SIGTERM, self._on_sigterm)
        (self.folder / state.FACTS).unlink(missing_ok=True)
        checkpoints.clear_parts(self.folder)
        try:
            trainer = self._start()
        except OSError as error:
            python = self.order.command[0]
            cause = Cause("interpreter", {"python": python, "error": error.strerror or str(error)})
            self._finish("failed", None, cause)
            return
        while (status := trainer.poll()) is None:
            word = None
            with _forgiving("tick"):  # a full disk, say: the trainer must not suffer for it
                word = self._tick()
            if word is not None:
                self._end_at_once(trainer, word)
                return
            time.sleep(TICK)
        self._conclude(status)

    def _has_waited(self) -> bool:
        """Stay until its turn has come; False when it is not to start, which is written then.

        A SIGTERM ends this process and leaves the run as one that waits: the
        machine shuts down, and is asked for it again when it is back.
        """
        self._become("queued", supervisor=Identity.of(os.getpid()))
        cause = turn.wait(self.folder, self.order, self._claim)
        if cause is not None:
            self._finish("stopped" if cause.code == "unqueued" else "failed", None, cause)
        return cause is None

    def _on_sigterm(self, _number: int, _frame: FrameType | None) -> None:
        self._terminated += 1
        name = state.STOP if self._terminated == 1 else state.KILL
        try:
            (self.folder / name).touch(mode=0o600)
        except OSError:  # nothing can be written, a checkpoint neither
            self._terminated = 2

    def _start(self) -> subprocess.Popen[bytes]:
        log = os.open(
            self.folder / state.LOG, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600
        )
        environment = {**os.environ, **self.order.environment, MARK: str(self.folder)}
        for name in self.order.unset:
            environment.pop(name, None)
        try:
            log_start = os.fstat(log).st_size
            self._trainer = subprocess.Popen(
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
        self._started = {
            "supervisor": Identity.of(os.getpid()),
            "trainer": Identity.of(self._trainer.pid),
            "started": time.time(),
            "log_start": log_start,
        }
        return self._trainer

    def _announce(self) -> None:
        """Write that it has started; where there is no room for that, at the next look."""
        self._event("start", attempt=self.state.attempt, path=self.order.resume)
        self._become("starting", **self._started)

    def _tick(self) -> Word | None:
        """Look around once. Returns the state to end in when the trainer must be ended now."""
        assert self._trainer is not None
        if self.state.trainer is None:
            self._announce()
        processes.reap_orphans(but=self._ours())
        self._claim.share()
        if self._is_to_die():
            return "stopped"
        facts = self._facts()
        if (self.folder / state.STOP).exists():
            if facts is None:
                return "stopped"  # no step is made yet: there is nothing to save
            self._become_once("stopping")
        elif facts is not None:
            self._become_once("training")
        self._watch_checkpoints()
        self._sample_gpus()
        self._watch.look(self.state)
        return None

    def _is_to_die(self) -> bool:
        return self._terminated > 1 or (self.folder / state.KILL).exists()

    def _ours(self) -> set[int]:
        """The processes that are looked after by themselves: the trainer, the user's command."""
        trainer = set() if self._trainer is None else {self._trainer.pid}
        return trainer | self._watch.pids()

    def _watch_checkpoints(self) -> None:
        latest = self._last_checkpoint()
        name = Path(latest[1]).name
        if name and latest != self._checkpoint:  # empty: it is being written
            digits = "".join(letter for letter in name if letter.isdigit())
            self._event("checkpoint", path=name, step=int(digits) if digits else None)
            self._checkpoint = latest

    def _last_checkpoint(self) -> tuple[int, str]:
        """When XTuner last finished a checkpoint, and its path."""
        path = self.folder / "last_checkpoint"
        try:
            return path.stat().st_mtime_ns, path.read_text(encoding="utf-8").strip()
        except OSError:
            return 0, ""

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

    def _end_at_once(self, trainer: subprocess.Popen[bytes], word: Word) -> None:
        """End every process of the run, then write `word`."""
        killed = self._is_to_die()
        with _forgiving("stopping"):
            self._become_once("stopping")
        self._end_descendants(2.0 if killed else GRACE)
        try:
            status: int | None = trainer.wait(5)
        except subprocess.TimeoutExpired:
            status = None
        self._finish(word, status, Cause("killed" if killed else "stopped-early"))

    def _conclude(self, status: int) -> None:
        """The trainer ended by itself (or was killed from outside): say what that means."""
        # What it leaves behind holds GPU memory and waits for a dead partner.
        self._end_descendants(2.0 if status == 0 else 0.0)
        with _forgiving("end"):
            if self.state.trainer is None:
                self._announce()
            self._watch_checkpoints()
        facts = self._facts()
        if status == 0 and facts is not None and facts.stopped is not None:
            self._finish("stopped", 0, Cause("stopped", {"step": str(facts.stopped)}))
        elif status == 0:
            self._finish("finished", 0, None)
        else:
            tail = reasons.tail(self.folder / state.LOG, self.state.log_start)
            cause = self._memory.explain(reasons.find(tail, status), self.state.pid)
            if cause.code == "status":  # it says nothing: there may be no room for its last words
                cause = self._why_silent() or cause
            self._finish("failed", status, cause)

    def _why_silent(self) -> Cause | None:
        try:
            disk = os.statvfs(self.folder)
        except OSError:
            return None
        if disk.f_flag & os.ST_RDONLY:
            return Cause("disk-read-only")
        return Cause("disk-full") if disk.f_bavail * disk.f_frsize < NO_ROOM else None

    def _end_descendants(self, grace: float) -> None:
        # Twice: one that was just starting another is caught with its child. By the mark
        # as well: one that left our family (a daemon of its own) still holds the GPU.
        for _round in range(2):
            family = {*processes.descendants(but=self._watch.pids())}
            left = processes.end(family | {*processes.of_run(self.folder)}, grace)
            processes.reap_orphans(but=self._ours())
            if left:
                _note(f"still there after SIGKILL: {[one.pid for one in left]}")

    def _facts(self) -> Facts | None:
        try:
            return msgspec.json.decode((self.folder / state.FACTS).read_bytes(), type=Facts)
        except (OSError, msgspec.MsgspecError):
            return None

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
        checkpoints.clear_parts(self.folder)  # which may be what fills the disk
        until = time.monotonic() + 600
        changes = {"exit": status, "cause": cause, "ended": time.time()}
        while not self._written(word, changes):
            if time.monotonic() > until or not self.folder.is_dir():
                return
            time.sleep(2)
        self._watch.ended(self.state)

    def leave(self) -> None:
        """After the end: export what was made, wait for what the user's command has to do."""
        record = state.read_record(self.folder)
        if self.state.state == "finished" and record is not None and record.then_export:
            exporting = subprocess.Popen(
                command(sys.executable, "engine.joined.then_export", str(self.folder)),
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
