"""One row as the model sees it, or as it stands in the file while no model is chosen."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, NamedTuple

from rich.text import Text
from textual import work
from textual.app import ComposeResult
from textual.containers import Vertical, VerticalScroll
from textual.message import Message
from textual.widgets import Static

from engine.i18n import _, sentences
from engine.text import clean, one_line
from tui.panes.base import Pane, as_problem
from tui.panes.data.eyes import Eyes
from tui.panes.data.facts import Facts
from tui.panes.data.segments import mark_matches, sample_figures, sample_text, value_text
from tui.widgets.strips import Line

if TYPE_CHECKING:
    from engine.dataset.preview import Sample
    from engine.dataset.reader import Row

_FLAWS = 5
"""Flaws named of one row."""


class Asked(NamedTuple):
    """What a sample is made of."""

    row: Row
    shape: str
    wished: tuple[str, str, int]


class SampleView(Vertical):
    """Shows the row that it was given last; the tokenizer's process is asked in a thread.

    Args:
        eyes: through which model and template.
        facts: what a check has said of the rows.
    """

    class Answered(Message):
        """The model has been looked through: it can be asked for more."""

        def __init__(self, row: int, tokens: int) -> None:
            super().__init__()
            self.row, self.tokens = row, tokens

    class Blind(Message):
        """The model cannot be looked through and was let go."""

    def __init__(self, eyes: Eyes, facts: Facts) -> None:
        super().__init__(id="sample")
        self._eyes = eyes
        self._facts = facts
        self._row: tuple[Row, str] | None = None
        self._sample: Sample | None = None
        self._shown: Asked | None = None
        self._used = ""
        self._asking = False
        self.plain = bool(os.environ.get("NO_COLOR"))
        """Whether the mask is told by signs instead of colours."""
        self.pattern: re.Pattern[str] | None = None
        """What is looked for, and shown wherever it stands."""

    def compose(self) -> ComposeResult:
        """The text, which scrolls, and the figures below."""
        with VerticalScroll(id="sample-scroll"):
            yield Static("", id="sample-text", markup=False)
        yield Line(id="sample-figures")

    def show(self, row: Row, shape: str) -> None:
        """Show `row` of a dataset of `shape`."""
        if (row, shape) != self._row:
            self.query_one(VerticalScroll).scroll_home(animate=False)
        self._row, self._sample = (row, shape), None
        flaws = _flaws(row, shape)
        if flaws:
            self._draw(flaws)
        elif not shape:
            self._draw(value_text(row.value), _("m  say what the columns mean"))
        elif not self._eyes.model:
            self._draw(value_text(row.value), _("t  choose a model to see what it will see"))
        else:
            self._ask()

    def again(self) -> None:
        """Something that the view depends on has changed."""
        if self._sample is not None and self._shown == self._wanted():
            self._draw_sample(self._sample)
        elif self._row is not None:
            self.show(*self._row)

    def say(self, words: str) -> None:
        """Show `words` in place of a row."""
        self._row = self._sample = None
        self._draw(Text(words))

    def _draw(self, text: Text, figures: str = "") -> None:
        said = self._facts.reasons(self._row[0].index) if self._row is not None else []
        above = ("\n".join([*map(one_line, said), ""]) if said else "", "yellow")
        whole = Text.assemble(above, mark_matches(text, self.pattern))
        self.query_one("#sample-text", Static).update(whole)
        self.query_one(Line).say(Text(f" {figures}", style="dim"))

    def _draw_sample(self, sample: Sample) -> None:
        row = self._row[0].index if self._row is not None else -1
        figures = sample_figures(sample, self._facts.packed_with(row))
        if self._used != self._eyes.template:  # chosen by the tokenizer: the head does not say it
            figures = f"{self._used} · {figures}"
        if self._eyes.split_marks:
            marks = one_line(" ".join(self._eyes.split_marks[:2]))
            strange = _("! {marks} is plain text to this tokenizer: another template?")
            figures = f"{strange.format(marks=marks)} · {figures}"
        self._draw(sample_text(sample, self.plain), figures)

    def _wanted(self) -> Asked | None:
        return Asked(*self._row, self._eyes.wished) if self._row is not None else None

    def _ask(self) -> None:
        # One question at a time: whoever moves on while it is answered gets the
        # row that is wanted by then, and no queue of threads builds up.
        asked = self._wanted()
        if self._asking or asked is None:
            return
        if not self._eyes.open:
            self._draw(Text(_("Starting the tokenizer …"), style="dim"))
        self._asking = True
        self._look(asked)

    @work(thread=True, group="sample", exit_on_error=False)
    def _look(self, asked: Asked) -> None:
        used, opened = "", False
        answer: Sample | Text
        try:
            used = self._eyes.ready(asked.shape)
            opened = True
            answer = self._eyes.sample(asked.row.value, asked.shape)
        except Exception as error:  # shown where the sample would be
            problem = as_problem(error)
            answer = Text(clean("\n".join(problem.lines())), style="red")
            if not opened:  # not this row's fault
                self.post_message(Pane.Trouble(problem))
        self.app.call_from_thread(self._answered, asked, used, answer, opened)

    def _answered(self, asked: Asked, used: str, answer: Sample | Text, opened: bool) -> None:
        self._asking = False
        if not opened:
            if asked.wished == self._eyes.wished:  # else each further row would fail alike
                self._eyes.shut(self._eyes.model)
                self.post_message(self.Blind())
        elif asked == self._wanted():
            self._used = used
            tokens = 0
            if isinstance(answer, Text):
                self._draw(answer)
            else:
                self._sample, self._shown = answer, asked
                tokens = answer.tokens + answer.cut
                self._draw_sample(answer)
            self.post_message(self.Answered(asked.row.index, tokens))
            return
        if self._row is not None:
            self.show(*self._row)


def _flaws(row: Row, shape: str) -> Text | None:
    """Why XTuner cannot be given `row`, over the row as it stands; None when it can."""
    from engine.dataset import shapes

    if row.problem is not None:
        return Text(clean(row.problem), style="red")
    found = shapes.errors(shapes.by_name(shape).check(row.index, row.value)) if shape else []
    if not found:
        return None
    words = [one_line("✗ " + sentences(one.reason, one.remedy)) for one in found[:_FLAWS]]
    return Text.assemble(("\n".join(words) + "\n", "red"), value_text(row.value))
