"""One step of the export, done in a process of its own that can be stopped."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from engine.errors import Problem
from engine.i18n import _
from engine.settings import Settings
from engine.worker.client import WorkerClient
from tui.panes.export.words import ADAPTER, MERGE

if TYPE_CHECKING:
    from engine.export.plan import Plan

Progress = Callable[[int, int], None]


class Stopped(Exception):
    """The step was cancelled; nothing lies under the final name."""


class Step:
    """A step in progress. `run` blocks, in a thread; `cancel` comes from another one."""

    def __init__(self, step: int, plan: Plan, settings: Settings, again: bool) -> None:
        self.step = step
        self._plan = plan
        self._again = again
        self._cancelled = False
        # Converting and merging need no training environment: our own Python does them.
        ours = msgspec.structs.replace(settings, interpreter="")
        self._worker = (
            WorkerClient("engine.export.worker", ours)
            if step in (ADAPTER, MERGE)
            else WorkerClient("engine.export.verify_worker", settings)
        )
        self._settings = settings

    def run(self, progress: Progress) -> float:
        """Do it; return the seconds that the work itself took (0 when unknown).

        Raises `Stopped` after `cancel`, else what the engine raises.
        """

        def heard(done: int, total: int) -> None:
            if self._cancelled:  # said before the process could hear it, or it tidies up
                self._worker.cancel()
            else:  # whoever shows it may be gone by then
                progress(done, total)

        try:
            if self._cancelled:
                raise Stopped
            with self._worker:
                return self._do(heard)
        except Exception:
            if self._cancelled:  # whatever a process says that was told to end
                raise Stopped from None
            raise

    def cancel(self) -> None:
        """Stop it. Merging tidies up by itself; the others have nothing to tidy."""
        self._cancelled = True
        if self.step == MERGE:
            self._worker.cancel()
        else:
            self._worker.close()

    def _do(self, progress: Progress) -> float:
        plan = self._plan
        if self.step == ADAPTER:
            return self._ask(
                progress, "convert", checkpoint=str(plan.checkpoint), out=str(plan.adapter)
            )
        base = self._base()
        if self.step == MERGE:
            return self._ask(
                progress, "merge", base=str(base), adapter=str(plan.adapter), out=str(plan.merged)
            )
        from engine.export import plan as plans
        from engine.export.verify import verify

        found = verify(
            base,
            plan.adapter,
            plan.merged,
            settings=self._settings,
            progress=progress,
            worker=self._worker,
        )
        plans.keep(plan.merged, found)
        return 0.0

    def _base(self) -> Path:
        if self._plan.base is None:
            raise Problem(
                _("The base model is not here"),
                _("The config names {name}.").format(name=self._plan.base_name or "?"),
                _("Press b and give the folder of that model."),
            )
        return self._plan.base

    def _ask(self, progress: Progress, do: str, **values: str) -> float:
        for message in self._worker.ask(do, force=self._again, **values):
            if message["event"] == "progress":
                progress(message["done"], message["total"])
            elif message["event"] == "done":
                return float(message.get("seconds", 0.0))
        raise AssertionError("a worker's answers end with done")
