"""The log of a run: keeps its last lines, follows its end, searches and filters.

Textual's RichLog takes 90 % of a core for 5,000 lines a second; this view
takes 8 %, for it styles nothing but the lines in view.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import ClassVar

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip

from engine.i18n import N_
from engine.text import one_line
from tui.widgets.extent import set_extent
from tui.widgets.levels import HEAD
from tui.widgets.log_lines import LogLines, Only

_SIDEWAYS = 20  # cells that one press of left or right moves


class LogView(ScrollView, can_focus=True, inherit_bindings=False):
    """Shows lines as they come; see `append`, `search` and `only`."""

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
        Binding("up,k", "lines(-1)", N_("Up"), show=False, id="log.up"),
        Binding("down,j", "lines(1)", N_("Down"), show=False, id="log.down"),
        Binding("pageup", "page(-1)", N_("Page up"), show=False, id="log.page-up"),
        Binding("pagedown", "page(1)", N_("Page down"), show=False, id="log.page-down"),
        Binding("left,h", "sideways(-1)", N_("Left"), show=False, id="log.left"),
        Binding("right,l", "sideways(1)", N_("Right"), show=False, id="log.right"),
        Binding("home,g", "first", N_("First line"), show=False, id="log.first"),
        Binding("end,G", "follow", N_("Follow the end"), show=False, id="log.follow"),
        Binding("n", "match(1)", N_("Next match"), show=False, id="log.next"),
        Binding("N", "match(-1)", N_("Match before"), show=False, id="log.previous"),
    ]

    follow: reactive[bool] = reactive(True, repaint=False)
    """Whether the end stays in view. Going up ends it; reaching the end resumes it."""

    def __init__(
        self,
        limit: int = 20_000,
        *,
        name: str | None = None,
        id: str | None = None,
        classes: str | None = None,
    ) -> None:
        """`limit`: lines to keep; the oldest go."""
        super().__init__(name=name, id=id, classes=classes)
        self._lines = LogLines(limit)
        self._widest = 0
        self._wanted = ""
        self._match: int | None = None  # number of the line that n and N start from
        self._ours = False  # the view moves, but not by the user

    # What the owner calls

    def append(self, lines: Sequence[str]) -> None:
        """Add lines at the end; four batches a second are kind to a slow terminal line."""
        if not lines:
            return
        kept, dropped = self._lines.append(lines)
        self._widen(kept)
        self._resize()
        if self.follow:
            self._go_to_end()
            self.refresh()
        elif dropped:
            self._hold_still(dropped)
        elif len(self._lines) - len(kept) < self.scroll_offset.y + self.size.height:
            self.refresh()

    def clear(self) -> None:
        """Forget all lines and follow the end again."""
        self._lines.clear()
        self._widest, self._match = 0, None
        self._resize()
        self.action_follow()
        self.refresh()

    def only(self, kind: Only) -> None:
        """Show "all" lines, "warnings" (and errors), or "errors"."""
        top = self._lines.number(self.scroll_offset.y) if len(self._lines) else 0
        self._lines.show_only(kind)
        self._resize()
        if self.follow:
            self._go_to_end()
        else:
            self._go_to(self._lines.index(top))
        self.refresh()

    def search(self, text: str) -> int:
        """Highlight `text` and go to the next match from the top of the view on.

        Capitals count only if `text` has any. "" ends the search.

        Returns:
            How many of the shown lines hold it.
        """
        self._wanted, self._match = one_line(text), None
        self.refresh()
        if not self._wanted:
            return 0
        self._go_to_match(self._lines.find(self._wanted, self.scroll_offset.y, 1))
        return self._lines.count(self._wanted)

    # Keys

    def action_lines(self, count: int) -> None:
        """Move the view by `count` lines."""
        self._go_to(self.scroll_offset.y + count, ours=False)

    def action_page(self, pages: int) -> None:
        """Move the view by whole heights."""
        self.action_lines(pages * max(self.size.height - 1, 1))

    def action_sideways(self, steps: int) -> None:
        """Move the view sideways."""
        x = self.scroll_offset.x + steps * _SIDEWAYS
        self.scroll_to(x=x, animate=False, immediate=True, force=True)

    def action_first(self) -> None:
        """Go to the oldest line kept."""
        self._go_to(0, ours=False)

    def action_follow(self) -> None:
        """Go to the end and stay there."""
        self.follow = True
        self._go_to_end()

    def action_match(self, step: int) -> None:
        """Go to the next match (1) or the one before (-1)."""
        if not self._wanted:
            return
        if self._match is None:
            start = self.scroll_offset.y
        else:
            # A line that was filtered out or dropped leaves the place where it was.
            index = self._lines.index(self._match)
            gone = index >= len(self._lines) or self._lines.number(index) != self._match
            start = index + step if step < 0 or not gone else index
        self._go_to_match(self._lines.find(self._wanted, start, step))

    # Where the view is

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """A move by the user, with whatever means, decides whether the end is followed."""
        super().watch_scroll_y(old_value, new_value)
        if self._ours or round(old_value) == round(new_value):
            return
        self.follow = round(new_value) >= self.max_scroll_y

    def on_resize(self) -> None:
        """The end stays in view in a lower window, too."""
        if self.follow:
            self._go_to_end()

    def _go_to_end(self) -> None:
        self._go_to(self.max_scroll_y)

    def _go_to(self, y: int, ours: bool = True) -> None:
        self._ours = ours
        try:
            self.scroll_to(y=y, animate=False, immediate=True, force=True)
        finally:
            self._ours = False

    def _go_to_match(self, index: int | None) -> None:
        if index is None:
            return
        self._match = self._lines.number(index)
        self.follow = False
        top = self.scroll_offset.y
        if not top <= index < top + self.size.height:
            self._go_to(index - self.size.height // 2)
        self.refresh()

    def _hold_still(self, dropped: int) -> None:
        """`dropped` lines went above the view: what is read keeps its place.

        The view shows what it showed, so that nothing need be drawn again (a
        repaint of the same lines four times a second is felt over SSH).
        """
        y = self.scroll_offset.y - dropped
        if y < 0:
            self._go_to(0)
            self.refresh()
            return
        self.set_reactive(LogView.scroll_y, float(y))
        self.set_reactive(LogView.scroll_target_y, float(y))
        self.vertical_scrollbar.position = y

    def _widen(self, lines: Iterable[str]) -> None:
        for line in lines:
            if len(line) * 2 > self._widest:
                self._widest = max(self._widest, cell_len(line))

    def _resize(self) -> None:
        self._ours = True
        try:
            set_extent(self, Size(self._widest, len(self._lines)))
        finally:
            self._ours = False

    # Drawing

    def render_line(self, y: int) -> Strip:
        """Line `y` of the view."""
        x, index = self.scroll_offset.x, self.scroll_offset.y + y
        width, base = self.scrollable_content_region.width, self.rich_style
        if index >= len(self._lines):
            return Strip.blank(width, base)
        line = Strip(self._pieces(index, base))
        return line.crop_extend(x, x + width, base).simplify()

    def _pieces(self, index: int, base: Style) -> list[Segment]:
        text, level = self._lines.text(index), self._lines.level(index)
        style = base
        if level in ("warning", "error"):
            style += self.get_component_rich_style(f"log-view--{level}", partial=True)
        pieces = []
        head = HEAD.match(text)
        end = head.end() if head else 0
        if end:
            muted = base + self.get_component_rich_style("log-view--head", partial=True)
            pieces.append(Segment(text[:end], muted if style is base else style))
        pieces.append(Segment(text[end:], style))
        return self._highlight(index, text, pieces) if self._wanted else pieces

    def _highlight(self, index: int, text: str, pieces: list[Segment]) -> list[Segment]:
        """`pieces`, which make up `text`, with the matches marked."""
        flags = re.IGNORECASE if self._wanted.islower() else 0
        found = [m.span() for m in re.finditer(re.escape(self._wanted), text, flags)]
        if not found:
            return pieces
        current = self._lines.number(index) == self._match
        name = "log-view--current" if current else "log-view--match"
        mark = self.get_component_rich_style(name, partial=True)
        cuts = sorted({edge for span in found for edge in span})
        drawn, start = [], 0
        for piece in pieces:
            stop = start + len(piece.text)
            edges = [start, *(cut for cut in cuts if start < cut < stop), stop]
            for left, right in pairwise(edges):
                inside = any(a <= left < b for a, b in found)
                style = (piece.style or Style()) + mark if inside else piece.style
                drawn.append(Segment(text[left:right], style))
            start = stop
        return drawn
