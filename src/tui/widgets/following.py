"""A scrolled view that follows its end until somebody scrolls away from it."""

from __future__ import annotations

from textual import events
from textual.geometry import Size
from textual.reactive import reactive
from textual.scroll_view import ScrollView

from tui.widgets.extent import set_extent


class FollowingView(ScrollView):
    """Tells moves of the user, by whatever means, from its own."""

    follow: reactive[bool] = reactive(True, repaint=False)
    """Whether the end stays in view. Going up ends it; reaching the end resumes it."""

    _ours = False  # the view moves, but not by the user

    def moved(self) -> None:
        """Other rows are in view, or the view has another height."""

    def go_to(self, y: int, ours: bool = True) -> None:
        """Bring row `y` to the top; `ours`: not because the user wants to be there."""
        self._ours = ours
        try:
            self.scroll_to(y=y, animate=False, immediate=True, force=True)
        finally:
            self._ours = False

    def go_to_end(self) -> None:
        """Bring the last row into view."""
        self.go_to(self.max_scroll_y)

    def hold_still(self, y: int) -> None:
        """What is read keeps its place, which is row `y` now, for lines came above it.

        The view shows what it showed, so that nothing need be drawn again (a
        repaint of the same lines is felt over SSH).
        """
        if y == self.scroll_offset.y:
            return
        self.set_reactive(FollowingView.scroll_y, float(y))
        self.set_reactive(FollowingView.scroll_target_y, float(y))
        self.vertical_scrollbar.position = y

    def hold(self, rows: int) -> None:
        """There are so many rows now."""
        self._ours = True
        try:
            set_extent(self, Size(1, rows))  # sideways the owner moves the lines itself
        finally:
            self._ours = False

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """A move by the user decides whether the end is followed."""
        super().watch_scroll_y(old_value, new_value)
        if round(old_value) == round(new_value):
            return
        if not self._ours:
            self.follow = round(new_value) >= self.max_scroll_y
        self.moved()

    def on_resize(self, _event: events.Resize) -> None:
        """The end stays in view in a lower window, too."""
        if self.follow:
            self.go_to_end()
        self.moved()
