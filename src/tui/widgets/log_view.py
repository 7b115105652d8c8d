"""The log of a run: shows any part of it, follows its end, searches and filters.

Textual's RichLog takes 90 % of a core for 5,000 lines a second, and keeps them
all. This view keeps none: it draws those in view out of `LogFile`, which a
thread of its own reads (`LogReader`).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual import on
from textual.binding import Binding, BindingType
from textual.geometry import Region
from textual.message import Message
from textual.strip import Strip

from engine.i18n import N_, _
from engine.run.levels import HEAD, level_at
from engine.run.log_sieve import Holding, Test, ranks, traceback
from engine.text import one_line
from tui.copying import copy
from tui.widgets.following import FollowingView
from tui.widgets.log_reader import LogReader
from tui.widgets.log_rows import Rows, nearest
from tui.widgets.marks import marked

_SIDEWAYS = 20  # cells that one press of left or right moves
_READ = 0.4  # seconds in which a log is read, as a rule
_LOOK_BACK = 200  # lines in which the head of a traceback is looked for


class LogView(FollowingView, can_focus=True, inherit_bindings=False):
    """Shows the log at a path; see `open`, `search` and `only`."""

    DEFAULT_CSS = """
    LogView {
        height: 1fr;
        overflow-x: hidden;
        overflow-y: auto;
        scrollbar-size-vertical: 1;
        background: $surface;
        color: $foreground;
        & > .log-view--head { color: $text-muted; }
        & > .log-view--warning { color: $text-warning; }
        & > .log-view--error { color: $text-error; }
        & > .log-view--match { text-style: reverse; }
        & > .log-view--current { text-style: bold reverse underline; }
    }
    """
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "log-view--head",
        "log-view--warning",
        "log-view--error",
        "log-view--match",
        "log-view--current",
    }
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "lines(-1)", N_("up"), show=False, id="log.up"),
        Binding("down,j", "lines(1)", N_("down"), show=False, id="log.down"),
        Binding("pageup", "page(-1)", N_("page up"), show=False, id="log.page-up"),
        Binding("pagedown", "page(1)", N_("page down"), show=False, id="log.page-down"),
        Binding("left,h", "sideways(-1)", N_("left"), show=False, id="log.left"),
        Binding("right,l", "sideways(1)", N_("right"), show=False, id="log.right"),
        Binding("home,g", "first", N_("first line"), show=False, id="log.first"),
        Binding("end,G", "follow", N_("follow the end"), show=False, id="log.follow"),
        Binding("n", "match(1)", N_("next match"), show=False, id="log.next"),
        Binding("N", "match(-1)", N_("match before"), show=False, id="log.previous"),
        Binding("C", "copy_line", N_("copy the line"), show=False, id="log.copy"),
        Binding("T", "copy_traceback", N_("copy the traceback"), show=False, id="log.traceback"),
    ]

    class News(Message):
        """The reader has got something."""

        def can_replace(self, message: Message) -> bool:
            """One is as good as several."""
            return isinstance(message, LogView.News)

    class Changed(Message):
        """What can be said of the view has changed: see `found`, `sifting`, `gone`."""

    def __init__(
        self,
        *,
        name: str | None = None,
        id: str | None = None,
        classes: str | None = None,
    ) -> None:
        super().__init__(name=name, id=id, classes=classes)
        self._reader = LogReader(lambda: self.post_message(self.News()))
        self._rows = Rows()
        self._shown: tuple[object, int] = (None, 0)
        self._only: Sequence[Test] = ()
        self._wanted = ""
        self._match: int | None = None  # number of the line that n and N start from
        self._seek: tuple[int, int] | None = None  # where from and which way a match is awaited
        self._to_first = False
        self._shift = 0  # cells that the lines are moved to the left
        self._drawn: list[tuple[int, str | None]] = []

    # What the owner calls

    def open(self, locate: Callable[[], Path]) -> None:
        """Show the log that `locate` finds, from its end; it is called in another thread."""
        self._only, self._wanted = (), ""
        self._reader.open(locate)
        # What is drawn empty first and filled a moment later crosses the line twice.
        self.set_timer(_READ, self._take_away)

    def only(self, tests: Sequence[Test]) -> None:
        """Show the lines that pass all `tests`; () for all."""
        self._only = tests
        self._sift()

    def search(self, text: str) -> None:
        """Highlight `text` and go to the next match; "" ends the search.

        Capitals count only if `text` has any. Where the end is followed the
        next match is the last one, else the first one from the view's top on.
        """
        self._wanted, self._match = one_line(text), None
        self._seek = None
        if self._wanted and len(self._rows):
            top = self._rows.number(self.scroll_offset.y)
            last = self._rows.number(len(self._rows) - 1)
            self._seek = (last, -1) if self.follow else (top, 1)
        self._sift()
        self.refresh()

    @property
    def found(self) -> tuple[int, int, bool]:
        """The current match (from 1; 0: none), of how many, and whether these are all."""
        sieve = self._reader.search
        if sieve is None:
            return 0, 0, False
        at = 0 if self._match is None else bisect_left(sieve.numbers, self._match) + 1
        return at, len(sieve.numbers), sieve.done

    @property
    def sifting(self) -> bool:
        """Whether the filter has not been through the whole file yet."""
        return bool(self._only) and (self._reader.filter is None or not self._reader.filter.done)

    @property
    def gone(self) -> bool:
        """Whether the file is not there (any more)."""
        return self._reader.gone

    @property
    def begun_anew(self) -> bool:
        """Whether the file was cut short or replaced while it was in view."""
        return self._reader.file is not None and self._reader.file.epoch > 0

    def ranks(self) -> list[int]:
        """The ranks that the lines in memory name as theirs."""
        return ranks(self._reader.file) if self._reader.file is not None else []

    # Keys

    def action_lines(self, count: int) -> None:
        """Move the view by `count` lines."""
        self.go_to(self.scroll_offset.y + count, ours=False)

    def action_page(self, pages: int) -> None:
        """Move the view by whole heights."""
        self.action_lines(pages * max(self.size.height - 1, 1))

    def action_sideways(self, steps: int) -> None:
        """Move the view sideways, as far as the lines in it reach."""
        widest = max((cell_len(text or "") for _number, text in self._in_view()), default=0)
        most = max(widest - self.scrollable_content_region.width, 0)
        self._shift = min(max(self._shift + steps * _SIDEWAYS, 0), most)
        self.refresh()

    def action_first(self) -> None:
        """Go to the first line of the file."""
        file = self._reader.file
        if file is None:
            return
        if self._only or file.whole:
            self.go_to(0, ours=False)
        else:
            self.follow, self._to_first = False, True
            self._reader.before(whole=True)

    def action_follow(self) -> None:
        """Go to the end and stay there."""
        self.follow = True
        self.go_to_end()

    def action_match(self, step: int) -> None:
        """Go to the next match (1) or the one before (-1)."""
        if not self._wanted or not len(self._rows):
            return
        if self._match is None:
            self._seek = (self._rows.number(self.scroll_offset.y), step)
        else:
            self._seek = (self._match + step, step)
        self._find_on()

    def action_copy_line(self) -> None:
        """Copy the match in view, else the last line in view."""
        seen = [(number, text) for number, text in self._in_view() if text]
        if seen:
            copy(self, next((text for n, text in seen if n == self._match), seen[-1][1]) or "")

    def action_copy_traceback(self) -> None:
        """Copy the traceback in view, or the last one above it."""
        seen = self._in_view()
        lines = traceback(self._rows.text, seen[-1][0]) if seen else []
        if lines:
            copy(self, "\n".join(lines))
        else:
            self.notify(_("No traceback is near: w shows the errors only."), markup=False)

    # What the reader brings

    def on_show(self) -> None:
        """In front: read again."""
        self._reader.rest(False)

    def on_hide(self) -> None:
        """Nobody looks."""
        self._reader.rest(True)

    def on_unmount(self) -> None:
        """Read no more."""
        self._reader.stop()

    def _take_away(self) -> None:
        """The log that was shown before does not stay where the next one is slow to come."""
        if self._shown[0] is not self._reader.file:
            self._show_nothing()

    @on(News)
    def _take_news(self) -> None:
        file = self._reader.file
        if file is None:
            return
        if self._shown != (file, file.epoch):
            self._forget()
            self._shown = (file, file.epoch)
        top = self._rows.number(self.scroll_offset.y) if len(self._rows) else None
        self._count_rows()
        if self._to_first and file.whole:
            self._to_first = False
            self.go_to(0, ours=False)
        elif self.follow:
            self.go_to_end()
        elif top is not None:
            self.hold_still(self._rows.row(top))
        self._find_on()
        self._draw_changed()
        self._ask_for_missing()
        self.post_message(self.Changed())

    def _show_nothing(self) -> None:
        self._forget()
        self.hold(len(self._rows))
        self.action_follow()

    def _forget(self) -> None:
        """Nothing of the last log stays."""
        self._rows, self._drawn = Rows(), []
        self._match = self._seek = None
        self._to_first, self._shift = False, 0
        self.follow = True
        self.refresh()

    def _sift(self) -> None:
        """Another filter, or another search: the rows come as they are found."""
        self._reader.sift(self._only, [Holding(self._wanted)] if self._wanted else [])

    def _count_rows(self) -> None:
        if not self._only:
            self._rows = Rows(self._reader.file)
        elif self._reader.filter is not None:
            self._rows = Rows(self._reader.file, self._reader.filter)
        else:
            self._rows = Rows()
        self.hold(len(self._rows))

    def _find_on(self) -> None:
        """Go to the match that is awaited, if it is found by now."""
        sieve = self._reader.search
        if sieve is None or self._seek is None:
            return
        match = nearest(sieve, *self._seek)
        if match is None:
            self._seek = None if sieve.done else self._seek
            return
        self._match, self._seek, self.follow = match, None, False
        self._count_rows()
        row, top = self._rows.row(match), self.scroll_offset.y
        if not top <= row < top + self.size.height:
            self.go_to(row - self.size.height // 2)
        self.refresh()
        self._ask_for_missing()
        self.post_message(self.Changed())

    def _ask_for_missing(self) -> None:
        for number, text in self._in_view():
            if text is None:
                self._reader.load(number)
        file = self._reader.file
        near = self.scroll_offset.y < self.size.height
        if near and file is not None and not self._only and not file.whole:
            self._reader.before()

    def moved(self) -> None:
        """Other lines are in view."""
        self._drawn = self._in_view()
        self._ask_for_missing()

    # Drawing

    def _in_view(self) -> list[tuple[int, str | None]]:
        """Number and text of the lines in view."""
        top = self.scroll_offset.y
        rows = range(top, min(top + self.size.height, len(self._rows)))
        numbers = map(self._rows.number, rows)
        return [(number, self._rows.text(number)) for number in numbers]

    def _draw_changed(self) -> None:
        """Draw again the rows whose text is not what it was."""
        before, self._drawn = self._drawn, self._in_view()
        if len(before) != len(self._drawn):
            self.refresh()
            return
        width = self.scrollable_content_region.width
        changed = [
            Region(0, y, width, 1)
            for y, (old, new) in enumerate(zip(before, self._drawn, strict=True))
            if old[1] != new[1]
        ]
        if changed:
            self.refresh(*changed)

    def render_line(self, y: int) -> Strip:
        """Line `y` of the view."""
        row = self.scroll_offset.y + y
        width, base = self.scrollable_content_region.width, self.rich_style
        if row >= len(self._rows):
            return Strip.blank(width, base)
        line = Strip(self._pieces(self._rows.number(row), base))
        return line.crop_extend(self._shift, self._shift + width, base).simplify()

    def _pieces(self, number: int, base: Style) -> list[Segment]:
        text = self._rows.text(number)
        muted = base + self.get_component_rich_style("log-view--head", partial=True)
        if text is None:  # it is being read
            return [Segment("…", muted)]
        level = level_at(number, lambda at: self._rows.text(at) or "", number - _LOOK_BACK)
        style = base
        if level in ("warning", "error"):
            style += self.get_component_rich_style(f"log-view--{level}", partial=True)
        pieces = []
        head = HEAD.match(text)
        end = head.end() if head else 0
        if end:
            pieces.append(Segment(text[:end], muted if style is base else style))
        pieces.append(Segment(text[end:], style))
        if not self._wanted:
            return pieces
        name = "log-view--current" if number == self._match else "log-view--match"
        mark = self.get_component_rich_style(name, partial=True)
        return marked(text, pieces, self._wanted, mark)
