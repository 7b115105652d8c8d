"""Rows at the left, one row as the model sees it at the right, the check's verdict below."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Container, VerticalScroll
from textual.widget import Widget
from textual.widgets import Static
from textual.worker import get_current_worker

from engine.errors import Problem
from engine.i18n import N_, _, ngettext
from engine.text import clean, one_line
from tui.dialogs.choose import Choice, Choose
from tui.dialogs.reading import Reading
from tui.panes.base import Pane
from tui.panes.data.segments import sample_figures, sample_text
from tui.panes.data.substitute import Substitute
from tui.widgets.strips import Line
from tui.widgets.table import Cell, Column, Kind, VirtualTable

if TYPE_CHECKING:
    from engine.dataset.check import CheckReport
    from engine.dataset.preview import Preview
    from engine.dataset.reader import Dataset, Row

PAGE = 200
"""Rows read at once."""
SUFFIXES = (".json", ".jsonl")
MAX_LENGTH = 2048
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
            with VerticalScroll(id="sample"):
                yield Static("", id="sample-text", markup=False)
        yield Line(id="sample-figures")
        yield Static("", id="verdict", markup=False)

    def on_mount(self) -> None:
        """Nothing is open yet."""
        self._dataset: Dataset | None = None
        self._pages: dict[int, list[Row]] = {}
        self._preview: Preview | None = None
        self._model = ""
        self._template = ""
        self._report: CheckReport | None = None
        self._marks: dict[int, str] = {}
        self._history: list[Path] = []
        self._table = self.query_one("#rows", VirtualTable)

    def on_unmount(self) -> None:
        """The tokenizer's process ends with the pane."""
        if self._preview is not None:
            self._preview.close()

    def home(self) -> Widget:
        """The rows."""
        return self._table

    def activate(self) -> None:
        """Open what was open last; on an empty workspace say how to begin."""
        last = self.workspace.last()
        self._model = self._model or last.base
        self._template = self._template or last.template
        if self._dataset is None:
            if last.data and Path(last.data).exists():
                self._open(Path(last.data))
            else:
                self._say_how_to_begin()

    def _say_how_to_begin(self) -> None:
        self.query_one("#sample-text", Static).update(
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
        self._dataset, self._pages = dataset, {0: first}
        self._report, self._marks = None, {}
        count = dataset.rows if dataset.rows is not None else len(first)
        self._table.set_source(count, self._cells, self._kind)
        self._draw_head()
        self.query_one("#verdict", Static).update(_("Not checked yet: c checks every row."))
        self._show_row(0)
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
        right = " · ".join(part for part in (Path(self._model).name, self._template) if part)
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

    # -- one row as the model sees it -----------------------------------------

    def _show_row(self, index: int) -> None:
        row = self._row(index)
        if row is None or self._dataset is None:
            return
        self.query_one("#sample", VerticalScroll).scroll_home(animate=False)
        if row.problem is not None:
            self._say_sample(Text(clean(row.problem), style="red"), "")
        elif self._model:
            self._sample(index, row.value)
        else:
            raw = json.dumps(row.value, ensure_ascii=False, indent=1)
            self._say_sample(Text(clean(raw)), _("t  choose a model to see what it will see"))

    @work(thread=True, exclusive=True, group="sample", exit_on_error=False)
    def _sample(self, index: int, value: Any) -> None:
        from engine.dataset.preview import Preview

        worker = get_current_worker()
        if self._preview is None:
            self._preview = Preview(self.settings)
            self.app.call_from_thread(
                self._say_sample, Text(_("Starting the tokenizer …"), style="dim"), ""
            )
        preview, dataset = self._preview, self._dataset
        template = preview.open(self._model, self._template or None, MAX_LENGTH)
        if worker.is_cancelled or dataset is None:
            return
        sample = preview.sample(value, dataset.shape)
        if not worker.is_cancelled and self._table.cursor == index:
            figures = f"{template} · {sample_figures(sample)}"
            self.app.call_from_thread(self._say_sample, sample_text(sample), figures)

    def _say_sample(self, text: Text, figures: str) -> None:
        self.query_one("#sample-text", Static).update(text)
        self.query_one("#sample-figures", Line).say(Text(f" {figures}", style="dim"))

    # -- model and template ---------------------------------------------------

    @work(exit_on_error=False)
    async def action_template(self) -> None:
        """Choose whose tokenizer and which prompt template to look through."""
        from engine.dataset.preview import template_names

        models = sorted(self.workspace.models.glob("*/config.json"))
        choices = [Choice(str(one.parent), self.workspace.relative(one.parent)) for one in models]
        model = await self.app.push_screen_wait(
            Choose(_("Model"), choices, free=True, note=_("Its tokenizer is used."))
        )
        if not model:
            return
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
            self._model = str(self.workspace.resolve(model))
            self._template = "" if template == OWN else template
            self.post_message(self.Opened(base=self._model, template=self._template))
            self._draw_head()
            self._show_row(self._table.cursor or 0)

    # -- check ----------------------------------------------------------------

    def action_check(self) -> None:
        """Check every row in the background; again to cancel."""
        if self._dataset is not None:
            self._check()

    @work(thread=True, exclusive=True, group="check", exit_on_error=False)
    def _check(self) -> None:
        from engine.dataset.check import check

        worker, dataset = get_current_worker(), self._dataset
        assert dataset is not None
        say = partial(self.app.call_from_thread, self._say_checking)
        say(0, 0)
        report = check(
            dataset,
            model=self._model or None,
            template=self._template or None,
            max_length=MAX_LENGTH,
            settings=self.settings,
            progress=say,
            cancelled=lambda: worker.is_cancelled,
        )
        if not worker.is_cancelled:
            self.app.call_from_thread(self._checked, dataset, report)

    def _say_checking(self, done: int, total: int) -> None:
        share = f" {100 * done // total} %" if total else ""
        self.query_one("#verdict", Static).update(_("Checking every row …") + share)

    def _checked(self, dataset: Dataset, report: CheckReport) -> None:
        if dataset is not self._dataset:
            return
        self._report = report
        self._marks = dict.fromkeys(report.cut or (), "✂")
        self._marks |= {finding.row: "✗" for finding in report.broken}
        self.query_one("#verdict", Static).update("\n".join(verdict(report)))
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
            lines = [
                f"{finding.row:>7}  {one_line(finding.reason)}  {one_line(finding.remedy)}"
                for finding in self._report.broken
            ]
            self.app.push_screen(Reading(_("Findings"), lines or [_("Every row is good.")]))

    # -- substitute -----------------------------------------------------------

    @work(exit_on_error=False)
    async def action_substitute(self) -> None:
        """Rename in the data: a new file is written, the original stays."""
        dataset = self._dataset
        if dataset is None:
            raise Problem(_("No dataset is open"), "", _("Press o to open one."))
        written = await self.app.push_screen_wait(Substitute(dataset.path, self.workspace))
        if written is not None:
            self._history.append(dataset.path)
            self._open(written)

    def action_undo(self) -> None:
        """Back to the file before the last substitution (the new one stays on disk)."""
        if self._history:
            self._open(self._history.pop())

    # -- on -------------------------------------------------------------------

    @on(VirtualTable.Selected)
    def _use(self) -> None:
        if self._dataset is not None:
            self.post_message(self.Opened(data=str(self._dataset.path)))
            self.post_message(self.Go("config"))


def verdict(report: CheckReport) -> Iterable[str]:
    """A check in two lines: the rows, then what training will make of them."""
    parts = [_("{good:,} good").format(good=report.good)]
    if report.broken:
        first = report.broken[0]
        parts.append(
            ngettext("{count} broken", "{count} broken", len(report.broken)).format(
                count=len(report.broken)
            )
            + f": {_('row')} {first.row} {one_line(first.reason)}"
        )
    if report.cut:
        parts.append(
            _("{count} cut at max_length (row {row})").format(
                count=len(report.cut), row=report.cut[0]
            )
        )
    yield " · ".join(parts)
    if report.steps_per_epoch is not None:
        yield _(
            "{samples} samples · {steps} steps per epoch (batch 1 × 1 GPU × accumulation 1)"
        ).format(samples=report.packed_samples, steps=report.steps_per_epoch)
    else:
        yield _("t chooses a model: then tokens and steps are counted too.")
