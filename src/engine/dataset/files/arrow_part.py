"""The rows of an Arrow IPC file or stream (also what save_to_disk and Feather write).

Both are the same sequence of messages: the schema, dictionaries, record
batches. Only their small headers are read to find the batches; a batch is
decoded from its own bytes, behind the schema's and the dictionaries'.
"""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

from engine.dataset.files.columnar import ColumnarPart, damaged, pyarrow
from engine.dataset.files.sniff import ARROW_FILE
from engine.dataset.files.source import Source
from engine.i18n import _

_SCHEMA, _DICTIONARY, _BATCH = 1, 2, 3
_CONTINUES = 0xFFFFFFFF
_AT_ONCE = 64
"""Messages looked at in one step."""
_LONGEST_HEADER = 1 << 26


class _Message(NamedTuple):
    kind: int
    rows: int
    start: int
    end: int


class ArrowPart(ColumnarPart):
    """An Arrow file or stream, its batches found as far as they are asked for."""

    format = "arrow"

    def __init__(self, source: Source) -> None:
        """Raises `Problem` when the file is damaged."""
        super().__init__(source)
        self._pyarrow = pyarrow(source.path)
        self._next = 8 if source.read(0, 6) == ARROW_FILE else 0
        self._complete = False
        self._fault: str | None = None
        self._batches: list[_Message] = []
        self._dictionaries: list[_Message] = []
        first = self._message()
        if first is None or first.kind != _SCHEMA:
            raise damaged(source.path, EOFError(self._fault or _("it has no schema")))
        self._head = source.read(first.start, first.end)
        try:
            self.schema = self._pyarrow.ipc.open_stream(self._head).schema
        except (OSError, ValueError) as error:
            raise damaged(source.path, error) from error

    @property
    def complete(self) -> bool:
        """See `Part`."""
        return self._complete

    @property
    def done(self) -> int:
        """See `Part`."""
        return self.size if self._complete else self._next

    def advance(self) -> bool:
        """See `Part`."""
        with self._lock:
            for _count in range(_AT_ONCE):
                message = None if self._complete else self._message()
                if message is None:
                    self._complete = True
                    return False
                if message.kind == _DICTIONARY:
                    self._dictionaries.append(message)
                elif message.kind == _BATCH and message.rows:
                    self._batches.append(message)
                    self._starts.append(self._starts[-1] + message.rows)
            return True

    def faults(self) -> list[tuple[int, str]]:
        """See `Part`."""
        if self._fault is None:
            return []
        reason = f"{self.path.name}: {self._fault}" if self.named else self._fault
        return [(self.known - 1, reason)]

    def _message(self) -> _Message | None:
        """The next message; None at the end, with a fault where that comes too early."""
        start = self._next
        length, header = self._length(start)
        if length == 0:
            return None
        metadata = self.source.read(header, header + length) if length > 0 else b""
        try:
            if length < 0 or len(metadata) < length:
                raise ValueError
            kind, rows, body = _parse(metadata)
            end = header + length + body
            if body < 0 or rows < 0 or end > self.size:
                raise ValueError
        except (ValueError, struct.error):
            self._cut_off()
            return None
        self._next = end
        return _Message(kind, rows, start, end)

    def _length(self, start: int) -> tuple[int, int]:
        """The length of a message's header and where it begins; 0 at the end, -1 for nonsense."""
        mark = self.source.read(start, start + 8)
        if len(mark) < 4:
            if start < self.size or self.size > 8:
                self._missing_end(start)
            return 0, start
        length, header = struct.unpack("<I", mark[:4])[0], start + 4
        if length == _CONTINUES:  # else written before Arrow 0.15
            if len(mark) < 8:
                return -1, start
            length, header = struct.unpack("<I", mark[4:])[0], start + 8
        return (length if length <= _LONGEST_HEADER else -1), header

    def _missing_end(self, start: int) -> None:
        """A stream may end without its mark; a file has a footer, half a mark is an accident."""
        if start < self.size or self.source.read(0, 6) == ARROW_FILE:
            self._cut_off()

    def _cut_off(self) -> None:
        self._fault = _("the file is damaged or cut off behind row {row}").format(
            row=self.known - 1
        )

    def _load(self, row: int) -> tuple[int, Any]:
        number = self._number(row)
        message = self._batches[number]
        needed = [each for each in self._dictionaries if each.start < message.start]
        parts = [self.source.read(each.start, each.end) for each in (*needed, message)]
        batch = self._pyarrow.ipc.open_stream(b"".join([self._head, *parts])).read_next_batch()
        batch.validate(full=True)
        return self._starts[number], batch


def _parse(metadata: bytes) -> tuple[int, int, int]:
    """Kind, rows and body length in a message's header (a flatbuffer ``Message``)."""
    table = struct.unpack_from("<I", metadata)[0]
    kind = _field(metadata, table, 1, "<B")
    body = _field(metadata, table, 3, "<q")
    rows = 0
    if kind == _BATCH:
        place = _place(metadata, table, 2)
        inner = place + struct.unpack_from("<I", metadata, place)[0]
        rows = _field(metadata, inner, 0, "<q")
    return kind, rows, body


def _place(buffer: bytes, table: int, number: int) -> int:
    """Where field `number` of the flatbuffer table at `table` stands; 0 when it is left out."""
    vtable = table - struct.unpack_from("<i", buffer, table)[0]
    entry = 4 + 2 * number
    if vtable < 0 or entry >= struct.unpack_from("<H", buffer, vtable)[0]:
        return 0
    offset = struct.unpack_from("<H", buffer, vtable + entry)[0]
    return table + offset if offset else 0


def _field(buffer: bytes, table: int, number: int, kind: str) -> int:
    place = _place(buffer, table, number)
    value: int = struct.unpack_from(kind, buffer, place)[0] if place else 0
    return value
