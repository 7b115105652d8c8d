"""The field that a question is written in: several lines, a memory of what was asked."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from textual import events
from textual.binding import Binding
from textual.message import Message
from textual.widgets import TextArea

from engine.i18n import N_

_THE_SHELLS = ("f6", "f7")


class Question(TextArea, inherit_bindings=False):
    """Enter sends; ^J begins a new line, and a pasted text keeps its lines.

    The arrow up in the first line brings back what was asked before.
    """

    DEFAULT_CSS = """
    Question {
        height: auto; max-height: 6; min-height: 1; padding: 0 1;
        border: none; background: $boost;
        &:focus { border: none; background: $boost; }
    }
    """
    BINDINGS = [
        # Without those for which the shell has another meaning everywhere.
        *(
            binding
            for binding in TextArea.BINDINGS
            if isinstance(binding, Binding) and binding.key not in _THE_SHELLS
        ),
        Binding("ctrl+j", "break", N_("new line"), show=False, id="question.break"),
        Binding("ctrl+u", "wipe", N_("empty the field"), show=False, id="question.wipe"),
    ]

    class Sent(Message):
        """A question is ready; who takes it empties the field."""

        def __init__(self, text: str) -> None:
            super().__init__()
            self.text = text

    def __init__(self, placeholder: str, memory: Callable[[], Iterable[str]], id: str) -> None:
        super().__init__(
            "",
            id=id,
            placeholder=placeholder,
            compact=True,
            soft_wrap=True,
            show_line_numbers=False,
            highlight_cursor_line=False,
            tab_behavior="focus",
        )
        self.cursor_blink = False
        self._memory = memory
        self._at = -1
        """Which remembered question is shown; -1 is what was being written."""
        self._draft = ""
        self._replaced = ""
        """What stood there before it was taken away."""

    def put(self, text: str) -> None:
        """Replace what stands there; the arrow down in an empty field brings it back."""
        self._replaced = self.text or self._replaced
        self.text = text
        self.move_cursor(self.document.end)

    async def _on_key(self, event: events.Key) -> None:
        if event.key == "enter":
            event.stop()
            event.prevent_default()
            self._send()
        elif event.key == "up" and self.cursor_location[0] == 0:
            event.stop()
            event.prevent_default()
            self._remember(1)
        elif event.key == "down" and self.cursor_location[0] == self.document.line_count - 1:
            event.stop()
            event.prevent_default()
            self._remember(-1)

    def action_break(self) -> None:
        """Begin a new line."""
        self.insert("\n")

    def action_wipe(self) -> None:
        """Take everything away; the arrow down brings it back."""
        self.put("")

    def _send(self) -> None:
        text = self.text.strip()
        if text:
            self._at, self._draft = -1, ""
            self._replaced = text
            self.post_message(self.Sent(text))

    def _remember(self, step: int) -> None:
        known = list(self._memory())
        at = max(-1, min(len(known) - 1, self._at + step))
        if at == self._at:
            if step < 0 and not self.text:
                self.put(self._replaced)
            return
        if self._at == -1:
            self._draft = self.text
        self._at = at
        self.put(self._draft if at == -1 else known[at])
