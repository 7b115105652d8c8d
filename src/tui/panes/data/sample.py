"""One row as the model sees it, or as it stands in the file while no model is chosen."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

from rich.text import Text
from textual import work
from textual.app import ComposeResult
from textual.containers import Vertical, VerticalScroll
from textual.message import Message
from textual.widgets import Static

from engine.i18n import _
from engine.settings import Settings
from engine.text import clean
from tui.panes.base import Pane, as_problem
from tui.panes.data.segments import sample_figures, sample_text
from tui.widgets.strips import Line

if TYPE_CHECKING:
    from engine.dataset.preview import Preview
    from engine.dataset.reader import Row

MAX_LENGTH = 2048


class Asked(NamedTuple):
    """What a sample is made of."""

    row: Row
    shape: str
    model: str
    template: str


class SampleView(Vertical):
    """Shows the row that it was given last; the tokenizer's process is asked in a thread."""

    class Blind(Message):
        """The model cannot be looked through and was let go."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(id="sample")
        self._settings = settings
        self._preview: Preview | None = None
        self._row: tuple[Row, str] | None = None
        self._asking = False
        self.model = ""
        """The model's folder; "" shows rows as they stand."""
        self.template = ""
        """The prompt template's name; "" leaves it to the tokenizer."""

    def compose(self) -> ComposeResult:
        """The text, which scrolls, and the figures below."""
        with VerticalScroll(id="sample-scroll"):
            yield Static("", id="sample-text", markup=False)
        yield Line(id="sample-figures")

    def on_unmount(self) -> None:
        """The tokenizer's process ends with the view."""
        if self._preview is not None:
            self._preview.close()

    def look_through(self, model: str, template: str) -> None:
        """Show the row again as `model` with `template` sees it."""
        self.model, self.template = model, template
        if self._row is not None:
            self.show(*self._row)

    def show(self, row: Row, shape: str) -> None:
        """Show `row` of a dataset of `shape`."""
        self._row = row, shape
        self.query_one(VerticalScroll).scroll_home(animate=False)
        if row.problem is not None:
            self._draw(Text(clean(row.problem), style="red"))
        elif self.model:
            self._ask()
        else:
            raw = json.dumps(row.value, ensure_ascii=False, indent=1)
            self._draw(Text(clean(raw)), _("t  choose a model to see what it will see"))

    def say(self, words: str) -> None:
        """Show `words` in place of a row."""
        self._row = None
        self._draw(Text(words))

    def _draw(self, text: Text, figures: str = "") -> None:
        self.query_one("#sample-text", Static).update(text)
        self.query_one(Line).say(Text(f" {figures}", style="dim"))

    def _wanted(self) -> Asked | None:
        return Asked(*self._row, self.model, self.template) if self._row is not None else None

    def _ask(self) -> None:
        # One question at a time: whoever moves on while it is answered gets the
        # row that is wanted by then, and no queue of threads builds up.
        asked = self._wanted()
        if self._asking or asked is None:
            return
        if self._preview is None:
            from engine.dataset.preview import Preview

            self._preview = Preview(self._settings)
            self._draw(Text(_("Starting the tokenizer …"), style="dim"))
        self._asking = True
        self._sample(self._preview, asked)

    @work(thread=True, group="sample", exit_on_error=False)
    def _sample(self, preview: Preview, asked: Asked) -> None:
        figures, opened = "", False
        try:
            used = preview.open(asked.model, asked.template or None, MAX_LENGTH)
            opened = True
            sample = preview.sample(asked.row.value, asked.shape)
            text, figures = sample_text(sample), f"{used} · {sample_figures(sample)}"
        except Exception as error:  # shown where the sample would be
            problem = as_problem(error)
            text = Text(clean("\n".join(problem.lines())), style="red")
            if not opened:  # not this row's fault
                self.post_message(Pane.Trouble(problem))
        self.app.call_from_thread(self._answered, asked, text, figures, opened)

    def _answered(self, asked: Asked, text: Text, figures: str, opened: bool) -> None:
        self._asking = False
        if not opened and asked.model == self.model:
            self.model = ""  # else each further row would fail with the same words
            self.post_message(self.Blind())
        elif asked == self._wanted():
            self._draw(text, figures)
            return
        if self._row is not None:
            self.show(*self._row)
