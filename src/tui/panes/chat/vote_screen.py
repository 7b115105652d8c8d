"""Blind votes: two answers without names, one key for each vote."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

from engine.chat.votes import Ballot, Choice, Record
from engine.i18n import N_, _, ngettext
from engine.text import clean, one_line
from tui.dialogs.fitted import Box
from tui.dialogs.keys_line import KeysLine


class VoteScreen(ModalScreen[None]):
    """Asks for a vote on each pair of `ballot`; closes at the end, or earlier by Esc."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("1,left", "vote('first')", N_("the first")),
        Binding("2,right", "vote('second')", N_("the second")),
        Binding("0,t,equals_sign", "vote('tie')", N_("a tie")),
        Binding("u,backspace", "back", N_("take the last vote back")),
        Binding("escape,q", "dismiss(None)", N_("end")),
        Binding("down,j", "scroll(1)", N_("down")),
        Binding("up,k", "scroll(-1)", N_("up")),
    ]
    DEFAULT_CSS = """
    VoteScreen #asked { height: auto; max-height: 5; color: $primary; text-style: bold; }
    VoteScreen.-low #asked { max-height: 2; }
    VoteScreen #beside { height: auto; }
    VoteScreen .whole { width: 1fr; height: auto; padding: 0 1; }
    """

    def __init__(self, ballot: Ballot) -> None:
        super().__init__()
        self._ballot = ballot

    def compose(self) -> ComposeResult:
        """The question, two answers, the keys."""
        with Box(classes="dialog -full"):
            yield Static("", id="asked", markup=False)
            with VerticalScroll() as scroll, Horizontal(id="beside"):
                scroll.can_focus = False
                yield Static("", id="first", classes="whole", markup=False)
                yield Static("", id="second", classes="whole", markup=False)
            keys = _(
                "1  the left      2  the right      t  a tie      u  back      Esc  end, tally"
            )
            yield KeysLine(keys)

    def on_mount(self) -> None:
        """Show the first pair."""
        self._draw()

    def action_vote(self, choice: Choice) -> None:
        """Vote, and show the next pair."""
        self._ballot.vote(choice)
        if self._ballot.pair is None:
            self.dismiss(None)
        else:
            self._draw()

    def action_back(self) -> None:
        """Vote on the pair before once more."""
        self._ballot.back()
        self._draw()

    def action_scroll(self, by: int) -> None:
        """Scroll both answers."""
        self.query_one(VerticalScroll).scroll_relative(y=by, animate=False)

    def _draw(self) -> None:
        pair = self._ballot.pair
        if pair is None:
            return
        place = f"{self._ballot.at + 1}/{len(self._ballot.pairs)}"
        self.query_one("#asked", Static).update(f"{place}  {clean(pair.question)}")
        for number, (side, answer) in enumerate(
            zip(("first", "second"), pair.answers, strict=True), 1
        ):
            self.query_one(f"#{side}", Static).update(f"[{number}]\n{clean(answer)}")
        self.query_one(VerticalScroll).scroll_home(animate=False)


def tally_lines(record: Record) -> Iterator[str]:
    """What the votes come to, the best first."""
    for one in sorted(record.tally, key=lambda one: -one.wins):
        words = _("{wins} won   {losses} lost   {ties} tied")
        counted = words.format(wins=one.wins, losses=one.losses, ties=one.ties)
        yield f"{counted}   {one_line(one.model)}"
    yield ""
    if record.same:
        said = ngettext(
            "{n} pair of answers was the same and not asked about.",
            "{n} pairs of answers were the same and not asked about.",
            record.same,
        )
        yield said.format(n=record.same)
