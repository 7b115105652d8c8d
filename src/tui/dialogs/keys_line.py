"""The last line of a dialog: its keys, as close together as the screen asks for."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from rich.cells import cell_len, set_cell_size
from textual.geometry import Size
from textual.widgets import Static

_APART = re.compile(r"\n| {3,}")
"""Between two keys of one text; in a key's words there are fewer blanks."""
_GAPS = (6, 4, 2)
"""Blanks between two keys: the first with which all stand on one line."""
_LINES = 2
"""Where they do not fit on so many, the last but one make way for the last: it leads out."""
_ELLIPSIS = "…"


class KeysLine(Static):
    """Keys with what they do; on a narrow screen on two lines, and F1 has those left out."""

    DEFAULT_CSS = "KeysLine { dock: bottom; height: auto; color: $text-muted; }"

    def __init__(self, keys: str = "", id: str | None = None) -> None:
        """`keys`: three blanks or more stand between one and the next, or a new line."""
        super().__init__("", id=id, classes="dialog-keys", markup=False)
        self._keys: list[str] = []
        self.tell(keys)

    def tell(self, keys: str) -> None:
        """Show other keys."""
        told = [key for key in _APART.split(keys) if key]
        if told != self._keys:
            self._keys = told
            self.refresh(layout=True)

    def get_content_width(self, container: Size, viewport: Size) -> int:
        """Cells of all on one line."""
        return cell_len((" " * _GAPS[0]).join(self._keys))

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """The lines that they take on `width` cells."""
        return len(laid_out(self._keys, width))

    def render(self) -> str:
        """The keys, on the width that there is."""
        return "\n".join(laid_out(self._keys, self.content_size.width))


def laid_out(keys: Sequence[str], width: int) -> list[str]:
    """`keys` on at most two lines of `width` cells, the last one always among them."""
    for gap in _GAPS:
        line = (" " * gap).join(keys)
        if cell_len(line) <= width:
            return [line]
    kept, left_out = list(keys), list[str]()
    while len(lines := list(_filled([*kept, *left_out], width))) > _LINES and len(kept) > 1:
        left_out = [_ELLIPSIS, keys[-1]]
        kept = kept[: -2 if len(kept) == len(keys) else -1]
    return lines[:_LINES]


def _filled(keys: Sequence[str], width: int) -> Iterator[str]:
    """Lines of as many keys as fit; one that is too long by itself is cut."""
    line = ""
    for key in keys:
        longer = f"{line}{' ' * _GAPS[-1]}{key}" if line else key
        if line and cell_len(longer) > width:
            yield line
            longer = key
        line = longer if cell_len(longer) <= width else set_cell_size(longer, width - 1) + _ELLIPSIS
    yield line
