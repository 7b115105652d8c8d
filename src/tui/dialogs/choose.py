"""Choose one of many by typing a part of its name; a path that is not listed may be typed whole."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from rich.cells import cell_len
from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.geometry import Size
from textual.screen import ModalScreen
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from engine.i18n import N_, _
from engine.text import one_line
from tui.dialogs.fitted import Fitted
from tui.dialogs.keys_line import KeysLine
from tui.widgets.field import Field

SHOWN = 200
"""Options drawn at once; typing narrows the rest."""

COLUMN = 40
"""Details stand below one another up to here; behind longer labels they stand as they come."""

PATHS = ("/", "~", "./", "../")
"""What is typed with one of these in front is a path and never means a listed choice."""


class Choice(msgspec.Struct, frozen=True):
    """One thing to choose."""

    value: str
    label: str
    detail: str = ""


class _Options(OptionList):
    """The list. It wants room for `most` lines, so that the box stays as it is while it narrows."""

    def __init__(self, most: int) -> None:
        super().__init__(markup=False)
        self.can_focus = False  # keys stay in the field; arrows move the list
        self._most = most

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """Rows for all that there is to choose from, a line each."""
        return max(self._most, 1)


class Choose(ModalScreen["str | None"]):
    """Returns the chosen value, or None when put away.

    Args:
        title: what is chosen.
        choices: in the order to show.
        free: whether a text that matches nothing may be accepted as it stands.
        note: a line of explanation.
        now: the value that holds now, on which the list begins.
    """

    BINDINGS = [
        Binding("escape", "dismiss(None)", N_("back")),
        Binding("down,ctrl+n", "move(1)", N_("down"), show=False),
        Binding("up,ctrl+p", "move(-1)", N_("up"), show=False),
        Binding("pagedown", "move(8)", N_("page down"), show=False),
        Binding("pageup", "move(-8)", N_("page up"), show=False),
    ]

    def __init__(
        self,
        title: str,
        choices: Sequence[Choice],
        free: bool = False,
        note: str = "",
        now: str = "",
    ) -> None:
        super().__init__()
        self._title = title
        self._choices = choices
        self._free = free
        self._note = note
        self._now = now
        self._shown: list[Choice] = []

    def compose(self) -> ComposeResult:
        """Title, the field that narrows, the list, the keys."""
        with Fitted(classes="dialog -tall"):
            yield Static(self._title, classes="dialog-title", markup=False)
            if self._note:
                yield Static(self._note, classes="dim", markup=False)
            hint = _("type to narrow, or a path") if self._free else _("type to narrow")
            yield Field(placeholder=hint)
            yield _Options(len(self._choices))
            yield KeysLine(_("Enter  take      ↑↓  move      Esc  back"))

    def on_mount(self) -> None:
        """Show everything, ready to type."""
        self.query_one(Field).focus()
        self._narrow("")

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        self._narrow(event.value)

    def _narrow(self, typed: str) -> None:
        words = typed.lower().split()
        self._shown = [
            choice
            for choice in self._choices
            if all(word in f"{choice.label} {choice.detail}".lower() for word in words)
        ][:SHOWN]
        widest = max(
            (cell_len(one_line(one.label)) for one in self._shown if one.detail), default=0
        )
        options = self.query_one(OptionList)
        options.clear_options()
        options.add_options(Option(_line(choice, min(widest, COLUMN))) for choice in self._shown)
        if self._shown:
            meant = typed.strip() or self._now
            at = (i for i, one in enumerate(self._shown) if meant in (one.label, one.value))
            options.highlighted = next(at, 0)
        else:
            options.add_option(Option(Text(self._nothing(typed.strip()), "dim"), disabled=True))

    def _nothing(self, typed: str) -> str:
        """What stands in an empty list."""
        if self._free and typed:
            return _("Nothing listed fits: Enter takes what is typed.")
        if self._choices:
            return _("Nothing fits.")
        return (
            _("Nothing is listed: type it.")
            if self._free
            else _("There is nothing to choose from.")
        )

    def action_move(self, by: int) -> None:
        """Move the highlight by `by` lines."""
        options = self.query_one(OptionList)
        if self._shown:
            at = (options.highlighted or 0) + by
            options.highlighted = max(0, min(len(self._shown) - 1, at))

    @on(Input.Submitted)
    def _take(self, event: Input.Submitted) -> None:
        highlighted = self.query_one(OptionList).highlighted
        typed = event.value.strip()
        if self._free and typed and (typed.startswith(PATHS) or not self._shown):
            self.dismiss(typed)
        elif self._shown and highlighted is not None:
            self.dismiss(self._shown[highlighted].value)


def _line(choice: Choice, column: int) -> Text:
    """The label, and from `column` on what is said of it."""
    line = Text(one_line(choice.label), no_wrap=True, overflow="ellipsis")
    if choice.detail:
        line.pad_right(max(column - line.cell_len, 0))
        line.append("  " + one_line(choice.detail), style="dim")
    return line
