"""How the rows of a text format are laid out: how they are found, cut out and decoded."""

from __future__ import annotations

from typing import Any, Protocol

from engine.dataset.decode import decode
from engine.dataset.scan import ArrayScanner, LinesScanner, Scanner

BOM = b"\xef\xbb\xbf"
_SPACE = b" \t\r\n"


class Layout(Protocol):
    """One file's layout."""

    format: str
    """See `Dataset.format`."""
    start: int
    """The offset of the first byte that the scanner wants."""
    columns: list[str] | None
    """The columns' names, where the file itself says them."""

    def scanner(self) -> Scanner:
        """A new scanner, to be fed from `start` on."""

    def content(self, span: bytes) -> bytes:
        """A row's own bytes, without what separates it from the next one."""

    def decode(self, content: bytes) -> Any:
        """The row's value. Raises `BadRow`."""


class JsonArray:
    """One array, its elements the rows."""

    format = "json"
    columns: list[str] | None = None

    def __init__(self, start: int) -> None:
        self.start = start

    def scanner(self) -> Scanner:
        """See `Layout`."""
        return ArrayScanner(self.start)

    def content(self, span: bytes) -> bytes:
        """See `Layout`."""
        content = span.rstrip(_SPACE)
        return content[:-1].rstrip(_SPACE) if content.endswith(b",") else content

    def decode(self, content: bytes) -> Any:
        """See `Layout`."""
        return decode(content)


class JsonLines:
    """One JSON value a line."""

    format = "jsonl"
    columns: list[str] | None = None

    def __init__(self, start: int) -> None:
        self.start = start

    def scanner(self) -> Scanner:
        """See `Layout`."""
        return LinesScanner(self.start)

    def content(self, span: bytes) -> bytes:
        """See `Layout`."""
        return span.rstrip(_SPACE)

    def decode(self, content: bytes) -> Any:
        """See `Layout`."""
        return decode(content)
