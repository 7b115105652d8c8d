"""Rows of the columnar formats, which come in batches: what Parquet and Arrow have in common.

Everything is read through a `Source`, never mapped into memory: a mapped file
that somebody cuts short kills the process that looks at it.
"""

from __future__ import annotations

import json
import threading
from abc import abstractmethod
from bisect import bisect_right
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from engine.dataset.files.rows import Part, Row
from engine.dataset.files.source import Source
from engine.errors import Problem
from engine.i18n import _

BATCH_BYTES = 4 << 20
_HELD = 4
"""Batches kept decoded: paging to and fro reads them once."""
_ROWS_AT_ONCE = 64


def pyarrow(path: Path) -> Any:
    """The library. Raises `Problem` when it is not installed; `path` is why it is wanted."""
    try:
        import pyarrow
    except ImportError as error:
        raise Problem(
            _("Cannot read {path}").format(path=path),
            _("Parquet and Arrow files need the library pyarrow, which is not installed."),
            _("Install it beside Tunedeck: pip install pyarrow"),
        ) from error
    return pyarrow


class ColumnarPart(Part):
    """A file whose rows come in batches, a few of which are held."""

    format: str

    def __init__(self, source: Source) -> None:
        super().__init__(source.path, source.size)
        self.source = source
        self.schema: Any = None
        """The pyarrow schema."""
        self.only: list[str] | None = None
        """The columns to show; None for all."""
        self._starts: list[int] = [0]
        """The first row of each batch that was found, and the row behind the last."""
        self._held: list[tuple[int, Any]] = []
        self._lock = threading.RLock()

    @property
    def known(self) -> int:
        """See `Part`."""
        return self._starts[-1]

    def columns(self) -> list[str]:
        """See `Part`."""
        names: list[str] = self.only if self.only is not None else list(self.schema.names)
        return names

    def records(self, start: int = 0, end: int | None = None) -> Iterator[Row]:
        """See `Part`."""
        row = start
        while (end is None or row < end) and self.reach(row):
            first, batch = self._batch(row)
            until = first + batch.num_rows
            until = min(until, row + _ROWS_AT_ONCE, until if end is None else end)
            for value in self._values(batch.slice(row - first, until - row)):
                yield Row(self.first + row, None, value, None, self.path)
                row += 1

    def _values(self, batch: Any) -> list[dict[str, Any]]:
        if self.only is not None:
            batch = batch.select(self.only)
        rows: list[dict[str, Any]] = batch.to_pylist()
        for name, decode in self._decoders.items():
            for row in rows:
                if name in row:
                    row[name] = decode(row[name])
        return rows

    @property
    def _decoders(self) -> dict[str, Callable[[Any], Any]]:
        """What `datasets` does to a column's values when a row is taken."""
        if self._decoders_found is None:
            self._decoders_found = _decoders(self.schema)
        return self._decoders_found

    _decoders_found: dict[str, Callable[[Any], Any]] | None = None

    def _batch(self, row: int) -> tuple[int, Any]:
        """A batch that holds `row`, and the number of its first row."""
        with self._lock:
            for first, batch in self._held:
                if first <= row < first + batch.num_rows:
                    return first, batch
            try:
                found = self._load(row)
            except Problem:
                raise
            except Exception as error:  # damaged pages end in many kinds of error
                raise damaged(self.path, error, row) from error
            self._held = [found, *self._held[: _HELD - 1]]
            return found

    def _number(self, row: int) -> int:
        """The number of the batch (row group) that holds `row`."""
        return bisect_right(self._starts, row) - 1

    @abstractmethod
    def _load(self, row: int) -> tuple[int, Any]:
        """Read a batch that holds `row`; raises whatever the library does."""

    def fingerprint(self) -> str:
        """See `Part`."""
        return self.source.fingerprint()

    def changed(self) -> bool:
        """See `Part`."""
        return self.source.changed()

    def close(self) -> None:
        """See `Part`."""
        self.source.close()


def damaged(path: Path, error: Exception, row: int | None = None) -> Problem:
    """The error for a file that its library cannot read (from `row` on)."""
    what = _("Cannot read {path}").format(path=path)
    if row is not None:
        what = _("Cannot read row {row} of {path}").format(row=row, path=path)
    reason = (str(error).strip() or type(error).__name__).split("\n")[0]
    return Problem(
        what,
        _("It is damaged or cut off: {error}").format(error=reason),
        _("Copy it again from where it came from."),
    )


def _decoders(schema: Any) -> dict[str, Callable[[Any], Any]]:
    """How to decode the columns that `datasets` keeps as JSON text."""
    described = (schema.metadata or {}).get(b"huggingface")
    try:
        features = json.loads(described)["info"]["features"] if described else {}
    except (ValueError, KeyError, TypeError):
        return {}
    found = {name: _decoder(feature) for name, feature in features.items()}
    return {name: decode for name, decode in found.items() if decode is not None}


def _decoder(feature: Any) -> Callable[[Any], Any] | None:
    """What to do to a value of `feature`, as `datasets` describes it; None for nothing."""
    if not isinstance(feature, dict):
        return None
    if feature.get("_type") == "Json":
        return lambda value: None if value is None else json.loads(value)
    if feature.get("_type") in ("List", "LargeList", "Sequence"):
        each = _decoder(feature.get("feature"))
        if each is None:
            return None
        return lambda value: None if value is None else [each(item) for item in value]
    if "_type" in feature:
        return None
    fields = {name: decode for name, sub in feature.items() if (decode := _decoder(sub))}
    if not fields:
        return None

    def struct(value: Any) -> Any:
        if value is None:
            return None
        return {
            name: fields[name](item) if name in fields else item for name, item in value.items()
        }

    return struct
