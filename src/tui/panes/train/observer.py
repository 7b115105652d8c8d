"""The pane's eyes: one thread that reads the runs and the chosen run's curves.

All of it is read from the run folders, so that two windows may watch one run
and a window that opens late sees the whole. Reading may block (a network
disk), so it never happens on the event loop. The thread is a daemon: nothing
waits for it at the end.
"""

from __future__ import annotations

import hashlib
import threading
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from engine.errors import Problem
from engine.i18n import _
from engine.machine import gpu
from engine.machine.gpu import Gpus
from engine.run.control import Deed, possible
from engine.run.folder import RunFolder, RunSummary
from engine.run.gpu_samples import Samples
from engine.run.listing import list_runs
from engine.run.points import FIELDS, History
from engine.run.progress import Progress
from engine.run.state import LIVING, STATE, RunRecord
from engine.workspace import Workspace

EVERY = 1.0
"""Seconds between two looks."""
_DRAWING = 0.4
"""Seconds after a look in which the screen draws what was seen, with nothing beside it."""


@dataclass(frozen=True, eq=False)
class GpuCurve:
    """A copy of what is sampled of a run's GPUs; see `Samples`."""

    step: array[float] = field(default_factory=lambda: array("d"))
    values: dict[str, array[float]] = field(default_factory=dict)
    taken: int = 0
    peak: int = 0
    total: int = 0

    @classmethod
    def of(cls, samples: Samples) -> GpuCurve:
        """What `samples` holds now."""
        values = {name: values[:] for name, values in samples.values.items()}
        return cls(samples.step[:], values, samples.taken, samples.peak, samples.total)


@dataclass(frozen=True, eq=False)
class Curve:
    """The points of a run, copied: the follower's own arrays go on growing."""

    step: array[int]
    values: dict[str, array[float]]
    gpu: GpuCurve = field(default_factory=GpuCurve)

    @classmethod
    def of(cls, history: History, gpu: GpuCurve) -> Curve:
        """What `history` holds now."""
        return cls(history.step[:], {name: history[name][:] for name in FIELDS}, gpu)


_NO_GPU = GpuCurve()


@dataclass(frozen=True)
class Run:
    """One line of the list of runs."""

    summary: RunSummary
    ours: bool
    """Whether we started it; a work dir of plain XTuner can only be looked at."""
    config_hash: str = ""
    """Of the file that it was started from, as it was then."""

    @property
    def living(self) -> bool:
        """Whether something may still become of it."""
        return self.summary.state in LIVING

    @property
    def possible(self) -> frozenset[Deed]:
        """What can be done with it now."""
        return possible(self.summary, self.ours)


@dataclass(frozen=True)
class Look:
    """What was seen at one moment; runs newest first."""

    runs: tuple[Run, ...]
    shown: str = ""
    """The folder of the run that `progress` and `record` are about."""
    progress: Progress | None = None
    record: RunRecord | None = None
    curves: dict[str, Curve] = field(default_factory=dict)
    """By run folder: the shown run's and those to compare. What is unchanged in one, or all of
    it, stays the same object."""
    gpus: Gpus | None = None
    config: str = ""
    """The config that is open, as a person writes it; "" for none."""
    untrained: str = ""
    """The config that is open, when no run has trained it as it stands now."""


class Observer:
    """Calls its listeners from its own thread, at once and every `EVERY` seconds.

    Args:
        workspace: whose runs.
        seen: takes each `Look`.
        troubled: takes what could not be read; the same trouble once.
        first: the folder of the run to read in full before `show` has named one.
    """

    def __init__(
        self,
        workspace: Workspace,
        seen: Callable[[Look], object],
        troubled: Callable[[Problem], object],
        first: Callable[[Sequence[Run]], str] = lambda runs: "",
    ) -> None:
        self._workspace = workspace
        self._seen, self._troubled, self._first = seen, troubled, first
        self._ended = threading.Event()
        self._now = threading.Event()
        self._awake = True
        self._wanted = ""
        self._compared: tuple[str, ...] = ()
        self._folders: dict[str, RunFolder] = {}
        self._settled: dict[str, tuple[tuple[int, int], Run]] = {}
        self._listed: list[Run] = []
        self._curves: dict[str, Curve] = {}
        self._gpus: dict[str, GpuCurve] = {}
        self._config: tuple[str, int, str] = ("", 0, "")
        self._said: set[str] = set()
        self._thread = threading.Thread(target=self._work, daemon=True, name="runs")

    # What the pane calls; each returns at once

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._ended.set()
        self._now.set()

    def rest(self) -> None:
        """Nobody watches: look no more until `show` or `wake`."""
        self._awake = False

    def wake(self) -> None:
        """Look now, and go on looking."""
        self._awake = True
        self._now.set()

    def show(self, folder: str, compared: Sequence[str] = ()) -> None:
        """Read the run in `folder` in full, and the curves of `compared` as well."""
        self._wanted = folder
        self._compared = tuple(compared)
        self.wake()

    # The thread

    def _work(self) -> None:
        while not self._ended.is_set():
            self._now.clear()
            if self._awake:
                self._attempt(lambda: self._seen(self._look(self._wanted)))
                if self._now.wait(_DRAWING):
                    continue
                self._attempt(self._read_samples)
            self._now.wait(EVERY - _DRAWING if self._awake else None)

    def _attempt(self, reading: Callable[[], object]) -> None:
        try:
            reading()
        except Exception as error:  # whatever a broken folder does, the next look may go well
            from tui.panes.base import as_problem

            self._say(as_problem(error))

    def _read_samples(self) -> None:
        """Read the GPUs' samples of the curves told last: what is told first does not wait."""
        before, self._gpus = self._gpus, {}
        for path in self._curves:
            samples, known = self._folders[path].gpu_samples(), before.get(path)
            if known is None and samples.taken:
                self._now.set()
            same = known is not None and known.taken == samples.taken
            self._gpus[path] = known if known is not None and same else GpuCurve.of(samples)

    def _say(self, problem: Problem) -> None:
        if str(problem) not in self._said:
            self._said.add(str(problem))
            self._troubled(problem)

    def _look(self, shown: str) -> Look:
        runs = self._runs()
        shown = shown or self._first(runs)
        wanted = [path for path in (shown, *self._compared) if path in self._folders]
        progress: Progress | None = None
        curves = {}
        for path in wanted:
            at = self._folders[path].progress()
            curves[path] = self._curve(path, at.history)
            progress = at if path == shown else progress
        self._curves = curves
        return Look(
            runs=tuple(runs),
            shown=shown,
            progress=progress,
            record=self._folders[shown].record if shown in self._folders else None,
            curves=curves,
            gpus=gpu.read("all"),
            config=self._open_config(),
            untrained=self._untrained(runs),
        )

    def _runs(self) -> list[Run]:
        known, self._folders = self._folders, {}
        runs = []
        for folder in list_runs(self._workspace, known):
            path = str(folder.path)
            self._folders[path] = folder
            try:
                runs.append(self._run(path, folder))
            except FileNotFoundError:  # removed while we looked
                continue
            except Problem as problem:  # the others can be read all the same
                self._say(problem)
        self._say_gone(runs)
        return runs

    def _say_gone(self, runs: list[Run]) -> None:
        """Say which runs are not there any more though they were in progress: no act does that."""
        if not self._workspace.runs.is_dir():  # all of them at once: a disk that is away
            return
        there = {folder.created() for folder in self._folders.values()}
        for run in self._listed:
            if run.living and run.ours and run.summary.created not in there:
                self._say(
                    Problem(
                        _("The run {name} is not there any more").format(name=run.summary.run),
                        _("{path} is gone.").format(path=run.summary.dir),
                        _("It was deleted or moved away while the run was in progress."),
                    )
                )
        self._listed = runs

    def _run(self, path: str, folder: RunFolder) -> Run:
        """The run in short. One that has ended is not read again while nothing in it changed."""
        stamp = (_changed(folder.path / STATE), _changed(folder.path))
        settled = self._settled.get(path)
        if settled is not None and settled[0] == stamp:
            return settled[1]
        summary, record = folder.summary(), folder.record
        trained = "" if record is None else record.source_hash or record.config_hash
        run = Run(summary, record is not None, trained)
        if stamp[0] and not run.living:
            self._settled[path] = (stamp, run)
        else:
            self._settled.pop(path, None)
        return run

    def _curve(self, path: str, history: History) -> Curve:
        known, gpu = self._curves.get(path), self._gpus.get(path, _NO_GPU)
        same = known is not None and len(known.step) == len(history)
        if known is not None and same and (not history or known.step[-1] == history.step[-1]):
            return known if known.gpu is gpu else replace(known, gpu=gpu)
        return Curve.of(history, gpu)

    def _open_config(self) -> str:
        name = self._workspace.last().config
        return self._workspace.relative(self._workspace.resolve(name)) if name else ""

    def _untrained(self, runs: list[Run]) -> str:
        name = self._workspace.last().config
        if not name:
            return ""
        path = self._workspace.resolve(name)
        changed = _changed(path)
        if not changed:
            return ""
        if self._config[:2] != (name, changed):
            self._config = (name, changed, hashlib.sha256(path.read_bytes()).hexdigest())
        return "" if any(run.config_hash == self._config[2] for run in runs) else str(path)


def _changed(path: Path) -> int:
    """When `path` changed last, in ns; 0 when it is not there."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0
