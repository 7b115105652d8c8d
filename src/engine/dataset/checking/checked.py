"""What a check of a dataset found, and the numbers of each row that it kept."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from engine.dataset.checking.packing import ORDER, SPANS, TOKENS
from engine.dataset.shapes import Finding

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

TOGETHER = 64
"""Rows that `CheckReport.packed_with` names at most."""


class Tokens(msgspec.Struct, frozen=True):
    """Tokens a row before the cut: in all, nearest-rank percentiles, and the longest."""

    total: int
    p50: int
    p90: int
    p99: int
    max: int


class Bin(msgspec.Struct, frozen=True):
    """Rows with at least `low` tokens and fewer than `high` (None: no upper end)."""

    low: int
    high: int | None
    rows: int


class Warned(msgspec.Struct, frozen=True):
    """A row that can be trained on but is odd; `code` is one of `suspects`."""

    row: int
    field: str
    code: str
    reason: str
    remedy: str


class CheckReport(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """What `check` found. What takes a model to know is None without one.

    `good` rows are neither broken nor cut nor dropped; warnings do not count. Lists
    of rows and findings are bounded; ``…_total``, `broken_rows`, `dropped` and
    `warning_counts` (by code) are not. `unreadable` are broken rows that are no
    right JSON, `duplicates` rows that say what an earlier one says, `behind` those of
    the dropped rows that are cut before their first answer. `samples` are the
    rows that XTuner trains on, before packing.
    `steps_per_epoch` counts iterations as XTuner logs them, `updates_per_epoch` the
    optimizer's steps (of gradient accumulation). `histogram` has fixed bins
    (`engine.dataset.checking.counting.BINS`). `details` is a folder with numbers for each
    row, None without a cache; `cached` says that it was all known before.
    """

    format: str
    shape: str
    rows: int
    good: int
    broken: list[Finding]
    broken_total: int
    broken_rows: int
    unreadable: list[int]
    duplicates: list[int]
    warnings: list[Warned]
    warning_counts: dict[str, int]
    template: str | None = None
    cut: list[int] | None = None
    cut_total: int | None = None
    dropped: int | None = None
    dropped_rows: list[int] | None = None
    behind: list[int] | None = None
    behind_total: int | None = None
    samples: int | None = None
    packed_samples: int | None = None
    steps_per_epoch: int | None = None
    updates_per_epoch: int | None = None
    lost_tokens: int | None = None
    tokens: Tokens | None = None
    histogram: list[Bin] | None = None
    details: str | None = None
    packing: str | None = None
    cached: bool = False

    @property
    def warnings_total(self) -> int:
        """All warnings, listed or not."""
        return sum(self.warning_counts.values())

    @property
    def fine(self) -> bool:
        """Whether XTuner can train on the file as it stands."""
        return not self.broken_total and self.rows > 0 and self.steps_per_epoch != 0

    def tokens_of(self, row: int) -> int | None:
        """Tokens of `row` before the cut; None when that is not known."""
        if self._tokens is None or not 0 <= row < len(self._tokens):
            return None
        return int(self._tokens[row]) or None

    def longest_first(self) -> list[int]:
        """All rows, those with the most tokens first; none when that is not known."""
        import numpy as np

        if self._tokens is None:
            return []
        order: list[int] = np.argsort(-self._tokens.astype(np.int64), kind="stable").tolist()
        return order

    def packed_with(self, row: int) -> list[int] | None:
        """The rows that share a packed sample with `row`, in the order in which they are packed.

        At most `TOGETHER` of them, those nearest to it. Empty when it fills its
        samples alone or is in none; None when nothing is packed or no cache was kept.
        """
        if self._packed is None:
            return None
        order, places, first, last = self._packed
        if not 0 <= row < len(places) or places[row] < 0:
            return []
        place = int(places[row])
        import numpy as np

        begin = int(np.searchsorted(last, place))  # the first sample that ends with or behind it
        end = int(np.searchsorted(first, place, side="right"))
        if begin >= end:
            return []  # lost at the end of a piece
        low = max(int(first[begin]), place - TOGETHER // 2)
        high = min(int(last[end - 1]), low + TOGETHER)
        return [int(other) for other in order[low : high + 1] if other != row]

    @cached_property
    def _tokens(self) -> NDArray[np.uint32] | None:
        return None if self.details is None else _load(Path(self.details) / TOKENS)

    @cached_property
    def _packed(self) -> tuple[NDArray[Any], ...] | None:
        if self.details is None or self.packing is None:
            return None
        import numpy as np

        order = _load(Path(self.details) / f"{ORDER}-{self.packing}.npy")
        spans = _load(Path(self.details) / f"{SPANS}-{self.packing}.npy")
        if order is None or spans is None:
            return None
        places = np.full(self.rows, -1, dtype=np.int64)
        places[order] = np.arange(len(order))
        return order, places, spans[0], spans[1]


def _load(path: Path) -> NDArray[np.uint32] | None:
    """An array of a check; None when the cache was cleared since."""
    import numpy as np

    try:
        array: NDArray[np.uint32] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError):
        return None
    return array
