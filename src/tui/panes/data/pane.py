"""Rows at the left, one row as the model sees it at the right, the check's verdict below."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Container
from textual.widget import Widget
from textual.widgets import Static
from textual.worker import Worker, get_current_worker

from engine.errors import Problem
from engine.i18n import N_, _
from engine.text import one_line
from tui.dialogs.choose import Choice, Choose
from tui.dialogs.reading import Reading
from tui.panes.base import Pane
from tui.panes.data.sample import MAX_LENGTH, SampleView
from tui.panes.data.substitute import Substitute
from tui.panes.data.verdict import findings, marks, verdict
from tui.widgets.strips import Line
from tui.widgets.table import Cell, Column, Kind, VirtualTable

if TYPE_CHECKING:
    from engine.dataset.check import CheckReport
    from engine.dataset.reader import Dataset, Row

PAGE = 200
"""Rows read at once."""
SUFFIXES = (".json", ".jsonl")
OWN = "-"
"""Chosen in place of a template's name: whichever the tokenizer itself writes."""


class DataPane(Pane):
    """Opens a dataset, shows it as the model will see it, checks and renames in it."""

    TAB = "data"
    BINDINGS = [
        Binding("o", "open", N_("open"), id="data.open"),
        Binding("s", "substitute", N_("substitute"), id="data.substitute"),
        Binding("c", "check", N_("check all"), id="data.check"),
        Binding("n", "next_finding", N_("next"), id="data.next"),
        Binding("t", "template", N_("template"), id="data.template"),
        Binding("u", "undo", N_("undo"), id="data.undo"),
        Binding("v", "findings", N_("findings"), show=False, id="data.findings"),
        Binding("tab", "app.focus_next", N_("to the sample"), show=False, id="data.sample"),
    ]

    def compose(self) -> ComposeResult:
        """Head line, rows and sample, verdict."""
        yield Line(id="data-head")
        with Container(id="data-body"):
            yield VirtualTable(
                [
                    Column("#", 7, "right"),
                    Column(N_("turns"), 5, "right", optional=True),
                    Column(N_("first words")),
                    Column("", 1),
                ],
                id="rows",
            )
            yield SampleView(self.settings)
        yield Static("", id="verdict", markup=False)

    def on_mount(self) -> None:
        """Nothing is open yet."""
        self._dataset: Dataset | None = None
        self._pages: dict[int, list[Row]] = {}
        self._checking: Worker[None] | None = None
        self._report: CheckReport | None = None
        self._marks: dict[int, str] = {}
        self._history: list[Path] = []
        self._table = self.query_one("#rows", VirtualTable)
        self._sample = self.query_one(SampleView)

    def on_unmount(self) -> None:
        """A check ends with the pane."""
        self._stop_checking()

    def home(self) -> Widget:
        """The rows."""
        return self._table

    def activate(self) -> None:
        """Open what was open last; on an empty workspace say how to begin."""
        last = self.workspace.last()
        if not self._sample.model:
            self._sample.look_through(last.base, last.template)
        if self._dataset is None:
            if last.data and Path(last.data).exists():
                self._open(Path(last.data))
            else:
                self._say_how_to_begin()

    def _say_how_to_begin(self) -> None:
        self._sample.say(
            _(
                "No dataset is open.\n\n"
                "o  opens a JSON array or JSON Lines file: XTuner's `conversation` shape,\n"
                "   or Alpaca's `instruction`, `input`, `output`.\n\n"
                "Then s renames in it, c checks every row, and Enter takes it to a config."
            )
        )
        self.hint = _("o  open a dataset")

    # -- opening --------------------------------------------------------------

    @work(exit_on_error=False)
    async def action_open(self) -> None:
        """Choose a dataset of this workspace, or give a path."""
        choices = [Choice(str(path), self.workspace.relative(path)) for path in self._candidates()]
        chosen = await self.app.push_screen_wait(Choose(_("Open a dataset"), choices, free=True))
        if chosen:
            self._history.clear()  # undo goes back over substitutions only
            self._open(self.workspace.resolve(chosen))

    def _candidates(self) -> Iterator[Path]:
        for folder in (self.workspace.data, self.workspace.root):
            if folder.is_dir():
                files = (path for path in folder.iterdir() if path.suffix in SUFFIXES)
                yield from sorted(path for path in files if not path.name.startswith("."))

    @work(thread=True, exclusive=True, group="open", exit_on_error=False)
    def _open(self, path: Path) -> None:
        from engine.dataset.reader import Dataset

        dataset = Dataset.open(path)
        first = dataset.page(0, PAGE)
        self.app.call_from_thread(self._opened, dataset, first)
        if dataset.rows is None:
            worker = get_current_worker()
            dataset.index(cancelled=lambda: worker.is_cancelled)
            self.app.call_from_thread(self._indexed, dataset)

    def _opened(self, dataset: Dataset, first: list[Row]) -> None:
        self._stop_checking()
        self._dataset, self._pages = dataset, {0: first}
        self._report, self._marks = None, {}
        count = dataset.rows if dataset.rows is not None else len(first)
        self._table.set_source(count, self._cells, self._kind)
        self._draw_head()
        self._say_verdict(_("Not checked yet: c checks every row."))
        if first:
            self._show_row(0)
        else:
            self._sample.say(_("This file holds no rows."))
        self.hint = _("Enter  use this dataset in a config")
        self.post_message(self.Opened(data=str(dataset.path)))

    def _indexed(self, dataset: Dataset) -> None:
        if dataset is self._dataset and dataset.rows is not None:
            self._table.set_count(dataset.rows)
            self._draw_head()

    def _draw_head(self) -> None:
        dataset = self._dataset
        if dataset is None:
            return
        rows = _("counting rows") if dataset.rows is None else f"{dataset.rows:,} {_('rows')}"
        parts = [self.workspace.relative(dataset.path), dataset.format, rows, dataset.shape or "?"]
        eyes = (Path(self._sample.model).name, self._sample.template)
        right = " · ".join(part for part in eyes if part)
        self.query_one("#data-head", Line).say(f" {one_line('  ·  '.join(parts))}", f"{right} ")

    # -- rows -----------------------------------------------------------------

    def _cells(self, index: int) -> list[Cell] | None:
        from engine.dataset import shapes

        row = self._row(index)
        if row is None:
            return None
        mark = self._marks.get(index, "")
        if row.problem is not None:
            return [f"{index}", "-", one_line(row.problem), Text("✗", style="red")]
        shape = self._dataset.shape if self._dataset else ""
        words = one_line(shapes.first_words(row.value, shape=shape), marks=False)
        turns = shapes.turns(row.value, shape)
        return [f"{index}", "-" if turns is None else f"{turns}", words, Text(mark, style="red")]

    def _kind(self, index: int) -> Kind:
        row = self._row(index)
        broken = row is not None and row.problem is not None
        return "error" if broken or self._marks.get(index) == "✗" else ""

    def _row(self, index: int) -> Row | None:
        page = self._pages.get(index // PAGE)
        return page[index % PAGE] if page and index % PAGE < len(page) else None

    @on(VirtualTable.RowsWanted)
    def _rows_wanted(self, event: VirtualTable.RowsWanted) -> None:
        for page in range(event.rows.start // PAGE, (event.rows.stop - 1) // PAGE + 1):
            self._read_page(page)

    @work(thread=True, group="pages", exit_on_error=False)
    def _read_page(self, page: int) -> None:
        dataset = self._dataset
        if dataset is not None:
            rows = dataset.page(page * PAGE, PAGE)
            self.app.call_from_thread(self._page_read, dataset, page, rows)

    def _page_read(self, dataset: Dataset, page: int, rows: list[Row]) -> None:
        if dataset is not self._dataset:
            return
        if len(self._pages) > 20:  # some 4,000 rows; what is scrolled past is read again
            self._pages.clear()
        self._pages[page] = rows
        self._table.rows_ready(page * PAGE, page * PAGE + len(rows))
        if self._table.cursor is not None and self._table.cursor // PAGE == page:
            self._show_row(self._table.cursor)

    @on(VirtualTable.Moved)
    def _moved(self, event: VirtualTable.Moved) -> None:
        self._show_row(event.index)

    def _show_row(self, index: int) -> None:
        row = self._row(index)
        if row is not None and self._dataset is not None:
            self._sample.show(row, self._dataset.shape)

    @on(SampleView.Blind)
    def _blind(self) -> None:
        self._draw_head()

    # -- model and template ---------------------------------------------------

    @work(exit_on_error=False)
    async def action_template(self) -> None:
        """Choose whose tokenizer and which prompt template to look through."""
        from engine.dataset.preview import check_model, template_names

        models = sorted(self.workspace.models.glob("*/config.json"))
        choices = [Choice(str(one.parent), self.workspace.relative(one.parent)) for one in models]
        model = await self.app.push_screen_wait(
            Choose(_("Model"), choices, free=True, note=_("Its tokenizer is used."))
        )
        if not model:
            return
        path = str(self.workspace.resolve(model))
        check_model(path)
        hint, self.hint = self.hint, _("Reading XTuner's templates …")
        try:
            names = await asyncio.to_thread(template_names, self.settings)
        finally:
            self.hint = hint
        choices = [Choice(OWN, _("what the model's own chat template says"))]
        choices += [Choice(name, name) for name in names]
        note = _("XTuner's names; the run's must be the same.")
        template = await self.app.push_screen_wait(Choose(_("Prompt template"), choices, note=note))
        if template:
            template = "" if template == OWN else template
            self._sample.look_through(path, template)
            self.post_message(self.Opened(base=path, template=template))
            self._draw_head()

    # -- check ----------------------------------------------------------------

    def action_check(self) -> None:
        """Check every row in the background; again to cancel."""
        if self._dataset is None:
            self.trouble(_no_dataset())
        elif self._checking is not None:
            self._stop_checking()
            self._say_verdict(_("The check was cancelled. c checks every row."))
        else:
            self._checking = self._check()

    def _stop_checking(self) -> None:
        if self._checking is not None:
            self._checking.cancel()
            self._checking = None

    @work(thread=True, group="check", exit_on_error=False)
    def _check(self) -> None:
        from engine.dataset.check import check

        worker, dataset = get_current_worker(), self._need_dataset()

        def say(done: int, total: int) -> None:
            if not worker.is_cancelled:
                self.app.call_from_thread(self._say_checking, worker, done, total)

        say(0, 0)
        report = None
        try:
            report = check(
                dataset,
                model=self._sample.model or None,
                template=self._sample.template or None,
                max_length=MAX_LENGTH,
                settings=self.settings,
                progress=say,
                cancelled=lambda: worker.is_cancelled,
            )
        finally:
            if not worker.is_cancelled:
                self.app.call_from_thread(self._checked, worker, report)

    def _say_checking(self, worker: Worker[None], done: int, total: int) -> None:
        if worker is not self._checking:
            return  # cancelled while these words were on their way
        share = f" {100 * done // total} %" if total else ""
        self._say_verdict(_("Checking every row …") + share)

    def _say_verdict(self, words: str) -> None:
        self.query_one("#verdict", Static).update(words)

    def _checked(self, worker: Worker[None], report: CheckReport | None) -> None:
        if worker is not self._checking:
            return
        self._checking = None
        if report is None:  # the shell says why
            self._say_verdict(_("The check could not be made. c checks every row."))
            return
        self._report = report
        self._marks = marks(report)
        self._say_verdict("\n".join(verdict(report)))
        self._table.rows_ready()

    def action_next_finding(self) -> None:
        """Go to the next row that is broken or cut, around the end."""
        rows = sorted(self._marks)
        if rows:
            at = self._table.cursor or 0
            self._table.move_to(next((row for row in rows if row > at), rows[0]))

    def action_findings(self) -> None:
        """All findings with their remedies."""
        if self._report is not None:
            lines = findings(self._report) or [_("Every row is good.")]
            self.app.push_screen(Reading(_("Findings"), lines))

    # -- substitute -----------------------------------------------------------

    @work(exit_on_error=False)
    async def action_substitute(self) -> None:
        """Rename in the data: a new file is written, the original stays."""
        dataset = self._need_dataset()
        written = await self.app.push_screen_wait(Substitute(dataset.path, self.workspace))
        if written is not None:
            self._history.append(dataset.path)
            self._open(written)

    def action_undo(self) -> None:
        """Back to the file before the last substitution (the new one stays on disk)."""
        if self._history:
            self._open(self._history.pop())
        else:
            self.trouble(Problem(_("There is no substitution to undo")))

    def _need_dataset(self) -> Dataset:
        if self._dataset is None:
            raise _no_dataset()
        return self._dataset

    # -- on -------------------------------------------------------------------

    @on(VirtualTable.Selected)
    def _use(self) -> None:
        if self._dataset is not None:
            self.post_message(self.Opened(data=str(self._dataset.path)))
            self.post_message(self.Go("config"))


def _no_dataset() -> Problem:
    return Problem(_("No dataset is open"), "", _("Press o to open one."))
