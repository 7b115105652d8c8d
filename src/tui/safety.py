"""The last fence: no control character of outside text reaches the terminal.

Text is cleaned where it enters (``engine.text``). Should a piece slip through,
in a widget of ours or of Textual's, this filter drops it on its way out.
"""

from __future__ import annotations

import re

from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter

_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


class NoControls(LineFilter):
    """Removes control characters from everything that is drawn."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        """The same segments; those with control characters in their text are rebuilt."""
        return [
            Segment(_UNSAFE.sub("", segment.text), segment.style)
            if segment.control is None and _UNSAFE.search(segment.text)
            else segment
            for segment in segments
        ]


class NoColours(LineFilter):
    """Leaves attributes (bold, dim, reverse) and the terminal's own two colours.

    For NO_COLOR. Textual's own answer to it turns colours into greys, and the
    terminal's default colours, which it cannot know, into black on black.
    """

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        """The same segments without any colour."""
        return [
            Segment(segment.text, segment.style.without_color if segment.style else None)
            if segment.control is None
            else segment
            for segment in segments
        ]
