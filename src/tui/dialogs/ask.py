"""A dialog with a few text fields: Enter goes on, the last one accepts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from rich.cells import cell_len
from textual import on, work
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.widgets import Input, Static
from textual.widgets.input import Selection

from engine.errors import Problem
from engine.i18n import N_, _
from tui.dialogs.fitted import Fitted
from tui.dialogs.kept import Kept
from tui.dialogs.keys_line import KeysLine
from tui.dialogs.working import Working
from tui.widgets.field import Field

STACKED = 3
"""So many fields stand below their labels; more stand beside them, so that what
is wrong still has its place on a screen of 24 rows."""
WIDEST = 44
"""Cells of the longest label that stands beside its field."""


class Ask(Working["list[str] | None"]):
    """Asks for one text per label and returns them, or None when put away.

    Args:
        title: what the texts are for.
        fields: (label, text to begin with) of each field.
        check: raises `Problem` for texts that will not do; it is shown, and the
            dialog stays open, so that nothing typed is lost. Called in a thread: it
            may ask or write to a disk, which answers when it likes.
        note: a line of explanation.

    What was typed before Esc stands there again when the same is asked again.
    """

    BINDINGS = [("escape", "back", N_("back"))]

    def __init__(
        self,
        title: str,
        fields: Sequence[tuple[str, str]],
        check: Callable[[list[str]], object] | None = None,
        note: str = "",
    ) -> None:
        super().__init__()
        self._title = title
        self._fields = fields
        self._check = check
        self._checking = False
        self._note = note
        labels = [label for label, _text in fields]
        self._kept = Kept("\0".join((title, *labels)), [text for _label, text in fields])

    def compose(self) -> ComposeResult:
        """Title, labelled fields, a place for what is wrong, the keys."""
        with Fitted(classes="dialog"):
            yield Static(self._title, classes="dialog-title", markup=False)
            if self._note:
                yield Static(self._note, classes="dim", markup=False)
            labels = [label for label, _text in self._fields]
            widest = max(map(cell_len, labels))
            for label, text in zip(labels, self._kept.texts(self.app), strict=True):
                shown = Static(label, classes="dialog-label", markup=False)
                if len(self._fields) > STACKED:
                    shown.styles.width = min(widest, WIDEST) + 1
                    yield Horizontal(shown, Field(text), classes="ask-row")
                else:
                    yield shown
                    yield Field(text)
            yield Static("", id="wrong", classes="dialog-wrong", markup=False)
            several = _("Enter  accept      Tab  next field      Esc  back")
            one = _("Enter  accept      Esc  back")
            yield KeysLine(several if len(labels) > 1 else one)

    def on_mount(self) -> None:
        """Typing goes into the first field; what was kept in it goes when one types."""
        field = self.query(Field).first()
        field.focus()
        if field.value != self._fields[0][1]:
            field.selection = Selection(0, len(field.value))

    def action_back(self) -> None:
        """Put the dialog away and keep what was typed."""
        self._kept.keep(self.app, [field.value for field in self.query(Field)])
        self.dismiss(None)

    @on(Input.Submitted)
    def _accept(self) -> None:
        values = [field.value for field in self.query(Field)]
        if self._check is None:
            self._kept.forget(self.app)
            self.dismiss(values)
        elif not self._checking:
            self._checking = True
            self._look(self._check, values)

    @work(exit_on_error=False)
    async def _look(self, check: Callable[[list[str]], object], values: list[str]) -> None:
        try:
            await asyncio.to_thread(check, values)
        except Problem as problem:
            self.query_one("#wrong", Static).update("\n".join(problem.lines()))
        else:
            self._kept.forget(self.app)
            self.done(values)
        finally:
            self._checking = False
