"""A yes or no before something that cannot be undone. The safe answer is the default."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.screen import ModalScreen
from textual.widgets import Static

from engine.i18n import N_, _
from tui.dialogs.fitted import Scrolled
from tui.dialogs.keys_line import KeysLine


class Confirm(ModalScreen[bool]):
    """Asks `question`, says what is lost; Enter and Escape mean no, y means yes."""

    BINDINGS = [("y", "answer(True)", N_("yes")), ("n,escape,enter,q", "answer(False)", N_("no"))]

    def __init__(self, question: str, consequence: str = "") -> None:
        super().__init__()
        self._question = question
        self._consequence = consequence

    def compose(self) -> ComposeResult:
        """The question, what it means, and the keys."""
        with Scrolled(classes="dialog -small"):
            yield Static(self._question, classes="dialog-title", markup=False)
            if self._consequence:
                yield Static(self._consequence, markup=False)
            yield KeysLine(_("y  yes      n  no (also Enter, Esc)"))

    def on_mount(self) -> None:
        """What is lost may be long."""
        self.query_one(Scrolled).focus()

    def action_answer(self, yes: bool) -> None:
        """Close with the answer."""
        self.dismiss(yes)
