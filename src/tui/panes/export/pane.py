"""The Export pane: five steps from a checkpoint to a model that was checked."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.widget import Widget
from textual.widgets import Static

from engine.i18n import N_, _
from engine.text import clean, duration, size
from tui.dialogs.choose import Choice, Choose
from tui.panes.base import Pane
from tui.panes.export.words import (
    ADAPTER,
    CHECKPOINT,
    HAND_OVER,
    MERGE,
    STEPS,
    VERIFY,
    explained,
    next_step,
    summary,
)
from tui.panes.export.work import Step, Stopped
from tui.widgets.strips import Line
from tui.widgets.table import Cell, Column, VirtualTable

if TYPE_CHECKING:
    from engine.export.plan import Plan


class ExportPane(Pane):
    """Shows where the export of one checkpoint stands and does its next step."""

    TAB = "export"
    DEFAULT_CSS = """
    ExportPane VirtualTable { height: 6; background: $background; }
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
        Binding("r", "again", N_("this step again"), id="export.again"),
        Binding("x", "cancel", N_("cancel"), id="export.cancel"),
    ]

    def compose(self) -> ComposeResult:
        """The steps, what is being done, what the step under the cursor says."""
        yield VirtualTable(
            [Column("", 2), Column(N_("step"), 12), Column("", None)],
            id="steps",
        )
        yield Line(id="doing")
        with VerticalScroll(id="said-scroll"):
            yield Static("", id="said", markup=False)

    def on_mount(self) -> None:
        """Nothing is known before the workspace has been read."""
        self._plan: Plan | None = None
        self._run = ""
        self._base: Path | None = None
        self._busy: Step | None = None
        self._table = self.query_one(VirtualTable)

    def on_unmount(self) -> None:
        """A step in progress ends with the pane."""
        self.action_cancel()

    def home(self) -> Widget:
        """The list of steps."""
        return self._table

    def activate(self) -> None:
        """Read again: another run may have been chosen, or a step done elsewhere."""
        if self._busy is None:
            self._read()

    # -- what is there --------------------------------------------------------

    @work(thread=True, exclusive=True, group="read", exit_on_error=False)
    def _read(self, checkpoint: Path | None = None) -> None:
        from engine.export import plan
        from engine.run import folder

        last = self.workspace.last()
        wanted = checkpoint is not None
        if checkpoint is None and self._plan is not None and self._run == last.run:
            checkpoint = self._plan.checkpoint
        if checkpoint is None:
            runs = folder.list_runs(self.workspace)
            named = [run for run in runs if str(run.path) == last.run or run.name == last.run]
            with_any = [run for run in named or runs if run.last_checkpoint() is not None]
            newest = with_any[0].last_checkpoint() if with_any else None
            checkpoint = newest.path if newest is not None else None
        found = None
        if checkpoint is not None and (wanted or checkpoint.exists()):
            found = plan.plan(checkpoint, self.workspace, self._base)
        self.app.call_from_thread(self._show, found, last.run)

    def _show(self, found: Plan | None, run: str) -> None:
        self._plan, self._run = found, run
        at = next_step(found)
        self._draw_steps(at)
        self._say(at)

    def _draw_steps(self, cursor: int) -> None:
        cells = [self._cells(step) for step in range(len(STEPS))]
        self._table.set_source(len(STEPS), lambda index: cells[index], cursor=cursor)
        hints = {
            CHECKPOINT: _("c  choose a checkpoint"),
            ADAPTER: _("Enter  convert to an adapter    a  all steps"),
            MERGE: _("Enter  merge into the base model"),
            VERIFY: _("Enter  verify the merged model"),
            HAND_OVER: _("Enter  chat with the model"),
        }
        self.hint = _("x  cancel") if self._busy is not None else hints[next_step(self._plan)]

    def _cells(self, step: int) -> list[Cell]:
        plan, current = self._plan, next_step(self._plan)
        mark = "▸" if step == current else ("✓" if step < current else " ")
        if step == VERIFY and plan and plan.verified and not plan.verified.agree:
            mark = "✗"
        if self._busy is not None and step == self._busy.step:
            mark = "◐"
        style = {"✓": "green", "✗": "red", "▸": "bold"}.get(mark, "")
        return [Text(mark, style=style), _(STEPS[step]), summary(plan, step, self.workspace)]

    @on(VirtualTable.Moved)
    def _moved(self, event: VirtualTable.Moved) -> None:
        self._say(event.index)

    def _say(self, step: int) -> None:
        self.query_one("#said-scroll", VerticalScroll).scroll_home(animate=False)
        self.query_one("#said", Static).update(clean("\n".join(explained(self._plan, step))))

    # -- doing ----------------------------------------------------------------

    def action_next(self) -> None:
        """Do the next step."""
        self._go(only_one=True)

    def action_all(self) -> None:
        """Do every step that is left."""
        self._go(only_one=False)

    @on(VirtualTable.Selected)
    def _selected(self) -> None:
        self.action_next()

    def _go(self, only_one: bool) -> None:
        plan, step = self._plan, next_step(self._plan)
        if self._busy is not None:
            return
        if plan is None:
            self.action_checkpoint()
        elif step != HAND_OVER:
            self._begin(step, plan, only_one)
        elif only_one:
            self._tell(plan)
            self.post_message(self.Go("chat"))

    def action_again(self) -> None:
        """Do the step under the cursor once more (its result is replaced)."""
        plan, step = self._plan, self._table.cursor
        if self._busy is not None or plan is None or step not in (ADAPTER, MERGE, VERIFY):
            return
        if next_step(plan) >= step:
            self._begin(step, plan, only_one=True, again=True)

    def _begin(self, step: int, plan: Plan, only_one: bool, again: bool = False) -> None:
        self._plan = plan
        self._busy = Step(step, plan, self.settings, again)
        self.query_one("#doing", Line).say(f"  ◐ {_(STEPS[step])} …")
        self._draw_steps(step)
        self._do(self._busy, plan, only_one)

    @work(thread=True, group="export", exit_on_error=False)
    def _do(self, busy: Step, plan: Plan, only_one: bool) -> None:
        from engine.export import plan as plans

        said = ""
        done = False
        try:
            seconds = busy.run(partial(self.app.call_from_thread, self._draw_progress))
            plan = plans.plan(plan.checkpoint, self.workspace, self._base)
            said = f"  ✓ {_(STEPS[busy.step])}" + (f"  {duration(seconds)}" if seconds else "")
            done = True
        except Stopped:
            said = "  " + _("{step} was cancelled; nothing was left.").format(
                step=_(STEPS[busy.step])
            )
        finally:
            self.app.call_from_thread(self._end, plan, said, done and not only_one)

    def _draw_progress(self, done: int, total: int) -> None:
        from tui.widgets.gauge import bar

        if self._busy is not None:
            share = f"{100 * done // total:3d}%" if total else ""
            self.query_one("#doing", Line).say(
                f"  ◐ {_(STEPS[self._busy.step])}  {bar(done, total, 30)} {share}"
            )

    def _end(self, plan: Plan, said: str, go_on: bool) -> None:
        self._busy = None
        self.query_one("#doing", Line).say(said)
        self._show(plan, self._run)
        self._tell(plan)
        if go_on and next_step(plan) in (MERGE, VERIFY):
            self._begin(next_step(plan), plan, only_one=False)

    def _tell(self, plan: Plan) -> None:
        """Tell the other panes what there is to work with."""
        opened = {"adapter": str(plan.adapter)} if plan.converted else {}
        opened |= {"base": str(plan.base)} if plan.base else {}
        opened |= {"merged": str(plan.merged)} if plan.is_merged else {}
        self.post_message(self.Opened(**opened))

    def action_cancel(self) -> None:
        """End the step in progress; nothing is left under its final name."""
        if self._busy is not None:
            self._busy.cancel()

    # -- choosing -------------------------------------------------------------

    @work(exit_on_error=False)
    async def action_checkpoint(self) -> None:
        """Choose a checkpoint of any run, or give a path."""
        from engine.run import folder

        choices = [
            Choice(
                str(one.path),
                f"{run.name} / {one.path.name}",
                f"{size(one.bytes)}" + (f"  loss {one.loss:.3f}" if one.loss is not None else ""),
            )
            for run in folder.list_runs(self.workspace)
            for one in reversed(run.checkpoints())
            if one.complete
        ]
        chosen = await self.app.push_screen_wait(Choose(_("Checkpoint"), choices, free=True))
        if chosen:
            self._read(self.workspace.resolve(chosen))

    @work(exit_on_error=False)
    async def action_base(self) -> None:
        """Choose the base model that the adapter belongs to."""
        from engine.export import artefact

        models = sorted(self.workspace.models.glob("*/config.json"))
        choices = [Choice(str(one.parent), self.workspace.relative(one.parent)) for one in models]
        chosen = await self.app.push_screen_wait(Choose(_("Base model"), choices, free=True))
        if chosen:
            path = self.workspace.resolve(chosen)
            artefact.expect(path, (artefact.MODEL,), _("a model's folder"))
            self._base = path
            self._read(self._plan.checkpoint if self._plan else None)
