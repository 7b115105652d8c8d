"""Growing a scrolled view without drawing it again."""

from __future__ import annotations

from textual.geometry import Size
from textual.scroll_view import ScrollView


def set_extent(view: ScrollView, extent: Size) -> None:
    """Make `extent` the virtual size of `view`.

    A change of `virtual_size` lays the screen out and draws the whole view.
    Where lines are only added below and the scrollbar is there already, its
    thumb is all that changes.
    """
    grows = extent.width >= view.virtual_size.width and extent.height >= view.virtual_size.height
    if grows and view.show_vertical_scrollbar:
        view.set_reactive(type(view).virtual_size, extent)
        view.vertical_scrollbar.window_virtual_size = extent.height
    else:
        view.virtual_size = extent
