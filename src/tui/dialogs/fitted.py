"""The boxes of dialogs: where the screen is lower than what is in one, it scrolls."""

from __future__ import annotations

from textual import events
from textual.containers import ScrollableContainer
from textual.css.scalar import Unit
from textual.geometry import Size
from textual.widget import Widget


class Box(ScrollableContainer, can_focus=False, inherit_bindings=False):
    """A dialog's box with a height of its own; its keys are those of what is in it."""

    def on_descendant_focus(self, event: events.DescendantFocus) -> None:
        """Scroll to what has the focus: Textual takes what lies behind the keys for seen."""
        show = event.widget.scroll_visible
        self.call_after_refresh(show, animate=False, immediate=True)


class Fitted(Box, can_focus=False):
    """As high as what is in it, up to the screen.

    Its child with a height in fractions gets what it wants, or what is left and scrolls.

    Textual's own containers take all the height that they may when there is such a child.
    Where not even its least height is left, the whole box scrolls, above the keys.
    """

    # Textual asks this before it does so; it has no public way to say no.
    _has_relative_children_height = False

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """The rows of all that is in it, at `width` cells."""
        return sum(_rows(child, container, viewport, width) for child in self.displayed_children)


class Scrolled(Fitted, can_focus=True):
    """One that has the focus itself: the arrow keys scroll it where the screen is low."""

    BINDINGS = ScrollableContainer.BINDINGS


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
