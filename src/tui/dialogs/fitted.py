"""A dialog's box: as high as what is in it, up to the screen; where that is lower, it scrolls."""

from __future__ import annotations

from textual.containers import ScrollableContainer
from textual.css.scalar import Unit
from textual.geometry import Size
from textual.widget import Widget


class Fitted(ScrollableContainer, can_focus=False):
    """Its child with a height in fractions gets what it wants, or what is left and scrolls.

    Textual's own containers take all the height that they may when there is such a child.
    Where not even its least height is left, the whole box scrolls, above the keys.
    """

    # Textual asks this before it does so; it has no public way to say no.
    _has_relative_children_height = False

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """The rows of all that is in it, at `width` cells."""
        return sum(_rows(child, container, viewport, width) for child in self.displayed_children)


def _rows(widget: Widget, container: Size, viewport: Size, width: int) -> int:
    """The rows that `widget` and its edges take at `width` cells, were there room for all."""
    styles = widget.styles
    height, edges = styles.height, styles.gutter
    inside = width - edges.width
    if height is not None and height.unit is Unit.CELLS:
        rows = int(height.value)
    elif widget.is_container:
        each = [_rows(one, container, viewport, inside) for one in widget.displayed_children]
        beside = widget.layout is not None and widget.layout.name == "horizontal"
        rows = (max(each, default=0) if beside else sum(each)) + edges.height
    else:
        rows = widget.get_content_height(container, viewport, inside) + edges.height
    most, least = styles.max_height, styles.min_height
    if most is not None and most.unit is Unit.CELLS:
        rows = min(rows, int(most.value))
    if least is not None and least.unit is Unit.CELLS:
        rows = max(rows, int(least.value))
    return rows + styles.margin.height
