"""How the rows of a text format are laid out: how they are found, cut out and decoded."""

from __future__ import annotations

from typing import Any, Protocol

from engine.dataset.files.decode import decode, not_utf8
from engine.dataset.files.scan import LinesScanner, Scanner, TextScanner
from engine.dataset.files.scan_array import ArrayScanner
from engine.i18n import _

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
    options: dict[str, Any]
    """What `datasets` must be told to read it so."""
    note: str
    """What a person should know about the file; "" for nothing."""

    def scanner(self) -> Scanner:
        """A new scanner, to be fed from `start` on."""

    def content(self, span: bytes) -> bytes:
        """A row's own bytes, without what separates it from the next one."""

    def decode(self, content: bytes) -> Any:
        """The row's value. Raises `BadRow`."""


def _encoding(marked: bool) -> dict[str, Any]:
    """How `datasets` reads a file with a byte order mark."""
    return {"encoding": "utf-8-sig"} if marked else {}


class JsonArray:
    """One array, its elements the rows.

    Of an array that does not begin with an object `datasets` makes rows of one
    column, "text": so many take a list of texts for pre-training.
    """

    format = "json"
    columns: list[str] | None = None

    def __init__(self, start: int, spaces: int, text: bytes) -> None:
        """`start` is the opening bracket's offset, behind so many `spaces`; `text` begins there."""
        self.start = start
        self._bare = b"{" not in text[:100].split(b'"', 1)[0]  # their very test
        self.options = _encoding(start > spaces)
        self.note = ""
        if spaces:
            self.note = _(
                "Spaces stand before the array's [: the datasets library, and so XTuner, "
                "cannot read such a file. Remove them."
            )

    def scanner(self) -> Scanner:
        """See `Layout`."""
        return ArrayScanner(self.start)

    def content(self, span: bytes) -> bytes:
        """See `Layout`."""
        content = span.rstrip(_SPACE)
        return content[:-1].rstrip(_SPACE) if content.endswith(b",") else content

    def decode(self, content: bytes) -> Any:
        """See `Layout`."""
        value = decode(content)
        return {"text": value} if self._bare else value


class JsonLines:
    """One JSON value a line."""

    format = "jsonl"
    note = ""
    columns: list[str] | None = None

    def __init__(self, start: int) -> None:
        self.start = start
        self.options = _encoding(start > 0)

    def scanner(self) -> Scanner:
        """See `Layout`."""
        return LinesScanner(self.start)

    def content(self, span: bytes) -> bytes:
        """See `Layout`."""
        return span.rstrip(_SPACE)

    def decode(self, content: bytes) -> Any:
        """See `Layout`."""
        return decode(content)


class Lines:
    """Plain text: every line is a row with one column, blank lines too."""

    format = "text"
    note = ""

    def __init__(self, start: int) -> None:
        self.start = start
        self.options = _encoding(start > 0)
        self.columns: list[str] | None = ["text"]

    def scanner(self) -> Scanner:
        """See `Layout`."""
        return TextScanner(self.start)

    def content(self, span: bytes) -> bytes:
        """See `Layout`."""
        if span.endswith(b"\r\n"):
            return span[:-2]
        return span[:-1] if span.endswith((b"\n", b"\r")) else span

    def decode(self, content: bytes) -> dict[str, Any]:
        """See `Layout`."""
        try:
            return {"text": content.decode("utf-8")}
        except UnicodeDecodeError as error:
            raise not_utf8(error) from error
