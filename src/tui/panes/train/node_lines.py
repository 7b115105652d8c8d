"""The line for each node of a run that is started by hand, to be copied to its terminal."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from typing import ClassVar

from rich.cells import cell_len
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

from engine.i18n import N_, _
from engine.text import clean
from tui.dialogs.keys_line import KeysLine


class NodeLines(ModalScreen[None]):
    """Shows `lines`, one a node, over the whole screen without borders.

    So a terminal's own selection takes them as they are: a line that is too long
    goes on behind a backslash, as a shell reads it. A number copies a line by OSC 52.
    """

    DEFAULT_CSS = """
    NodeLines { align: left top; background: $background; }
    NodeLines VerticalScroll { height: 1fr; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,enter,ctrl+l", "dismiss(None)", N_("close"), id="nodes.close"),
        Binding("j", "scroll(1)", N_("down"), show=False, id="nodes.down"),
        Binding("k", "scroll(-1)", N_("up"), show=False, id="nodes.up"),
        *(
            Binding(str(number), f"copy({number})", N_("copy a node's line"), show=False)
            for number in range(1, 10)
        ),
    ]

    def __init__(self, lines: Sequence[str]) -> None:
        super().__init__()
        self._lines = lines

    def compose(self) -> ComposeResult:
        """A title, then a paragraph for each node."""
        title = _("A line for each node. Node 1 is this machine: its line is started for you.")
        yield Static(title, classes="dialog-title", markup=False)
        with VerticalScroll():
            yield Static("", id="lines", markup=False)
        yield KeysLine(_("1 2 … copies a node's line      ↑↓ move      Esc back"))

    def on_mount(self) -> None:
        """Arrow keys scroll at once."""
        self.query_one(VerticalScroll).focus()

    def on_resize(self) -> None:
        """Fold the lines at the width there is."""
        text = Text()
        for number, line in enumerate(self._lines, 1):
            text.append(_("node {number}").format(number=number) + "\n", "bold")
            text.append("\n".join(folded(clean(line), self.size.width - 2)) + "\n\n")
        self.query_one("#lines", Static).update(text)

    def action_scroll(self, by: int) -> None:
        """Scroll by `by` lines."""
        self.query_one(VerticalScroll).scroll_relative(y=by, animate=False)

    def action_copy(self, number: int) -> None:
        """Copy the line of node `number` to the terminal's clipboard."""
        if number <= len(self._lines):
            self.app.copy_to_clipboard(self._lines[number - 1])
            said = _("The line of node {number} is copied.").format(number=number)
            self.notify(said, markup=False, timeout=4)


def folded(command: str, width: int) -> Iterator[str]:
    """`command` in lines of at most `width` cells where its words allow; a shell reads it the same.

    Each line but the last ends in a backslash; a word that is longer stays whole.
    """
    line = ""
    for word in _words(command):
        if line and cell_len(line) + cell_len(word) + 3 > width:
            yield line + " \\"
            line = word
        else:
            line = f"{line} {word}" if line else word
    yield line


def _words(command: str) -> Iterator[str]:
    """The words of `command` as they are written, quotes and all."""
    word = ""
    for part in command.split(" "):
        word = f"{word} {part}" if word else part
        try:
            shlex.split(word)
        except ValueError:  # the blank stands between quotes
            continue
        yield word
        word = ""
    if word:
        yield word
