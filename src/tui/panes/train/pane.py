"""The list of runs beside the chosen one, and the keys that act on it."""

from __future__ import annotations

from typing import ClassVar, get_args

from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.message import Message
from textual.timer import Timer
from textual.widget import Widget
from textual.widgets import Static

from engine.i18n import N_, _
from engine.run.control import Deed
from engine.settings import Settings
from engine.workspace import Workspace
from tui.panes.base import Pane
from tui.panes.train.acts import Acts
from tui.panes.train.detail import SEEN_KEYS, RunDetail
from tui.panes.train.history import History
from tui.panes.train.observer import Look, Observer, Run
from tui.panes.train.run_list import RunList
from tui.panes.train.step import Step, first_choice, next_step, no_run, no_runs
from tui.widgets.chart import Chart
from tui.widgets.table import VirtualTable

_WIDE = 100
"""Cells from which list and run stand side by side."""
_HIGH = 24
"""Rows of the pane from which there is room for a whole chart."""
_RESTS = 0.25
"""Seconds for which the cursor stays on a run before the run is drawn: head, curve and log
of each one that is only passed would cost the line a kilobyte."""
_READ = 0.4
"""Seconds in which a run that is to be drawn is read, as a rule: what is drawn empty first and
filled a moment later crosses the line twice."""
_DEEDS = frozenset(get_args(Deed))
_ON_A_RUN = _DEEDS | {"why", "again", "mark"}
"""Actions that need a run under the cursor."""


class TrainPane(Pane):
    """Every run of the workspace; the chosen one in full, live."""

    TAB = "train"
    DEFAULT_CSS = """
    TrainPane {
        layout: vertical;
        & > #empty { display: none; padding: 1 2; height: 1fr; }
        &.-wide { layout: horizontal; }
        &.-chart > RunList { display: none; }
        &.-wide > RunList { width: 47; height: 1fr; margin: 0 1 0 0; }
        &.-empty > #empty { display: block; }
        &.-empty > RunList, &.-empty > #run { display: none; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("l", "launch", N_("launch"), id="train.launch"),
        Binding("S", "stop", N_("stop (saves)"), id="train.stop"),
        Binding("R", "resume", N_("resume"), id="train.resume"),
        Binding("K", "kill", N_("kill"), id="train.kill"),
        Binding("o", "why", N_("why"), id="train.why"),
        Binding("h", "more", N_("history"), id="train.more"),
        Binding("L", "again", N_("again, with a change"), show=False, id="train.again"),
        Binding("s", "search", N_("search the runs"), show=False, id="train.search"),
        Binding("escape", "end_search", N_("end the search"), show=False, id="train.end-search"),
        Binding("ctrl+up", "move(-1)", N_("earlier in the queue"), show=False, id="train.earlier"),
        Binding("ctrl+down", "move(1)", N_("later in the queue"), show=False, id="train.later"),
        Binding("enter", "next", N_("next step"), show=False, id="train.next"),
        Binding("space", "mark", N_("mark to compare"), show=False, id="train.mark"),
        Binding("c", "compare", N_("compare"), id="train.compare"),
        *SEEN_KEYS,
    ]

    class Seen(Message):
        """The observer has looked; only the newest look counts."""

        def __init__(self, look: Look) -> None:
            super().__init__()
            self.look = look

        def can_replace(self, message: Message) -> bool:
            """A newer look replaces one that still waits."""
            return isinstance(message, TrainPane.Seen)

    def __init__(self, workspace: Workspace, settings: Settings) -> None:
        super().__init__(workspace, settings)
        self._acts = Acts(self)
        self._history = History(self, self._acts)
        self._look = Look(())
        self._step = Step("wait", "")
        self._possible: frozenset[Deed] | None = None
        self._shown = ""
        """The folder of the run that is drawn, or is as soon as it is read."""
        self._drawn = ""
        """The folder of the run that is drawn."""
        self._resting: Timer | None = None
        self._observer = Observer(
            workspace,
            lambda look: self.post_message(self.Seen(look)),
            self.trouble,
            lambda runs: first_choice(RunList.everyday(runs), workspace.last().run),
        )

    # -- layout ---------------------------------------------------------------

    def compose(self) -> ComposeResult:
        """The list, the chosen run, and words for when there is none."""
        yield RunList()
        yield RunDetail(self.workspace.root / "charts")
        yield Static("", id="empty", markup=False)

    def on_mount(self) -> None:
        """Begin to look."""
        if isinstance(self.parent, Widget):  # which has the size that this is about to get
            self._arrange(self.parent.size)
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
        self._arrange(event.size)

    def _arrange(self, size: Size) -> None:
        wide = size.width >= _WIDE
        self.set_class(wide, "-wide")
        self._detail.set_class(size.height < _HIGH, "-short")
        self._list.wide(wide)

    def activate(self) -> None:
        """Something may have happened meanwhile: a config opened, a run begun elsewhere."""
        self._list.moved = False
        self._observer.wake()
        self._say_next()

    def home(self) -> Widget | None:
        """The list, while it has something in it; else the pane, whose keys work all the same."""
        return self if self.has_class("-empty") else self._list.table

    @property
    def _list(self) -> RunList:
        return self.query_one(RunList)

    @property
    def _detail(self) -> RunDetail:
        return self.query_one(RunDetail)

    # -- what is seen -----------------------------------------------------------

    @on(Seen)
    def _seen(self, event: Seen) -> None:
        self._look = event.look
        self._list.show(event.look.runs, self.workspace.last().run)
        self._set_empty(not event.look.runs)
        if self._shown in (self._drawn, event.look.shown):
            self._draw_run()
        self._say_next()

    @on(RunList.Chosen)
    def _chosen(self) -> None:
        if self._resting is not None:
            self._resting.stop()
        if self._list.run(self._shown) is None:
            self._show_chosen()
        else:
            self._resting = self.set_timer(_RESTS, self._read_chosen)
        self._say_next()

    def _show_chosen(self) -> None:
        """Draw the run under the cursor now, as far as it is read."""
        self._choose()
        self._draw_run()

    def _read_chosen(self) -> None:
        """Draw the run under the cursor as soon as it is read."""
        self._choose()
        if self._drawn != self._shown:
            self.set_timer(_READ, self._draw_run)

    def _choose(self) -> None:
        if self._shown != self._list.chosen:
            self._shown = self._list.chosen
            self._observe()

    def _set_empty(self, empty: bool) -> None:
        """Without a list the pane itself takes the keys."""
        if empty == self.has_class("-empty"):
            return
        self.can_focus = empty
        focused = self.screen.focused
        self.set_class(empty, "-empty")
        if focused is None or self in focused.ancestors_with_self:
            (self if empty else self._list.table).focus()

    def _needed(self) -> Run | None:
        """The run that a key acts on; where there is none, say so."""
        run = self._list.current
        if run is None:
            self.trouble(no_run())
        return run

    def _draw_run(self) -> None:
        run = self._list.run(self._shown)
        if run is None:
            return
        if self._drawn != self._shown:
            self._drawn = self._shown
            self._detail.other_run(self._shown)
        self._detail.see(run, self._look, self._list.compared)

    def _observe(self) -> None:
        """Another run is chosen, or others are compared."""
        compared = [run.summary.dir for run in self._list.compared]
        self._observer.show(self._shown, compared)

    def _say_next(self) -> None:
        shown = self._look.config
        # Who compares runs is told of that, and not of a config beside.
        untrained = shown if self._look.untrained and not self._list.marks else ""
        run = self._list.current
        self._step = next_step(run, shown, untrained, self._list.moved)
        self.hint = self._step.hint
        possible = None if run is None else run.possible
        if possible != self._possible:
            self._possible = possible
            self.refresh_bindings()  # which draws the keys
        if run is None and self._list.sought:
            self.hint = _("Esc  all runs again      s  search for something else")
        if self._list.marks:
            verb = _("hide") if self._list.comparing else _("show")
            marked = _("{count} marked:  c {verb}  d what differs")
            self.hint += "      " + marked.format(count=self._list.marks, verb=verb)
        if not self._look.runs:
            self.query_one("#empty", Static).update(no_runs(shown))

    # -- keys: what becomes of a run ----------------------------------------------

    @on(VirtualTable.Selected)
    def action_next(self) -> None:
        """Take the next step, which the hint names."""
        run = self._list.current
        self._say_next()
        if self._step.action == "launch":
            self.action_launch()
        elif self._step.action == "config":
            self.post_message(self.Go("config"))
        elif self._step.action == "why":
            self.action_why()
        elif self._step.action == "lines" and run is not None:
            self._acts.lines(run)
        elif self._step.action == "export" and run is not None:
            self.post_message(self.Opened(run=run.summary.dir))
            self.post_message(self.Go("export"))
        else:
            self.notify(_("There is nothing to export yet: no checkpoint is saved."), markup=False)

    def action_launch(self) -> None:
        """Start a run."""
        self._acts.launch()

    def action_stop(self) -> None:
        """Ask the run to save a checkpoint and end."""
        if run := self._needed():
            self._acts.stop(run)

    def action_resume(self) -> None:
        """Go on from a checkpoint."""
        if run := self._needed():
            self._acts.resume(run)

    def action_kill(self) -> None:
        """End the run now, after asking."""
        if run := self._needed():
            self._acts.kill(run)

    def action_again(self) -> None:
        """Launch the run's own config once more, to change something in it."""
        if run := self._needed():
            self._acts.again(run)

    def action_move(self, by: int) -> None:
        """Move a waiting run in the queue."""
        if run := self._needed():
            self._acts.move(run, by)

    def action_more(self) -> None:
        """The rarer acts: what is noted about the run, the list, the trash."""
        self._history.menu(self._list.current)

    def action_search(self) -> None:
        """Search the list of runs."""
        self._history.search()

    def action_end_search(self) -> None:
        """One step back: forget what was looked for in the log, then list all runs again."""
        if self._detail.log_part.searching:
            self._detail.log_part.end_search()
        else:
            self._list.narrow(sought="")

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Escape ends a search, or it is the shell's."""
        searching = self.is_mounted and (self._detail.log_part.searching or self._list.sought)
        return action != "end_search" or bool(searching)

    def offers(self, action: str) -> bool:
        """Of what acts on a run, what can be done with the one under the cursor."""
        if action not in _ON_A_RUN:
            return True
        run = self._list.current if self.is_mounted else None
        return run is not None and (action not in _DEEDS or action in run.possible)

    def action_why(self) -> None:
        """Why the run ended as it did, with the end of its log."""
        if run := self._needed():
            self._acts.why(run)

    @on(Acts.Done)
    def _look_again(self) -> None:
        self._observer.wake()

    @on(Acts.Started)
    def _started(self, event: Acts.Started) -> None:
        self._list.await_run(event.folder)
        self.post_message(self.Opened(run=event.folder))
        self._observer.wake()

    # -- keys: what is drawn --------------------------------------------------------

    def action_mark(self) -> None:
        """Mark the run under the cursor for comparison, or take the mark away."""
        self._show_chosen()
        self._list.mark()
        self._observe()
        self._draw_run()
        self._say_next()

    def action_compare(self) -> None:
        """Overlay the marked runs, or show the chosen one alone."""
        if self._list.compare():
            self._observe()
            self._draw_run()
            self._say_next()
        else:
            self.notify(_("Mark the runs to compare with Space first."), markup=False, timeout=4)

    @on(RunDetail.Big)
    def _chart_alone(self, event: RunDetail.Big) -> None:
        self.set_class(event.on, "-chart")
        # What has the focus by now, as the field to find something in the log, keeps it.
        if not event.on and not self.has_class("-empty") and isinstance(self.app.focused, Chart):
            self._list.table.focus()

    def action_see(self, what: str) -> None:
        """A key of `SEEN_KEYS`: how the chosen run is shown."""
        self._show_chosen()
        self._detail.see_otherwise(what)
