"""Which part of a chart is shown, and where its cursor is."""

from __future__ import annotations

Span = tuple[float, float]
_LEAST = 4.0
"""Steps that are shown at least."""


class Part:
    """All, until one zooms in. A part that reaches the end goes on with the run.

    `whole`, the first and the last step there is (None: no step), is given with
    each call: it grows.
    """

    def __init__(self) -> None:
        self.cursor: float | None = None
        self.length = 0.0
        """Steps that are shown; 0 for all."""
        self._start: float | None = None  # None: as far before the end as `length` says

    def window(self, whole: Span | None) -> Span | None:
        """The first and the last step that are shown."""
        if whole is None or not self.length:
            return whole
        start = self._start
        if start is None:
            start = max(whole[1] - self.length, whole[0])
        return start, start + self.length

    def move_cursor(self, whole: Span | None, share: float) -> None:
        """Move the cursor by a share of what is shown, which follows it over its edge."""
        window = self.window(whole)
        if whole is None or window is None:
            return
        start, stop = window
        if self.cursor is None:
            self.cursor = stop
            return
        moved = self.cursor + share * (stop - start)
        self.cursor = min(max(moved, whole[0]), whole[1])
        if not start <= self.cursor <= stop:
            half = (stop - start) / 2
            self._show(whole, self.cursor - half, self.cursor + half)

    def zoom(self, whole: Span | None, factor: float) -> None:
        """Show `factor` times as much, around the cursor if there is one, else at the end."""
        window = self.window(whole)
        if whole is None or window is None:
            return
        start, stop = window
        still = stop if self.cursor is None else min(max(self.cursor, start), stop)
        self._show(whole, still - (still - start) * factor, still + (stop - still) * factor)

    def pan(self, whole: Span | None, share: float) -> None:
        """Show what lies later (or earlier) by a share of what is shown."""
        window = self.window(whole)
        if whole is None or window is None:
            return
        by = share * (window[1] - window[0])
        self._show(whole, window[0] + by, window[1] + by)

    def _show(self, whole: Span, start: float, stop: float) -> None:
        most = whole[1] - whole[0]
        length = min(max(stop - start, _LEAST), most)
        start = min(max(start, whole[0]), whole[1] - length)
        self.length = 0.0 if length >= most else length
        self._start = None if start + length >= whole[1] else start
