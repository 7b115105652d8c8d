"""The list of runs: which there are, which one is chosen, which are marked for comparison."""

from __future__ import annotations

from collections.abc import Sequence

from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.message import Message

from engine.i18n import _
from engine.run import history
from engine.text import one_line
from tui.panes.train import words
from tui.panes.train.observer import Run
from tui.panes.train.step import first_choice
from tui.widgets.strips import Line
from tui.widgets.table import VirtualTable


class RunList(Vertical):
    """One line a run; the one under the cursor is the chosen one."""

    DEFAULT_CSS = """
    RunList { height: 4; }
    RunList > #narrowed { display: none; height: 1; color: $text-muted; }
    RunList.-narrowed { height: 5; }
    RunList.-narrowed > #narrowed { display: block; }
    RunList > VirtualTable { height: 1fr; }
    """

    class Chosen(Message):
        """Another run is chosen."""

    def __init__(self) -> None:
        super().__init__()
        self.chosen = ""
        """The folder of the run that is chosen; "" when there is none."""
        self.moved = False
        """Whether the user chose it since `moved` was last set to False."""
        self.sought = ""
        """What is searched for; "" for nothing."""
        self.archived = False
        """Whether archived runs are shown too."""
        self._order = "created"
        self._every: Sequence[Run] = ()
        self._runs: Sequence[Run] = ()
        self._marked: list[str] = []
        self._comparing = True
        self._rows: list[list[str]] = []
        self._awaited = ""
        self._last = ""

    def compose(self) -> ComposeResult:
        """A table; its columns depend on the room there is."""
        yield Line(id="narrowed")
        yield VirtualTable(words.columns(False), id="runs")

    @property
    def table(self) -> VirtualTable:
        """What has the focus when the list has it."""
        return self.query_one(VirtualTable)

    # What the pane calls

    @staticmethod
    def everyday(runs: Sequence[Run]) -> list[Run]:
        """What is listed at first: all runs that are not archived, newest first."""
        return [run for run in runs if not run.summary.archived]

    def show(self, runs: Sequence[Run], last: str) -> None:
        """Show `runs`; `last` is the folder of the one to begin with, when none is in progress."""
        self._catch_up()
        self._every, self._last = runs, last
        self._runs = self._narrowed()
        new = self.run(self._awaited)
        if new is not None:
            self._choose(self._awaited)
            self._awaited = ""
        elif self.run(self.chosen) is None:
            self._choose(first_choice(self._runs, last))
        self._draw()
        if new is not None:
            self.table.move_to(self._runs.index(new))

    def narrow(
        self, sought: str | None = None, order: str | None = None, archived: bool | None = None
    ) -> None:
        """Search the list, order it, show archived runs or not; None leaves it as it is."""
        self.sought = self.sought if sought is None else sought
        self._order = self._order if order is None else order
        self.archived = self.archived if archived is None else archived
        self.show(self._every, self._last)

    def wide(self, wide: bool) -> None:
        """Whether the list has a column of its own beside the run."""
        self.table.columns = words.columns(wide)
        self.table.refresh()

    def await_run(self, folder: str) -> None:
        """Choose the run in `folder` as soon as it is seen."""
        self._awaited, self.moved = folder, True

    def run(self, folder: str) -> Run | None:
        """The run in `folder`."""
        return next((run for run in self._runs if run.summary.dir == folder), None)

    @property
    def current(self) -> Run | None:
        """The run that a key acts on."""
        self._catch_up()
        return self.run(self.chosen)

    @property
    def compared(self) -> list[Run]:
        """The runs to overlay on the chosen one."""
        marked = self._marked if self._comparing else []
        found = [self.run(folder) for folder in marked if folder != self.chosen]
        return [run for run in found if run is not None]

    @property
    def marks(self) -> int:
        """How many runs are marked."""
        return len(self._marked)

    @property
    def comparing(self) -> bool:
        """Whether the marked ones lie under the chosen one's curve."""
        return self._comparing

    def mark(self) -> None:
        """Mark the run under the cursor for comparison, or take the mark away."""
        self._catch_up()
        if self.chosen in self._marked:
            self._marked.remove(self.chosen)
        elif self.chosen:
            self._marked.append(self.chosen)
            self._comparing = True
        self._draw()
        self.table.action_move(1)

    def compare(self) -> bool:
        """Overlay the marked runs, or show the chosen one alone; False when none is marked."""
        if not self._marked:
            return False
        self._comparing = not self._comparing
        return True

    # Inside

    def _narrowed(self) -> list[Run]:
        """The runs to show, in order; a line above says how they were narrowed."""
        by_folder = {run.summary.dir: run for run in self._every}
        kept = [run.summary for run in self._every if self.archived or not run.summary.archived]
        found = history.ordered(history.search(kept, self.sought), self._order)
        said = [_("search: {words}").format(words=one_line(self.sought))] if self.sought else []
        said += [_(history.ORDERS[self._order])] if self._order != "created" else []
        said += [_("with archived")] if self.archived else []
        if not kept and self._every:
            said.append(_("all are archived: h shows them"))
        self.set_class(bool(said), "-narrowed")
        count = f"{len(found)}/{len(self._every)}"
        back = "Esc  " + _("all runs") + " " if self.sought else ""
        self.query_one("#narrowed", Line).say(" " + "  ·  ".join([count, *said]), back)
        return [by_folder[one.dir] for one in found]

    def _choose(self, folder: str) -> None:
        if folder != self.chosen:
            self.chosen = folder
            self.post_message(self.Chosen())

    def _catch_up(self) -> None:
        """Choose what the cursor is on: keys typed fast come before the table's message."""
        at = self.table.cursor
        if at is not None and at < len(self._runs):
            self._choose(self._runs[at].summary.dir)

    @on(VirtualTable.Moved)
    def _cursor_moved(self, event: VirtualTable.Moved) -> None:
        event.stop()
        if event.index < len(self._runs):
            self.moved = True
            self._choose(self._runs[event.index].summary.dir)

    def _draw(self) -> None:
        places = (run.summary.place for run in self._every)
        queue = sorted(place for place in places if place is not None)
        rows = [words.row(run, run.summary.dir in self._marked, queue) for run in self._runs]
        before, self._rows = self._rows, rows
        if [row[1] for row in rows] != [row[1] for row in before]:
            at = [run.summary.dir for run in self._runs].index(self.chosen) if self._runs else 0
            self.table.set_source(
                len(rows),
                lambda index: self._rows[index],
                lambda index: words.KINDS.get(self._runs[index].summary.state, ""),
                at,
            )
            return
        for index, (row, old) in enumerate(zip(rows, before, strict=True)):
            if row != old:
                self.table.rows_ready(index, index + 1)
