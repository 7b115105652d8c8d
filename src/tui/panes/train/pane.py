"""The list of runs beside the chosen one, and the keys that act on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual import events, on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Static

from engine.i18n import N_, _
from engine.run import control
from engine.run.folder import RunFolder
from engine.settings import Settings
from engine.text import one_line
from engine.workspace import Workspace
from tui.dialogs.confirm import Confirm
from tui.dialogs.reading import Reading
from tui.panes.base import Pane
from tui.panes.train import words
from tui.panes.train.detail import RunDetail
from tui.panes.train.observer import Look, Observer, Run
from tui.panes.train.step import Step, first_choice, lost_by_kill, next_step, no_run, no_runs
from tui.widgets.chart import Chart
from tui.widgets.table import VirtualTable

if TYPE_CHECKING:
    from tui.panes.train.launch import Order

_WIDE = 100
"""Cells from which list and run stand side by side."""
_HIGH = 24
"""Rows of the pane from which there is room for a whole chart."""


class TrainPane(Pane):
    """Every run of the workspace; the chosen one in full, live."""

    TAB = "train"
    DEFAULT_CSS = """
    TrainPane {
        layout: vertical;
        & > #runs { height: 4; }
        & > #empty { display: none; padding: 1 2; height: 1fr; }
        &.-wide { layout: horizontal; }
        &.-wide > #runs { width: 42; height: 1fr; margin: 0 1 0 0; }
        &.-empty > #empty { display: block; }
        &.-empty > #runs, &.-empty > #run { display: none; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("l", "launch", N_("launch"), id="train.launch"),
        Binding("S", "stop", N_("stop (saves)"), id="train.stop"),
        Binding("R", "resume", N_("resume"), id="train.resume"),
        Binding("K", "kill", N_("kill"), id="train.kill"),
        Binding("o", "why", N_("why"), id="train.why"),
        Binding("m", "metric", N_("curve"), id="train.metric"),
        Binding("enter", "next", N_("next step"), show=False, id="train.next"),
        Binding("space", "mark", N_("mark to compare"), show=False, id="train.mark"),
        Binding("c", "compare", N_("compare"), id="train.compare"),
        Binding("y", "log_scale", N_("log scale"), show=False, id="train.log-scale"),
        Binding("e", "smooth", N_("smooth"), show=False, id="train.smooth"),
        Binding("f", "follow", N_("follow the log"), show=False, id="train.follow"),
        Binding("slash", "find", N_("find in the log"), show=False, id="train.find"),
        Binding("w", "filter", N_("warnings and errors only"), show=False, id="train.filter"),
    ]

    class Seen(Message):
        """The observer has looked; only the newest look counts."""

        def __init__(self, look: Look) -> None:
            super().__init__()
            self.look = look

        def can_replace(self, message: Message) -> bool:
            """A newer look replaces one that still waits."""
            return isinstance(message, TrainPane.Seen)

    class Logged(Message):
        """Lines of a run's log; `first` ones begin it."""

        def __init__(self, folder: str, lines: Sequence[str], first: bool) -> None:
            super().__init__()
            self.folder, self.lines, self.first = folder, lines, first

    def __init__(self, workspace: Workspace, settings: Settings) -> None:
        super().__init__(workspace, settings)
        self._look = Look(())
        self._chosen = ""
        self._moved = False
        self._marked: list[str] = []
        self._comparing = True
        self._rows: list[list[str]] = []
        self._step = Step("wait", "")
        self._order: Order | None = None
        self._new = ""
        self._observer = Observer(
            workspace,
            lambda look: self.post_message(self.Seen(look)),
            lambda *lines: self.post_message(self.Logged(*lines)),
            self.trouble,
        )

    # -- layout ---------------------------------------------------------------

    def compose(self) -> ComposeResult:
        """The list, the chosen run, and words for when there is none."""
        yield VirtualTable(words.columns(False), id="runs")
        yield RunDetail()
        yield Static("", id="empty", markup=False)

    def on_mount(self) -> None:
        """Begin to look."""
        self._observer.start()

    def on_unmount(self) -> None:
        """Look no more."""
        self._observer.stop()

    def on_show(self) -> None:
        """In front: look again."""
        self._observer.wake()

    def on_hide(self) -> None:
        """Behind another pane: the shell's own line says enough."""
        self._observer.rest()

    def on_resize(self, event: events.Resize) -> None:
        """Side by side where there is room, else below each other."""
        wide = event.size.width >= _WIDE
        self.set_class(wide, "-wide")
        self._detail.set_class(event.size.height < _HIGH, "-short")
        self._table.columns = words.columns(wide)
        self._table.refresh()

    def activate(self) -> None:
        """Something may have happened meanwhile: a config opened, a run begun elsewhere."""
        self._moved = False
        self._observer.wake()
        self._say_next()

    def home(self) -> Widget | None:
        """The list, while it has something in it; else the pane, whose keys work all the same."""
        return self if self.has_class("-empty") else self._table

    @property
    def _table(self) -> VirtualTable:
        return self.query_one("#runs", VirtualTable)

    @property
    def _detail(self) -> RunDetail:
        return self.query_one(RunDetail)

    # -- what is seen -----------------------------------------------------------

    @on(Seen)
    def _seen(self, event: Seen) -> None:
        self._catch_up()
        self._look = event.look
        new = self._run(self._new)
        if new is not None:
            self._choose(self._new)
            self._new = ""
        elif self._run(self._chosen) is None:
            self._choose(first_choice(self._look.runs, self.workspace.last().run))
        self._set_empty(not self._look.runs)
        self._draw_list()
        if new is not None:
            self._table.move_to(self._look.runs.index(new))
        self._draw_run()
        self._say_next()

    @on(Logged)
    def _logged(self, event: Logged) -> None:
        if event.folder == self._chosen:
            self._detail.add_log(event.lines, event.first)

    def _set_empty(self, empty: bool) -> None:
        """Without a list the pane itself takes the keys."""
        if empty == self.has_class("-empty"):
            return
        self.can_focus = empty
        focused = self.screen.focused
        self.set_class(empty, "-empty")
        if focused is None or self in focused.ancestors_with_self:
            (self if empty else self._table).focus()

    def _run(self, folder: str) -> Run | None:
        return next((run for run in self._look.runs if run.summary.dir == folder), None)

    def _choose(self, folder: str) -> None:
        if folder != self._chosen:
            self._chosen = folder
            self._detail.other_run()
            self._observer.show(folder, self._compared)

    def _catch_up(self) -> None:
        """Choose what the cursor is on: keys typed fast come before the table's message."""
        at = self._table.cursor
        if at is not None and at < len(self._look.runs):
            self._choose(self._look.runs[at].summary.dir)

    def _current(self) -> Run | None:
        """The run that a key acts on."""
        self._catch_up()
        return self._run(self._chosen)

    def _needed(self) -> Run | None:
        """The same; where there is none, say so."""
        run = self._current()
        if run is None:
            self.trouble(no_run())
        return run

    @property
    def _compared(self) -> list[str]:
        """The folders of the runs to overlay."""
        return [one for one in self._marked if self._comparing and one != self._chosen]

    def _draw_list(self) -> None:
        runs = self._look.runs
        rows = [words.row(run, run.summary.dir in self._marked) for run in runs]
        before, self._rows = self._rows, rows
        if [row[1] for row in rows] != [row[1] for row in before]:
            at = [run.summary.dir for run in runs].index(self._chosen) if runs else 0
            self._table.set_source(
                len(rows),
                lambda index: self._rows[index],
                lambda index: words.KINDS.get(self._look.runs[index].summary.state, ""),
                at,
            )
            return
        for index, (row, old) in enumerate(zip(rows, before, strict=True)):
            if row != old:
                self._table.rows_ready(index, index + 1)

    def _draw_run(self) -> None:
        run = self._run(self._chosen)
        if run is not None:
            compared = [one for one in map(self._run, self._compared) if one is not None]
            self._detail.see(run, self._look, compared)

    def _say_next(self) -> None:
        config = self.workspace.last().config
        shown = self.workspace.relative(self.workspace.resolve(config)) if config else ""
        untrained = shown if self._look.untrained else ""
        self._step = next_step(self._run(self._chosen), shown, untrained, self._moved)
        self.hint = self._step.hint
        if not self._look.runs:
            self.query_one("#empty", Static).update(no_runs(shown))

    @on(VirtualTable.Moved)
    def _cursor_moved(self, event: VirtualTable.Moved) -> None:
        if event.index < len(self._look.runs):
            self._moved = True
            self._choose(self._look.runs[event.index].summary.dir)
            self._draw_run()
            self._say_next()

    # -- keys: what becomes of a run ----------------------------------------------

    @on(VirtualTable.Selected)
    def action_next(self) -> None:
        """Take the next step, which the hint names."""
        run = self._current()
        self._say_next()
        if self._step.action == "launch":
            self.action_launch()
        elif self._step.action == "config":
            self.post_message(self.Go("config"))
        elif self._step.action == "why":
            self.action_why()
        elif self._step.action == "export" and run is not None:
            self.post_message(self.Opened(run=run.summary.dir))
            self.post_message(self.Go("export"))
        else:
            self.notify(_("There is nothing to export yet: no checkpoint is saved."), markup=False)

    @work(exit_on_error=False)
    async def action_launch(self) -> None:
        """Start a run."""
        from tui.panes.train.launch import Launch, Order, default_order

        order = default_order(self.workspace, self._order)
        answer = await self.app.push_screen_wait(Launch(self.workspace, self.settings, order))
        if isinstance(answer, Order):
            self._order = answer
            return
        self._order = None
        self._moved = True
        self._new = answer
        self.post_message(self.Opened(run=answer))
        self._observer.wake()

    def action_stop(self) -> None:
        """Ask the run to save a checkpoint and end."""
        run = self._needed()
        if run is not None:
            done = _("{run} saves a checkpoint after this step, then it ends.")
            self._act(run, control.stop, done)

    def action_resume(self) -> None:
        """Go on from the newest checkpoint."""
        run, settings = self._needed(), self.settings
        if run is not None:
            self._act(run, lambda folder: control.resume(folder, settings), _("{run} goes on."))

    @work(exit_on_error=False)
    async def action_kill(self) -> None:
        """End the run now, after asking."""
        run = self._needed()
        if run is None:
            return
        question = _("Kill {run} now?").format(run=one_line(run.summary.run))
        if await self.app.push_screen_wait(Confirm(question, lost_by_kill(run))):
            self._act(run, control.kill, _("{run} was killed."))

    @work(thread=True, group="act", exit_on_error=False)
    def _act(self, run: Run, deed: Callable[[RunFolder], object], done: str) -> None:
        deed(RunFolder(Path(run.summary.dir)))
        self._observer.wake()
        said = done.format(run=one_line(run.summary.run))
        self.app.call_from_thread(self.notify, said, markup=False, timeout=4)

    def action_why(self) -> None:
        """Why the run ended as it did, with the end of its log."""
        run = self._needed()
        if run is not None:
            self._read_why(run)

    @work(thread=True, exclusive=True, group="why", exit_on_error=False)
    def _read_why(self, run: Run) -> None:
        from tui.panes.train.why import why_lines

        screen = Reading(one_line(run.summary.run), why_lines(Path(run.summary.dir)))
        self.app.call_from_thread(self.app.push_screen, screen)

    # -- keys: what is drawn --------------------------------------------------------

    def action_mark(self) -> None:
        """Mark the run under the cursor for comparison, or take the mark away."""
        self._catch_up()
        if self._chosen in self._marked:
            self._marked.remove(self._chosen)
        elif self._chosen:
            self._marked.append(self._chosen)
            self._comparing = True
        self._compare_anew()
        self._table.action_move(1)

    def action_compare(self) -> None:
        """Overlay the marked runs, or show the chosen one alone."""
        if not self._marked:
            self.notify(_("Mark the runs to compare with Space first."), markup=False, timeout=4)
            return
        self._comparing = not self._comparing
        self._compare_anew()

    def _compare_anew(self) -> None:
        self._observer.show(self._chosen, self._compared)
        self._draw_list()
        self._draw_run()

    def action_metric(self) -> None:
        """Draw another quantity."""
        self._detail.next_metric()

    def action_log_scale(self) -> None:
        """Switch the chart between a linear and a logarithmic axis."""
        self.query_one(Chart).action_log()

    def action_smooth(self) -> None:
        """Switch the chart's smoothing."""
        self.query_one(Chart).action_smooth()

    def action_follow(self) -> None:
        """Follow the end of the log, or hold it still."""
        self._detail.toggle_follow()

    def action_find(self) -> None:
        """Find in the log."""
        self._detail.find()

    def action_filter(self) -> None:
        """Show all lines of the log, or only the bad ones."""
        self._detail.next_filter()
