"""The list of settings, and the field that opens over a value to edit it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from rich.text import Text
from textual.binding import Binding
from textual.geometry import Region
from textual.message import Message
from textual.widgets import Input

from engine.config.text.written import in_effect
from engine.i18n import N_, _
from engine.text import one_line
from tui.panes.config.rows import Row, shown_value, worst
from tui.widgets.cells import tail
from tui.widgets.table import Column, Kind, VirtualTable

if TYPE_CHECKING:
    from engine.config.known.fields import Field

NAME, VALUE = 1, 2
NAME_WIDTH, LONG_NAME = 30, 46
"""Cells of the settings' names, and where there is much room."""
_MUCH = 100
"""Cells of the list from which there is."""
_LEAST_WAS = 12
"""Cells below which a former value would be cut to nothing."""
LEVEL_MARKS = {"error": "✗", "warning": "!", "info": "i"}


class FieldTable(VirtualTable):
    """Settings under headings; the cursor stands on settings only."""

    def __init__(self, id: str) -> None:
        super().__init__(
            [
                Column("", 3),
                Column(N_("setting"), NAME_WIDTH),
                Column(N_("value")),
            ],
            id=id,
        )
        self._rows: Sequence[Row] = ()
        self._was: Mapping[str, str] = {}
        self._levels: Mapping[str, str] = {}

    def on_resize(self) -> None:
        """Long names have their whole where the values do not need the room."""
        width = LONG_NAME if self._width >= _MUCH else NAME_WIDTH
        if self.columns[NAME].width != width:
            first, name, value = self.columns
            self.columns = (first, replace(name, width=width), value)
            self.refresh()
        super().on_resize()

    def show(self, rows: Sequence[Row], was: Mapping[str, str], levels: Mapping[str, str]) -> None:
        """Show other contents; the cursor stays on the setting that it was on.

        Args:
            rows: headings and settings.
            was: the code that changed settings have in the config's origin.
            levels: the worst finding's level of settings that have one.
        """
        name = self.field.name if self.field else ""
        self._rows, self._was, self._levels = rows, was, levels
        at = next((i for i, row in enumerate(rows) if row.field and row.field.name == name), 1)
        self.set_source(len(rows), self._cells, self._kind_of, at)
        self._show_heading()

    @property
    def field(self) -> Field | None:
        """The setting under the cursor."""
        at = self.cursor
        return self._rows[at].field if at is not None and at < len(self._rows) else None

    @property
    def section(self) -> str:
        """The section of the setting under the cursor."""
        at = self.cursor
        return self._rows[at].section if at is not None and at < len(self._rows) else ""

    def go_to(self, name: str) -> bool:
        """Put the cursor on the setting `name`, or on the one that holds it; whether there is."""
        for wanted in (name, *_owners(name)):
            for index, row in enumerate(self._rows):
                if row.field and (
                    row.field.name == wanted or row.field.name.endswith("." + wanted)
                ):
                    self.move_to(index)
                    return True
        return False

    def go_to_section(self, section: str) -> None:
        """Put the cursor on the first setting of `section`."""
        for index, row in enumerate(self._rows):
            if row.field and row.section == section:
                self.move_to(index)
                return

    def go_to_line(self, line: int) -> None:
        """Put the cursor on the setting that stands on `line` of the file or last before it."""
        before = [
            (row.field.line, index)
            for index, row in enumerate(self._rows)
            if row.field and row.field.line <= line
        ]
        if before:
            self.move_to(max(before)[1])

    def move_to(self, index: int) -> None:
        """Put the cursor on row `index`, past a heading in the way."""
        index = max(min(index, self.count - 1), 0)
        if self.count and self._rows[index].field is None:
            up = index < (self.cursor or 0) and index > 0
            index += -1 if up else 1
        super().move_to(index)
        self._show_heading()

    def _show_heading(self) -> None:
        at = self.cursor
        if at and self._rows[at - 1].field is None and self.scroll_offset.y == at:
            self.scroll_to(y=at - 1, animate=False, immediate=True)

    def value_region(self) -> Region | None:
        """Where the value under the cursor is drawn, in cells of this table."""
        at = self.cursor
        if at is None:
            return None
        widths = self._widths(self._width)
        left = sum(width + 1 for width in widths[:VALUE] if width)
        return Region(left, at - self.scroll_offset.y + 1, max(widths[VALUE], 8), 1)

    def _cells(self, index: int) -> Sequence[str | Text]:
        row = self._rows[index]
        if row.field is None:
            return ["", Text(row.section, style="bold"), ""]
        name = row.field.name
        was = self._was.get(name)
        changed = "●" if was is not None else " "
        level = LEVEL_MARKS.get(self._levels.get(name, ""), " ")
        width = self._widths(self._width)[VALUE]
        shown = one_line(shown_value(row.field))
        if row.is_path:
            shown = tail(shown, width)
        value = Text(shown)
        effective = one_line(row.field.default if not row.field.line else in_effect(row.field))
        if effective:
            value.append(f"  {'' if not row.field.line else '= '}{effective}", "dim")
        room = width - value.cell_len
        if was is not None and room >= _LEAST_WAS:  # else the help alone tells it
            value.append("  " + _("was {value}").format(value=one_line(was) or "–"), "dim")
        return [f" {changed}{level}", tail(name, self.columns[NAME].width or 0), value]

    def _kind_of(self, index: int) -> Kind:
        field = self._rows[index].field
        return _kind(self._levels.get(field.name, "") if field else "")


def _kind(level: str) -> Kind:
    if level == "error":
        return "error"
    return "warning" if level == "warning" else ""


def _owners(name: str) -> list[str]:
    """``a.b.c`` → ``a.b``, ``a``."""
    parts = name.split(".")
    return [".".join(parts[:end]) for end in range(len(parts) - 1, 0, -1)]


class SectionTable(VirtualTable):
    """The headings as a list of their own, with the worst mark inside each."""

    def __init__(self, id: str) -> None:
        super().__init__([Column("", 2), Column(N_("section"))], id=id)
        self._sections: list[str] = []
        self._levels: dict[str, str] = {}
        self._checked = False

    def show(self, rows: Sequence[Row], levels: Mapping[str, str], checked: bool) -> None:
        """Show the sections of `rows`.

        Args:
            rows: headings and settings.
            levels: those of findings, by setting.
            checked: whether preflight looked: where it found nothing, all is well.
        """
        self._checked = checked
        self._sections = list(dict.fromkeys(row.section for row in rows))
        self._levels = dict.fromkeys(self._sections, "")
        for row in rows:
            if row.field:
                level = levels.get(row.field.name, "")
                self._levels[row.section] = worst(self._levels[row.section], level)
        self.set_source(len(self._sections), self._cells, self._kind_of, self.cursor or 0)

    @property
    def section(self) -> str:
        """The section under the cursor."""
        return self._sections[self.cursor] if self.cursor is not None else ""

    def follow(self, section: str) -> None:
        """Stand on `section`: the list of settings has moved into it."""
        if section in self._sections and not self.has_focus:
            self.move_to(self._sections.index(section))

    def _cells(self, index: int) -> Sequence[str]:
        section = self._sections[index]
        well = "✓" if self._checked else " "
        return [" " + LEVEL_MARKS.get(self._levels[section], well), section]

    def _kind_of(self, index: int) -> Kind:
        return _kind(self._levels[self._sections[index]])


class Editor(Input):
    """One line to edit a value in; lies over the value's place in the list."""

    BINDINGS = [Binding("escape", "leave", N_("back"), id="config.leave")]

    class Left(Message):
        """Escape: the value stays, and what was typed is kept for the next time."""

        def __init__(self, name: str, text: str) -> None:
            super().__init__()
            self.name = name
            self.text = text

    def __init__(self, id: str) -> None:
        super().__init__(id=id, select_on_focus=False, compact=True)
        self.cursor_blink = False
        self.field_name = ""
        self.first_text = ""

    def open(self, name: str, text: str, draft: str | None = None) -> None:
        """Edit the setting `name`, whose value is `text`; begin with `draft` if there is one."""
        self.field_name, self.first_text = name, text
        self.value = text if draft is None else draft
        self.cursor_position = len(self.value)
        self.add_class("-open")
        self.focus()

    def close(self) -> None:
        """Go away."""
        self.remove_class("-open")
        self.field_name = ""

    @property
    def is_open(self) -> bool:
        """Whether a value is being edited."""
        return bool(self.field_name)

    def place(self, region: Region) -> None:
        """Lie on `region` of the list."""
        self.styles.offset = (region.x, region.y)
        self.styles.width = region.width

    def action_leave(self) -> None:
        """Back to the list."""
        self.post_message(self.Left(self.field_name, self.value))
