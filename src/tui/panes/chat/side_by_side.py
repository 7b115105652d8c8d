"""The whole answers to one question of a set, side by side."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

from engine.chat.set_files import mark
from engine.chat.set_table import Cell, Table
from engine.i18n import N_, _
from engine.text import clean, one_line
from tui.dialogs.fitted import Box
from tui.dialogs.keys_line import KeysLine

BESIDE = 3
"""So many answers stand beside each other; more stand below each other."""


class SideBySide(ModalScreen["int | None"]):
    """Walks through the questions of `table`; returns the number of the last one shown."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,enter,q", "close", N_("back")),
        Binding("right,n", "turn(1)", N_("next")),
        Binding("left,p", "turn(-1)", N_("previous")),
        Binding("down,j", "scroll(1)", N_("down")),
        Binding("up,k", "scroll(-1)", N_("up")),
        Binding("pagedown,space", "scroll(10)", N_("page down")),
        Binding("pageup", "scroll(-10)", N_("page up")),
    ]
    DEFAULT_CSS = """
    SideBySide #asked { height: auto; max-height: 5; color: $primary; text-style: bold; }
    SideBySide.-low #asked { max-height: 2; }
    SideBySide #beside { height: auto; }
    SideBySide .whole { width: 1fr; height: auto; padding: 0 1; }
    SideBySide .-below > .whole { width: 100%; margin-bottom: 1; }
    """

    def __init__(self, table: Table, index: int) -> None:
        super().__init__()
        self._table = table
        self._index = index

    def compose(self) -> ComposeResult:
        """The question, what is right, a column for each model, the keys."""
        below = len(self._table.models) > BESIDE
        with Box(classes="dialog -full"):
            yield Static("", id="asked", markup=False)
            yield Static("", id="wanted", classes="dim", markup=False)
            with (
                VerticalScroll() as scroll,
                (Vertical if below else Horizontal)(id="beside") as box,
            ):
                scroll.can_focus = False
                box.set_class(below, "-below")
                for slot in self._table.models:
                    yield Static("", id=f"whole-{slot}", classes="whole", markup=False)
            yield KeysLine(_("←→  other questions      ↑↓  move      Esc  back"))

    def on_mount(self) -> None:
        """Show the question that was chosen."""
        self._draw()

    def action_close(self) -> None:
        """Back to the table, at this question."""
        self.dismiss(self._index)

    def action_turn(self, step: int) -> None:
        """Another question."""
        self._index = (self._index + step) % len(self._table.items)
        self._draw()
        self.query_one(VerticalScroll).scroll_home(animate=False)

    def action_scroll(self, by: int) -> None:
        """Scroll all answers."""
        self.query_one(VerticalScroll).scroll_relative(y=by, animate=False)

    def _draw(self) -> None:
        item = self._table.items[self._index]
        place = f"{self._index + 1}/{len(self._table.items)}"
        self.query_one("#asked", Static).update(f"{place}  {clean(item.question)}")
        wanted = _("right: {what}").format(what=one_line(item.wanted)) if item.wanted else ""
        self.query_one("#wanted", Static).update(wanted)
        for slot, name in self._table.models.items():
            cell = self._table.cell(self._index, slot)
            lines = list(_lines(slot, name, cell))
            self.query_one(f"#whole-{slot}", Static).update(Text("\n").join(lines))


def _lines(slot: str, name: str, cell: Cell | None) -> Iterator[Text]:
    yield Text(f"{slot} {one_line(name)}", style="bold")
    if cell is None:
        yield Text(_("not asked yet"), style="dim")
        return
    if cell.error:
        yield Text(clean(cell.error), style="red")
        return
    told = {True: _("right"), False: _("wrong"), None: ""}[cell.right]
    words = [told, _("differs from the first") if cell.differs else ""]
    style = {True: "green", False: "red", None: "dim"}[cell.right]
    yield Text(f"{mark(cell)} {', '.join(filter(None, words))}".strip(), style=style)
    yield Text(clean(cell.answer))
