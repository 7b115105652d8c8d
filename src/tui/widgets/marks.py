"""Marking what was searched for in a line that is drawn."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

from rich.segment import Segment
from rich.style import Style


def marked(text: str, pieces: Sequence[Segment], wanted: str, mark: Style) -> list[Segment]:
    """`pieces`, which make up `text`, with `mark` on each place that holds `wanted`.

    Capitals count only if `wanted` has any.
    """
    flags = re.IGNORECASE if wanted.islower() else 0
    found = [match.span() for match in re.finditer(re.escape(wanted), text, flags)]
    if not found:
        return list(pieces)
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
