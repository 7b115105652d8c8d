"""The config as the Python file that it is: read-only, with a way back to the form."""

from __future__ import annotations

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.screen import ModalScreen
from textual.widgets import Static

from engine.i18n import N_, _
from engine.text import clean
from tui.dialogs.fitted import Box
from tui.dialogs.keys_line import KeysLine
from tui.widgets.cells import beyond
from tui.widgets.table import Column, VirtualTable

ASIDE = 16
"""Cells by which long lines are moved at once."""


class RawView(ModalScreen["int | None"]):
    """Shows a config's text; returns the line that Enter was pressed on, else None."""

    BINDINGS = [
        Binding("escape,q,r", "dismiss(None)", N_("close"), id="config.raw-close"),
        Binding("left", f"sideways(-{ASIDE})", N_("to the left"), show=False, id="config.raw-left"),
        Binding(
            "right", f"sideways({ASIDE})", N_("to the right"), show=False, id="config.raw-right"
        ),
    ]

    def __init__(self, title: str, text: str, line: int) -> None:
        super().__init__()
        self._title = title
        self._line = line
        self._lines = highlighted(text)
        self._left = 0  # so many cells of each line are out of view

    def compose(self) -> ComposeResult:
        """Title, the file, the keys."""
        with Box(classes="dialog -tall -wide"):
            yield Static(self._title, classes="dialog-title", markup=False)
            yield VirtualTable([Column("", 5, "right"), Column("")])
            yield KeysLine(_("↑↓ ←→ PgUp PgDn  move      Enter  to this setting      Esc  close"))

    def on_mount(self) -> None:
        """Show the line that the form was on."""
        table = self.query_one(VirtualTable)
        table.focus()
        table.set_source(len(self._lines), self._cells, cursor=self._line - 1)

    def _cells(self, index: int) -> list[str | Text]:
        return [Text(str(index + 1), style="dim"), beyond(self._lines[index], self._left)]

    def action_sideways(self, by: int) -> None:
        """Move long lines by `by` cells, as far as the longest goes."""
        longest = max(line.cell_len for line in self._lines)
        if 0 <= self._left + by < longest:
            self._left += by
            self.query_one(VirtualTable).rows_ready()

    @on(VirtualTable.Selected)
    def _chosen(self, event: VirtualTable.Selected) -> None:
        self.dismiss(event.index + 1)


def highlighted(text: str) -> list[Text]:
    """The lines of a Python file in the terminal's own colours."""
    from rich.style import Style
    from rich.syntax import Syntax

    code = clean(text.removeprefix("\ufeff").replace("\r\n", "\n"))
    syntax = Syntax(code, "python", theme="ansi_dark", background_color="default")
    lines = Text(code)
    # Without the backgrounds: "default" is not the one that a dialog has.
    for start, end, style in syntax.highlight(code).spans:
        if isinstance(style, Style):
            shown = Style(color=style.color, bold=style.bold, dim=style.dim, italic=style.italic)
            lines.stylize(shown, start, end)
    return list(lines.split("\n", allow_blank=True))
