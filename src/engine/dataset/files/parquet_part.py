"""The rows of a Parquet file."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate
from typing import Any

from engine.dataset.files.columnar import BATCH_BYTES, ColumnarPart, damaged, pyarrow
from engine.dataset.files.source import Source, SourceFile

_MOST_ROWS = 4096


class ParquetPart(ColumnarPart):
    """A Parquet file: its footer says where every row group begins.

    A row in the middle of a group is reached by decoding the group up to it, in
    small batches; who reads on goes on from there.
    """

    format = "parquet"

    def __init__(self, source: Source) -> None:
        """Raises `Problem` when the file is damaged."""
        super().__init__(source)
        pyarrow(source.path)
        try:
            from pyarrow import parquet

            self._file = parquet.ParquetFile(SourceFile(source), buffer_size=1 << 18)
            self.schema = self._file.schema_arrow
            self._groups = [
                self._file.metadata.row_group(number) for number in range(self._file.num_row_groups)
            ]
        except OSError as error:
            raise damaged(source.path, error) from error
        except ValueError as error:  # pyarrow's ArrowInvalid is one
            raise damaged(source.path, error) from error
        counts = (group.num_rows for group in self._groups)
        self._starts = [0, *accumulate(counts)]
        self._reading: Iterator[Any] = iter(())
        self._group, self._at = -1, 0
        """The row group that is being read, and the row that comes next."""

    @property
    def complete(self) -> bool:
        """See `Part`."""
        return True

    @property
    def done(self) -> int:
        """See `Part`."""
        return self.size

    def advance(self) -> bool:
        """See `Part`."""
        return False

    def _load(self, row: int) -> tuple[int, Any]:
        number = self._number(row)
        if number != self._group or self._at > row:
            self._group, self._at = number, self._starts[number]
            self._reading = self._file.iter_batches(
                self._batch_rows(number), row_groups=[number], use_threads=False
            )
        for batch in self._reading:
            first, self._at = self._at, self._at + batch.num_rows
            if row < self._at:
                return first, batch
        raise EOFError(f"row group {number} ends early")

    def _batch_rows(self, number: int) -> int:
        group = self._groups[number]
        each: int = max(1, group.total_byte_size // max(1, group.num_rows))
        return min(max(1, BATCH_BYTES // each), _MOST_ROWS)
