"""One of a few values on one line: left and right change it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.cells import cell_len
from rich.text import Text
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widgets import Static

from engine.i18n import N_
from engine.text import one_line


class ChoiceLine(Static, can_focus=True):
    """Shows all of `choices` (value, words), the chosen one marked."""

    DEFAULT_CSS = """
    ChoiceLine {
        height: 1; width: 1fr; padding: 0 1; background: $boost;
        text-wrap: nowrap; text-overflow: ellipsis;
    }
    ChoiceLine:focus { text-style: bold; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("right,space", "step(1)", N_("next choice"), show=False, id="choice.next"),
        Binding("left", "step(-1)", N_("choice before"), show=False, id="choice.before"),
    ]

    class Changed(Message):
        """Another value is chosen."""

    def __init__(self, choices: Sequence[tuple[str, str]], value: str, id: str) -> None:
        super().__init__(id=id, markup=False)
        self.note = ""
        """What stands behind the choices."""
        self._choices: list[tuple[str, str]] = []
        self._at = 0
        self.offer(choices, value)

    def offer(self, choices: Sequence[tuple[str, str]], value: str) -> None:
        """Let one of `choices` be chosen; `value` is, if it is among them."""
        self._choices = [(one, one_line(words)) for one, words in choices]
        values = [one for one, _words in choices]
        self._at = values.index(value) if value in values else 0
        self.refresh()

    @property
    def value(self) -> str:
        """The chosen value; "" where there is nothing to choose."""
        return self._choices[self._at][0] if self._choices else ""

    def action_step(self, by: int) -> None:
        """Choose the value beside; round the ends."""
        if len(self._choices) < 2:
            return
        self._at = (self._at + by) % len(self._choices)
        self.refresh()
        self.post_message(self.Changed())

    def render(self) -> Text:
        """All words on one line; the chosen in brackets, so that it shows without colour.

        Where they do not fit: the chosen alone, and how many there are.
        """
        line = Text()
        room = self.content_size.width
        if sum(cell_len(words) + 3 for _value, words in self._choices) > room + 1:
            words = self._choices[self._at][1]
            count = f"{self._at + 1}/{len(self._choices)}"
            line.append(f"◂ [{words}] ▸", "bold").append(f"  {count}", "dim")
            return line
        for index, (_value, words) in enumerate(self._choices):
            chosen = index == self._at
            line.append(f"[{words}]" if chosen else f" {words} ", "bold" if chosen else "dim")
            line.append(" ")
        line.append(self.note, "dim")
        hint = "  ←→"
        if self.has_focus and len(self._choices) > 1 and line.cell_len + cell_len(hint) <= room:
            line.append(hint, "dim")
        return line
