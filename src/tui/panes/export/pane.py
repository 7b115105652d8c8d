"""The Export pane: five steps from a checkpoint to a model that was checked."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.widget import Widget
from textual.widgets import Static
from textual.worker import get_current_worker

from engine.errors import Problem
from engine.i18n import N_, _
from engine.text import clean
from tui.panes.export.choosing import Choosing, at_work
from tui.panes.export.words import (
    ADAPTER,
    CHECKPOINT,
    DOES,
    HAND_OVER,
    MERGE,
    STEPS,
    VERIFY,
    ended,
    explained,
    fault,
    name,
    next_step,
    progress,
    step_of,
    summary,
)
from tui.widgets.strips import Line
from tui.widgets.table import Cell, Column, VirtualTable

if TYPE_CHECKING:
    from engine.export.job import Job, Order, State, Step
    from engine.export.news import Notice as ExportNotice
    from tui.panes.export.look import Look

_LOOK = 0.3
"""Seconds between looks at a job."""
_MAKING = frozenset({"base", "options"})
"""Actions on how the model is made."""
_HANDING_OVER = frozenset({"copy", "gguf", "upload"})
"""Actions on the model when it is made."""


class ExportPane(Choosing):
    """Shows where the export of one checkpoint stands and does its next step.

    The work is done by a job (`engine.export.job`) that knows nothing of this pane: it
    goes on without it, and another pane shows it as well. The pane follows the job of the
    checkpoint that it shows and no other: what is told and what x cancels are of one checkpoint.
    """

    TAB = "export"
    WAYS = {
        "base": N_("b names it."),
        "device": N_("o chooses the device."),
        "force": N_("r on its step makes it anew."),
    }
    DEFAULT_CSS = """
    ExportPane VirtualTable { height: 6; max-height: 100%; background: $background; }
    ExportPane #said-scroll { height: 1fr; padding: 1 2; }
    ExportPane #said-scroll:focus { background: $boost; }
    ExportPane #said { height: auto; color: $text; }
    ExportPane #doing { color: $accent; }
    """
    BINDINGS = [
        Binding("enter", "next", N_("next step"), show=False, id="export.next"),
        Binding("c", "checkpoint", N_("checkpoint"), id="export.checkpoint"),
        Binding("b", "base", N_("base model"), id="export.base"),
        Binding("a", "all", N_("all steps"), id="export.all"),
        Binding("r", "again", N_("step again"), id="export.again"),
        Binding("o", "options", N_("type, device, folder"), id="export.options"),
        Binding("y", "copy", N_("copy a command"), id="export.copy"),
        Binding("f", "gguf", N_("GGUF file"), id="export.gguf"),
        Binding("u", "upload", N_("upload"), id="export.upload"),
        Binding("x", "cancel", N_("cancel"), id="export.cancel"),
    ]

    def compose(self) -> ComposeResult:
        """The steps, what is being done, what the step under the cursor says."""
        yield VirtualTable(
            [Column("", 3), Column(N_("step"), 12), Column("", None)],
            id="steps",
        )
        yield Line(id="doing")
        with VerticalScroll(id="said-scroll"):
            yield Static("", id="said", markup=False)

    def on_mount(self) -> None:
        """Nothing is known before the workspace has been read."""
        self.seen: Look | None = None
        self.bases: dict[Path, Path] = {}
        self._run = ""
        self._busy: State | None = None
        self._table = self.query_one(VirtualTable)

    def home(self) -> Widget:
        """The list of steps."""
        return self._table

    def activate(self) -> None:
        """Read again: another run may have been chosen, or a step done elsewhere."""
        if self._busy is None:
            self.read()

    # -- what is there --------------------------------------------------------

    @work(thread=True, exclusive=True, group="read", exit_on_error=False)
    def read(self, checkpoint: Path | None = None) -> None:
        """Look at a checkpoint: the one given, else the one shown, else the newest.

        One that was shown and is gone is left for the newest.
        """
        from tui.panes.export.look import look, newest

        last = self.workspace.last()
        wanted = checkpoint is not None
        if checkpoint is None and self.seen is not None and self._run == last.run:
            shown = self.seen.plan.checkpoint
            checkpoint = shown if shown.exists() else None
        stays = checkpoint is not None
        checkpoint = checkpoint or newest(self.workspace)
        found = None
        if checkpoint is not None and (wanted or checkpoint.exists()):
            found = look(checkpoint, self.workspace, self.settings, self.bases)
        # Another run's is shown only until the one that is open has saved one.
        own = checkpoint is not None and last.run in (
            str(checkpoint.parent),
            checkpoint.parent.name,
        )
        run = last.run if stays or own else ""
        self._if_current(self._show, found, run)

    def _if_current(self, draw: Callable[..., object], *values: object) -> None:
        """From a worker: call `draw`, unless the worker has been replaced since.

        That is asked where workers are replaced, in the app's thread: so nothing that was read
        of one checkpoint is drawn over another one.
        """
        worker = get_current_worker()

        def draw_if_current() -> None:
            if not worker.is_cancelled:
                draw(*values)

        self.app.call_from_thread(draw_if_current)

    def _show(self, found: Look | None, run: str) -> None:
        if found is None or not self._is_shown(found.job):
            self._busy = None  # a job of the checkpoint that was shown works on without the pane
            self.workers.cancel_group(self, "follow")
        self.seen, self._run = found, run
        plan = found.plan if found is not None else None
        state = found.state if found is not None else None
        if found is not None and state is not None and state.status == "running":
            self._follow(found)  # begun by an app that is gone, or by a run's end
            return
        if self._busy is not None:
            return  # begun since it was looked at
        at = next_step(plan) if state is None or state.status != "failed" else step_of(state)
        done = state is None or (state.status == "done" and state.step not in ("gguf", "upload"))
        self.query_one("#doing", Line).say("" if done or state is None else ended(state, plan))
        self._draw_steps(at)
        self._say(at)

    def _is_shown(self, job: Job) -> bool:
        return self.seen is not None and self.seen.job.folder == job.folder

    def _draw_steps(self, cursor: int) -> None:
        cells = [self._cells(step) for step in range(len(STEPS))]
        self._table.set_source(len(STEPS), lambda index: cells[index], cursor=cursor)
        hints = {
            CHECKPOINT: _("c  choose a checkpoint"),
            ADAPTER: _("Enter  convert to an adapter    a  all steps"),
            MERGE: _("Enter  merge into the base model"),
            VERIFY: _("Enter  verify the merged model"),
            HAND_OVER: _("Enter  chat with the model    y  copy a command"),
        }
        if self.seen is not None and self.seen.plan.whole:
            hints[ADAPTER] = _("Enter  convert to a model    a  all steps")
            hints[VERIFY] = _("Enter  verify the model")
        if self._fault(self._next()):
            hints[self._next()] = _("r  make it anew: what is there is not whole")
        self.hint = _("x  cancel") if self._busy is not None else hints[self._next()]
        self.refresh_bindings()

    def _next(self) -> int:
        return next_step(self.seen.plan if self.seen is not None else None)

    def _cells(self, step: int) -> list[Cell]:
        plan, current = self.seen.plan if self.seen else None, self._next()
        mark = "▸" if step == current else ("✓" if step < current else " ")
        if step == VERIFY and plan and plan.verified and not plan.verified.agree:
            mark = "✗"
        if step == CHECKPOINT and self.seen is not None and not self.seen.complete:
            mark = "✗"
        if self._fault(step):
            mark = "✗"
        if self._busy is not None and step == step_of(self._busy):
            mark = "◐"
        style = {"✓": "green", "✗": "red", "▸": "bold"}.get(mark, "")
        said = summary(self.seen, step, self.workspace)
        return [Text(f" {mark}", style=style), name(step, plan), said]

    def _fault(self, step: int) -> str:
        """What the result of a step lacks, if it is there and not whole."""
        return fault(self.seen.plan, step) if self.seen is not None else ""

    @on(VirtualTable.Moved)
    def _moved(self, event: VirtualTable.Moved) -> None:
        self._say(event.index)
        self.refresh_bindings()  # which draws the keys

    def _say(self, step: int) -> None:
        self.query_one("#said-scroll", VerticalScroll).scroll_home(animate=False)
        lines = [*self._failure(step), *explained(self.seen, step)]
        self.query_one("#said", Static).update(clean("\n".join(lines)))

    def _failure(self, step: int) -> Iterator[str]:
        """Why the last job failed, where it failed, and what to do."""
        state = self.seen.state if self.seen is not None else None
        if self._busy is None and state is not None and state.said and step_of(state) == step:
            said = state.said
            yield from self.told(Problem(said.what, said.why, said.todo, ways=said.ways)).lines()
            yield ""

    # -- doing ----------------------------------------------------------------

    def action_next(self) -> None:
        """Do the next step."""
        self._go(only_one=True)

    def action_all(self) -> None:
        """Do every step that is left."""
        if self._busy is not None:
            self.trouble(at_work())
        elif self.seen is not None and not self.seen.plan.left:
            self.trouble(Problem(_("Every step is done."), "", _("Enter goes to the chat.")))
        else:
            self._go(only_one=False)

    @on(VirtualTable.Selected)
    def _selected(self) -> None:
        self.action_next()

    def _go(self, only_one: bool) -> None:
        if self._busy is not None:
            return
        if self.seen is None:
            self.action_checkpoint()
        elif left := self.seen.plan.left[: 1 if only_one else None]:
            self._begin_whole(self.seen, left)
        elif only_one:
            self._tell()
            self.post_message(self.Go("chat"))

    def _begin_whole(self, seen: Look, steps: tuple[Step, ...]) -> None:
        """Begin `steps`, unless one of them would replace what somebody may still need."""
        faulty = next((step for step in steps if step in seen.plan.faults), None)
        if faulty is None:
            self._begin(seen, steps)
            return
        made = seen.plan.made_by(faulty)
        what = _("{path} is not whole").format(path=self.workspace.relative(made))
        self.trouble(Problem(what, seen.plan.faults[faulty], "", ways=("force",)))

    def action_again(self) -> None:
        """Do the step under the cursor once more (its result is replaced)."""
        step = self._done_under_cursor()
        if self._busy is not None:
            self.trouble(at_work())
        elif self.seen is not None and step is not None:
            self._begin(self.seen, (step,), again=True)
        else:
            what = _("There is nothing to do again here")
            self.trouble(
                Problem(what, "", _("Go to a step that is done; Enter does the next one."))
            )

    def _done_under_cursor(self) -> Step | None:
        step = DOES.get(self._table.cursor) if self._table.cursor is not None else None
        if self.seen is None or step is None:
            return None
        plan = self.seen.plan
        return step if step in plan.done or step in plan.faults else None

    @work(thread=True, group="begin", exit_on_error=False)
    def _begin(self, seen: Look, steps: tuple[Step, ...], again: bool = False) -> None:
        from tui.panes.export.look import order

        self.run_job(order(seen, steps, self.workspace, self.settings, again))

    def run_job(self, wanted: Order) -> None:
        """Begin a job and follow it. In a thread. Raises what `job.start` does."""
        from engine.export import job

        self.app.call_from_thread(self._begun, job.start(self.workspace, wanted))

    def _begun(self, job: Job) -> None:
        if self.seen is not None and self._is_shown(job):  # another may have been chosen since
            self._follow(self.seen)

    @property
    def busy(self) -> bool:
        """Whether a job of this checkpoint is at work."""
        return self._busy is not None

    @work(thread=True, exclusive=True, group="follow", exit_on_error=False)
    def _follow(self, seen: Look) -> None:
        """Tell what the job of `seen` does, until it ends or another checkpoint is shown."""
        from tui.panes.export.look import look

        worker = get_current_worker()
        state = seen.job.state
        while state is not None and state.status == "running" and not worker.is_cancelled:
            self._if_current(self._draw_progress, state)
            time.sleep(_LOOK)
            state = seen.job.state
        if state is not None and not worker.is_cancelled:
            self._if_current(self._end)
            checkpoint = seen.plan.checkpoint
            if not checkpoint.exists():  # why the job failed, and why is told as of any other
                self._if_current(self.read)
                return
            found = look(checkpoint, self.workspace, self.settings, self.bases)
            self._if_current(self._ended, found, state)

    def _draw_progress(self, state: State) -> None:
        if self._busy is None or self._busy.step != state.step:
            self._busy = state
            self._draw_steps(step_of(state))
            self._say(step_of(state))
        plan = self.seen.plan if self.seen is not None else None
        self.query_one("#doing", Line).say(progress(state, plan))

    def _end(self) -> None:
        self._busy = None

    def _ended(self, found: Look, state: State) -> None:
        self._show(found, self._run)
        if self._busy is None and found.state == state:
            self.query_one("#doing", Line).say(ended(state, found.plan))
        self._tell()  # the shell looks then, and notes it

    def shows(self, exported: ExportNotice) -> bool:
        """Whether its checkpoint is the one of `exported`, which is read where it was not followed.

        The pane knows of no job that another window, a verb or a run's end began meanwhile.
        """
        seen = self.seen if self.is_mounted else None
        if seen is None or seen.plan.checkpoint != exported.checkpoint:
            return False
        following = any(
            one.node is self and one.group == "follow" and not one.is_finished
            for one in self.workers
        )
        if not following and seen.state != exported.state:
            self.read()
        return True

    def _tell(self) -> None:
        """Tell the other panes what there is to work with."""
        if self.seen is None:
            return
        plan = self.seen.plan
        opened = {"adapter": str(plan.adapter)} if plan.converted and not plan.whole else {}
        opened |= {"base": str(plan.base)} if plan.base else {}
        opened |= {"merged": str(plan.merged)} if plan.is_merged else {}
        self.post_message(self.Opened(**opened))

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """There is something to cancel only while a step is at work."""
        return action != "cancel" or (self.is_mounted and self._busy is not None)

    def offers(self, action: str) -> bool:
        """What can be done with the checkpoint: a model is handed over when it is made."""
        if not self.is_mounted or self.seen is None:
            return action in ("checkpoint", "next")
        if self._busy is not None:
            return action in ("checkpoint", "cancel") or (action == "copy" and self._is_made)
        offered = {
            "all": len(self.seen.plan.left) > 1,  # Enter does a single one
            "again": self._done_under_cursor() is not None,
            **dict.fromkeys(_HANDING_OVER, self._is_made),
        }
        return offered.get(action, True)

    def in_keys_line(self, action: str) -> bool:
        """Making a model on the steps that make it, handing it over on the last one."""
        if action not in _MAKING | _HANDING_OVER:
            return True
        on_model = self._table.cursor == HAND_OVER and self._is_made
        return on_model == (action in _HANDING_OVER)

    @property
    def _is_made(self) -> bool:
        return self.seen is not None and self.seen.handover is not None

    def action_cancel(self) -> None:
        """End the step in progress; nothing is left under its final name."""
        if self._busy is not None and self.seen is not None:
            self.seen.job.cancel()
