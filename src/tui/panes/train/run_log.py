"""The log of the chosen run, under a line that says what of it is shown."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widgets import Input

from engine.i18n import N_, _, ngettext
from engine.run.folder import RunFolder
from engine.run.log_sieve import OfEvaluation, OfLevel, OfRank, Test
from engine.text import one_line
from tui.widgets.log_view import LogView
from tui.widgets.strips import Line

_ONLY: dict[str, tuple[str, tuple[Test, ...]]] = {
    "all": (N_("all lines"), ()),
    "warnings": (N_("warnings and errors only"), (OfLevel(("warning", "error")),)),
    "errors": (N_("errors only"), (OfLevel(("error",)),)),
    "evaluation": (N_("evaluation only"), (OfEvaluation(),)),
}
"""What `RunLog.next_filter` goes through."""


class FindLine(Input):
    """Where the text to find in the log is typed; Escape ends the search."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "end_search", N_("end the search"), show=False, id="find.end")
    ]

    def action_end_search(self) -> None:
        """Give up; the owner knows by the empty text."""
        self.value = ""
        self.post_message(self.Submitted(self, ""))


class Lines(LogView, inherit_bindings=False):
    """The log here: left and right move it, for ``l`` launches a run wherever the focus is."""

    BINDINGS: ClassVar[list[BindingType]] = [
        *(
            binding
            for binding in LogView.BINDINGS
            if isinstance(binding, Binding) and binding.id not in ("log.left", "log.right")
        ),
        Binding("left", "sideways(-1)", N_("left"), show=False, id="log.left"),
        Binding("right", "sideways(1)", N_("right"), show=False, id="log.right"),
    ]


class RunLog(Vertical):
    """A log that can be searched and filtered; the pane's keys call it."""

    DEFAULT_CSS = """
    RunLog {
        & > #log-line { color: $text-muted; }
        & > FindLine {
            display: none; height: 1; border: none; padding: 0 1; background: $boost;
        }
        & > FindLine:focus { border: none; background: $boost; }
        &.-finding > #log-line { display: none; }
        &.-finding > FindLine { display: block; }
    }
    """

    def __init__(self) -> None:
        super().__init__(id="run-log")
        self._only = "all"
        self._rank: int | None = None
        self._wanted = ""
        self._begun = True

    def compose(self) -> ComposeResult:
        """The line, the field that takes its place, the log."""
        yield Line(id="log-line")
        field = FindLine(placeholder=_("find in the log"), select_on_focus=True)
        field.cursor_blink = False
        yield field
        yield Lines(id="log")

    def on_mount(self) -> None:
        """Say from the first frame on what the log shows."""
        self.watch(self._view, "follow", self.say)

    @property
    def _view(self) -> LogView:
        return self.query_one(LogView)

    def open(self, folder: str) -> None:
        """Show the log of the run in `folder`, from its end, without filter or search."""
        path = Path(folder)
        self._only, self._rank, self._wanted = "all", None, ""
        # Of plain XTuner's work dir it is the newest start's, which a resume changes.
        self._view.open(lambda: RunFolder(path).log)
        self.say()

    def begun(self, begun: bool) -> None:
        """Whether the run was ever started: before that it has no log, and nothing is amiss."""
        if begun != self._begun:
            self._begun = begun
            self.say()

    def find(self) -> None:
        """Type what to find, where the line about the log stands."""
        self.add_class("-finding")
        field = self.query_one(FindLine)
        field.focus()
        # It has its place only now; on a low screen that may be out of view.
        field.call_after_refresh(field.scroll_visible, animate=False, immediate=True)

    @property
    def searching(self) -> bool:
        """Whether a text is looked for in it."""
        return bool(self._wanted)

    def end_search(self) -> None:
        """Forget what was looked for."""
        self._wanted = ""
        self._view.search("")
        self.say()

    def next_filter(self) -> None:
        """All lines, then warnings and errors, then errors, then the evaluation."""
        kinds = list(_ONLY)
        self._only = kinds[(kinds.index(self._only) + 1) % len(kinds)]
        self._sift()

    def next_rank(self) -> None:
        """The lines of all ranks, then of one after the other."""
        known = self._view.ranks()
        if not known and self._rank is None:
            said = _("No line of the log names a rank: they do where several processes train.")
            self.notify(said, markup=False, timeout=4)
            return
        self._rank = next((one for one in known if self._rank is None or one > self._rank), None)
        self._sift()

    def toggle_follow(self) -> None:
        """Follow the end of the log, or hold it still."""
        if self._view.follow:
            self._view.follow = False
        else:
            self._view.action_follow()

    def _sift(self) -> None:
        rank = () if self._rank is None else (OfRank(self._rank),)
        self._view.only((*_ONLY[self._only][1], *rank))
        self.say()

    @on(LogView.Changed)
    def say(self) -> None:
        """Say what is shown."""
        view = self._view
        if view.gone and not self._begun:
            self.query_one("#log-line", Line).say(" " + _("log: none yet"))
            return
        # What is amiss comes first: the end of the line may be cut off.
        parts = [_("! the file is not there")] if view.gone else []
        parts += [_("! the file was cut short or replaced")] if view.begun_anew else []
        parts.append(_(_ONLY[self._only][0]))
        if self._rank is not None:
            parts.append(_("rank {rank} only").format(rank=self._rank))
        if view.sifting:
            parts.append(_("reading…"))
        follow = _("follows its end") if view.follow else _("held still, f follows")
        parts.append(self._matches() if self._wanted else follow)
        said = _("log: {what}").format(what=" · ".join(parts))
        self.query_one("#log-line", Line).say(
            f" {said}",
            _("n next  N previous  Esc end") + " " if self._wanted else _("/ find  w filter "),
        )

    def _matches(self) -> str:
        at, count, whole = self._view.found
        shown = one_line(self._wanted)[:24]
        words = ngettext("{count} line with “{text}”", "{count} lines with “{text}”", count)
        said = words.format(count=count, text=shown)
        if not whole:
            return said + " …"
        return f"{said} ({at})" if at else said

    @on(Input.Submitted)
    def _find(self, event: Input.Submitted) -> None:
        event.stop()
        self._wanted = event.value
        self._view.search(event.value)
        self.remove_class("-finding")
        self._view.focus()
        self.say()
