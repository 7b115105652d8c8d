"""The Export pane: five steps from a checkpoint to a model that was checked."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding
from textual.widget import Widget
from textual.widgets import Static

from engine.errors import Problem
from engine.i18n import N_, _
from engine.text import clean, duration, one_line, size
from engine.worker.client import WorkerClient
from tui.dialogs.choose import Choice, Choose
from tui.panes.base import Pane
from tui.widgets.strips import Line
from tui.widgets.table import Cell, Column, VirtualTable

if TYPE_CHECKING:
    from engine.export.plan import Plan

STEPS = (N_("Checkpoint"), N_("Adapter"), N_("Merge"), N_("Verify"), N_("Hand over"))
CHECKPOINT, ADAPTER, MERGE, VERIFY, HAND_OVER = range(5)


class ExportPane(Pane):
    """Shows where the export of one checkpoint stands and does its next step."""

    TAB = "export"
    DEFAULT_CSS = """
    ExportPane VirtualTable { height: 6; background: $background; }
    ExportPane #said { height: 1fr; padding: 1 2; color: $text; }
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
        yield Static("", id="said", markup=False)

    def on_mount(self) -> None:
        """Nothing is known before the workspace has been read."""
        self._plan: Plan | None = None
        self._run = ""
        self._base: Path | None = None
        self._worker: WorkerClient | None = None
        self._busy: int | None = None
        self._table = self.query_one(VirtualTable)

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
        if checkpoint is None and self._plan is not None and self._run == last.run:
            checkpoint = self._plan.checkpoint
        if checkpoint is None:
            runs = folder.list_runs(self.workspace)
            named = [run for run in runs if str(run.path) == last.run or run.name == last.run]
            with_any = [run for run in named or runs if run.last_checkpoint() is not None]
            newest = with_any[0].last_checkpoint() if with_any else None
            checkpoint = newest.path if newest is not None else None
        found = None
        if checkpoint is not None and checkpoint.exists():
            found = plan.plan(checkpoint, self.workspace, self._base)
        self.app.call_from_thread(self._show, found, last.run)

    def _show(self, found: Plan | None, run: str) -> None:
        self._plan, self._run = found, run
        cells = [self._cells(step) for step in range(len(STEPS))]
        at = self._next()
        self._table.set_source(len(STEPS), lambda index: cells[index], cursor=at)
        self._say(at)
        self._hint()

    def _next(self) -> int:
        """The first step that is not done."""
        plan = self._plan
        if plan is None:
            return CHECKPOINT
        if not plan.converted:
            return ADAPTER
        if not plan.is_merged:
            return MERGE
        return VERIFY if plan.verified is None else HAND_OVER

    def _cells(self, step: int) -> list[Cell]:
        current = self._next()
        mark = "▸" if step == current else ("✓" if step < current else " ")
        if step == VERIFY and self._plan and self._plan.verified and not self._plan.verified.agree:
            mark = "✗"
        if step == self._busy:
            mark = "◐"
        style = {"✓": "green", "✗": "red", "▸": "bold"}.get(mark, "")
        return [Text(mark, style=style), _(STEPS[step]), self._summary(step)]

    def _summary(self, step: int) -> str:
        plan = self._plan
        if plan is None:
            return _("no run with a checkpoint yet") if step == CHECKPOINT else ""
        if step == CHECKPOINT:
            run = plan.checkpoint.parent.name
            return f"{run} / {plan.checkpoint.name}  {size(plan.checkpoint_bytes)}"
        if step == ADAPTER:
            return self._place(plan.adapter) if plan.converted else _("seconds, no base model")
        if step == MERGE:
            if plan.is_merged:
                return self._place(plan.merged)
            if plan.base is None:
                return _("base model {name} is not here: press b").format(name=plan.base_name)
            return _("onto {base} · its own dtype · {size} on disk").format(
                base=plan.base.name, size=size(plan.base_bytes)
            )
        if step == VERIFY:
            if plan.verified is None:
                return _("merged model and adapter must answer alike")
            if plan.verified.agree:
                return _("they agree on {count} prompts").format(count=len(plan.verified.prompts))
            return _("they differ: do not use this model")
        return _("chat with it, or serve it") if plan.verified else ""

    def _place(self, path: Path) -> str:
        return self.workspace.relative(path)

    # -- words ----------------------------------------------------------------

    @on(VirtualTable.Moved)
    def _moved(self, event: VirtualTable.Moved) -> None:
        self._say(event.index)

    def _say(self, step: int) -> None:
        self.query_one("#said", Static).update(clean("\n".join(self._words(step))))

    def _words(self, step: int) -> Iterator[str]:
        plan = self._plan
        if plan is None:
            yield _("A checkpoint of a training run becomes an adapter, then a whole model.")
            yield _("Train something first (tab 3), or press c and give a path.")
            return
        if step == CHECKPOINT:
            yield str(plan.checkpoint)
            yield _("c chooses another one.")
        elif step == ADAPTER:
            yield _("The trained LoRA weights as a PEFT adapter in safetensors.")
            yield str(plan.adapter)
        elif step == MERGE:
            yield _("The adapter computed into the base model's weights, one tensor at a time.")
            yield f"{_('base')}    {plan.base or plan.base_name or '?'}"
            yield f"{_('result')}  {plan.merged}"
        elif step == VERIFY:
            yield from self._verify_words(plan)
        else:
            yield from _hand_over(plan)

    def _verify_words(self, plan: Plan) -> Iterator[str]:
        found = plan.verified
        if found is None:
            yield _("Both answer the same questions, greedily; first-token logits are compared.")
            return
        yield _(
            "Largest logit difference {diff:.4g}; rounding to {dtype} explains {room:.4g}."
        ).format(diff=found.max_logit_diff, dtype=found.dtype, room=found.tolerance)
        for row in found.prompts:
            yield f"? {one_line(row.prompt)}"
            sign = "=" if row.adapter == row.merged else "≠"
            yield f"  {sign} {one_line(row.merged)[:200]}"

    def _hint(self) -> None:
        step = self._next()
        hints = {
            CHECKPOINT: _("c  choose a checkpoint"),
            ADAPTER: _("Enter  convert to an adapter    a  all steps"),
            MERGE: _("Enter  merge into the base model"),
            VERIFY: _("Enter  verify the merged model"),
            HAND_OVER: _("Enter  chat with the model"),
        }
        self.hint = _("x  cancel") if self._busy is not None else hints[step]

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
        if self._busy is not None:
            return
        step = self._next()
        if step == CHECKPOINT:
            self.action_checkpoint()
        elif step == HAND_OVER:
            if only_one:
                self.post_message(self.Go("chat"))
        else:
            self._do(step, self._plan, only_one)

    def action_again(self) -> None:
        """Do the step under the cursor once more (its result is replaced)."""
        step = self._table.cursor
        if self._busy is None and step in (ADAPTER, MERGE, VERIFY) and self._next() >= step:
            self._do(step, self._plan, True)

    @work(thread=True, exclusive=True, group="export", exit_on_error=False)
    def _do(self, step: int, plan: Plan, only_one: bool) -> None:
        while step in (ADAPTER, MERGE, VERIFY):
            self.app.call_from_thread(self._begin, step)
            try:
                plan = self._one(step, plan)
            finally:
                self.app.call_from_thread(self._end, plan)
            if only_one:
                break
            step += 1

    def _one(self, step: int, plan: Plan) -> Plan:
        """Do `step` in a process of its own and return the plan as it stands then."""
        from engine.export import plan as plans
        from engine.export.verify import verify

        if step == ADAPTER:
            self._ask("convert", checkpoint=str(plan.checkpoint), out=str(plan.adapter))
        elif step == MERGE:
            if plan.base is None:
                raise Problem(
                    _("The base model is not here"),
                    _("The config names {name}.").format(name=plan.base_name or "?"),
                    _("Press b and give the folder of that model."),
                )
            self._ask("merge", base=str(plan.base), adapter=str(plan.adapter), out=str(plan.merged))
        else:
            assert plan.base is not None
            found = verify(
                plan.base,
                plan.adapter,
                plan.merged,
                settings=self.settings,
                progress=self._progress,
            )
            plans.keep(plan.merged, found)
        return plans.plan(plan.checkpoint, self.workspace, self._base)

    def _ask(self, do: str, **values: str) -> None:
        # Our own interpreter: convert and merge need no training environment.
        ours = msgspec.structs.replace(self.settings, interpreter="")
        with WorkerClient("engine.export.worker", ours) as worker:
            self._worker = worker
            try:
                for message in worker.ask(do, **values):
                    if message["event"] == "progress":
                        self._progress(message["done"], message["total"])
                    elif message["event"] == "done":
                        self._last_seconds = message.get("seconds", 0.0)
            finally:
                self._worker = None

    def _progress(self, done: int, total: int) -> None:
        self.app.call_from_thread(self._draw_progress, done, total)

    def _draw_progress(self, done: int, total: int) -> None:
        from tui.widgets.gauge import bar

        if self._busy is not None:
            share = f"{100 * done // total:3d}%" if total else ""
            self.query_one("#doing", Line).say(
                f"  ◐ {_(STEPS[self._busy])}  {bar(done, total, 30)} {share}"
            )

    def _begin(self, step: int) -> None:
        self._busy = step
        self._last_seconds = 0.0
        self.query_one("#doing", Line).say(f"  ◐ {_(STEPS[step])} …")
        cells = [self._cells(index) for index in range(len(STEPS))]
        self._table.set_source(len(STEPS), lambda index: cells[index], cursor=step)
        self._hint()

    def _end(self, plan: Plan) -> None:
        step, self._busy = self._busy, None
        said = ""
        if step is not None and self._last_seconds:
            said = f"  ✓ {_(STEPS[step])}  {duration(self._last_seconds)}"
        self.query_one("#doing", Line).say(said)
        self._show(plan, self._run)
        opened = {"adapter": str(plan.adapter)} if plan.converted else {}
        opened |= {"base": str(plan.base)} if plan.base else {}
        opened |= {"merged": str(plan.merged)} if plan.is_merged else {}
        self.post_message(self.Opened(**opened))

    def action_cancel(self) -> None:
        """End the step in progress; nothing is left under its final name."""
        if self._worker is not None:
            self._worker.close()

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
        choices = [Choice(str(one.parent), self._place(one.parent)) for one in models]
        chosen = await self.app.push_screen_wait(Choose(_("Base model"), choices, free=True))
        if chosen:
            path = self.workspace.resolve(chosen)
            artefact.expect(path, (artefact.MODEL,), _("a model's folder"))
            self._base = path
            self._read(self._plan.checkpoint if self._plan else None)


def _hand_over(plan: Plan) -> Iterator[str]:
    """Where the model lies and the commands that serve it, ready to copy."""
    merged = shlex.quote(str(plan.merged))
    yield _("The model lies in {path}").format(path=plan.merged)
    yield ""
    yield f"tunedeck chat {merged}"
    yield f"vllm serve {merged}"
    yield f"lmdeploy serve api_server {merged}"


PANE = ExportPane
