"""A question and its answer, to be put right before they go into a dataset."""

from __future__ import annotations

from typing import ClassVar

import msgspec
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen
from textual.widgets import Static, TextArea

from engine.i18n import N_, _
from tui.dialogs.fitted import Box
from tui.dialogs.kept import Kept
from tui.dialogs.keys_line import KeysLine


class Corrected(msgspec.Struct, frozen=True):
    """What was made of it; `into_data`: into the dataset, not into the file beside it."""

    question: str
    answer: str
    system: str
    into_data: bool


class Correct(ModalScreen["Corrected | None"]):
    """Fields of several lines for question, answer and system text.

    Args:
        question, answer, system: the texts to begin with.
        data: the dataset's name, "" when no row can be put into it.
        beside: the name of the file beside it.
        why: why no row can be put into the dataset.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "back", N_("back")),
        Binding("ctrl+s", "accept(True)", N_("into the dataset"), priority=True),
        Binding("ctrl+n", "accept(False)", N_("into the file beside it"), priority=True),
    ]
    DEFAULT_CSS = """
    Correct .dialog-label { margin: 0; text-wrap: nowrap; text-overflow: ellipsis; }
    Correct TextArea { border: none; padding: 0 1; background: $boost; }
    Correct TextArea:focus { border: none; }
    Correct #question { height: 3; }
    Correct #answer { height: 1fr; min-height: 2; }
    Correct #system { height: 2; }
    Correct.-low #question, Correct.-low #system { height: 1; }
    """

    def __init__(
        self, question: str, answer: str, system: str, data: str, beside: str, why: str
    ) -> None:
        super().__init__()
        self._texts = {"question": question, "answer": answer, "system": system}
        self._kept = Kept("correct", list(self._texts.values()))
        self._data = data
        self._beside = beside
        self._why = why

    def compose(self) -> ComposeResult:
        """The fields, the answer's the largest; where it goes, and the keys."""
        labels = {
            "question": _("Question"),
            "answer": _("The right answer"),
            "system": _("System text (written where the dataset has one)"),
        }
        kept = dict(zip(self._texts, self._kept.texts(self.app), strict=True))
        with Box(classes="dialog -full"):
            title = _("A corrected answer for the dataset")
            yield Static(title, classes="dialog-title", markup=False)
            for name, label in labels.items():
                yield Static(label, classes="dialog-label", markup=False)
                yield TextArea(
                    kept[name],
                    id=name,
                    compact=True,
                    soft_wrap=True,
                    show_line_numbers=False,
                    highlight_cursor_line=False,
                    tab_behavior="focus",
                )
            yield Static("", id="wrong", classes="dialog-wrong", markup=False)
            if not self._data:
                yield Static(self._why, classes="dim", markup=False)
            yield KeysLine(self._keys())

    def _keys(self) -> str:
        into = _("^S  as the last row of {data}").format(data=self._data) if self._data else ""
        beside = _("^N  into {beside}").format(beside=self._beside)
        return "\n".join((into, beside, _("Tab  next field      Esc  back")))

    def on_mount(self) -> None:
        """Typing goes to the end of the answer."""
        field = self.query_one("#answer", TextArea)
        field.cursor_blink = False
        field.focus()
        field.move_cursor(field.document.end)

    def action_back(self) -> None:
        """Put the dialog away and keep what was written for the same answer."""
        self._kept.keep(
            self.app, [self.query_one(f"#{name}", TextArea).text for name in self._texts]
        )
        self.dismiss(None)

    def action_accept(self, into_data: bool) -> None:
        """Close with what was written, unless a part is missing."""
        texts = {name: self.query_one(f"#{name}", TextArea).text.strip() for name in self._texts}
        wrong = ""
        if not texts["question"] or not texts["answer"]:
            wrong = _("A row needs a question and an answer.")
        elif into_data and not self._data:
            wrong = self._why
        if wrong:
            self.query_one("#wrong", Static).update(wrong)
        else:
            self._kept.forget(self.app)
            self.dismiss(Corrected(**texts, into_data=into_data))
