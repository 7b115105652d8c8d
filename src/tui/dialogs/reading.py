"""Screens that are only read: keys, notices, the details of an error, any long text."""

from __future__ import annotations

from collections.abc import Iterable

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

from engine.i18n import N_, _
from tui.dialogs.fitted import Fitted
from tui.dialogs.keys_line import KeysLine


class Reading(ModalScreen[None]):
    """Shows `lines` under `title`; scrolls; any of Esc, q, Enter closes it."""

    BINDINGS = [
        ("escape,q,enter,f1,f7", "dismiss(None)", N_("close")),
        ("j", "scroll(1)", N_("down")),
        ("k", "scroll(-1)", N_("up")),
    ]

    def __init__(self, title: str, lines: Iterable[str | Text]) -> None:
        super().__init__()
        self._title = title
        self._lines = list(lines)

    def compose(self) -> ComposeResult:
        """Title, the text, how to close."""
        with Fitted(classes="dialog -tall -wide"):
            yield Static(self._title, classes="dialog-title", markup=False)
            with VerticalScroll() as scroll:
                scroll.can_focus = True
                yield Static(
                    Text("\n").join(
                        line if isinstance(line, Text) else Text(line) for line in self._lines
                    ),
                    markup=False,
                )
            yield KeysLine(_("↑↓ PgUp PgDn  move      Esc  close"))

    def on_mount(self) -> None:
        """Arrow keys scroll at once."""
        self.query_one(VerticalScroll).focus()

    def action_scroll(self, by: int) -> None:
        """Scroll by `by` lines."""
        self.query_one(VerticalScroll).scroll_relative(y=by, animate=False)
