"""Every row of a dataset looked at, and what was found as plain data.

Runs in the dataset worker, and in the app itself for a small file without a model.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.dataset.checking import tally
from engine.dataset.checking.packing import KEPT, TOKENS
from engine.dataset.checking.parallel import in_parts
from engine.dataset.checking.rowpass import RowPass
from engine.dataset.checking.tally import BEHIND, BROKEN, CUT, DROPPED, UNREADABLE, Part
from engine.dataset.files.offsets import Cancelled, Progress
from engine.dataset.reader import Dataset
from engine.dataset.shapes import Finding
from engine.i18n import _

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

BINS = (0, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536)
"""The histogram's bins: rows with at least so many tokens, and fewer than the next bin's."""


def every_row(
    dataset: Dataset,
    look: RowPass,
    progress: Progress,
    cancelled: Cancelled,
    processes: int = 0,
) -> Part:
    """Look at all rows of `dataset`, by `processes` of them at once (0: as many as cores)."""
    rows = dataset.index(cancelled=cancelled)
    whole = Part(0, look.shape)

    def work(start: int, end: int, each: Any) -> Part:
        return look.part(start, dataset.records(start, end), each)

    for part in in_parts(
        rows, work, lambda done: progress(min(done, rows), rows), cancelled, processes
    ):
        whole.add(part)
    _add_faults(dataset, whole)
    whole.finish()
    progress(rows, rows)
    return whole


def _add_faults(dataset: Dataset, whole: Part) -> None:
    """What is wrong between the rows, unless a row's own message says where it goes wrong."""
    for before, reason in dataset.faults():
        place = max(before, 0)
        if place < len(whole.status) and whole.status[place] & UNREADABLE:
            continue
        remedy = _("Correct the text there, or remove the row.")
        whole.fault([Finding(place, "", reason, remedy)], UNREADABLE)


def summary(part: Part) -> dict[str, Any]:
    """What was found, without what takes a model to know."""
    import numpy as np

    status = np.frombuffer(part.status, dtype=np.uint8)
    return {
        "rows": len(status),
        "good": int(((status & (BROKEN | CUT | DROPPED)) == 0).sum()),
        "broken": [
            {"row": one.row, "field": one.field, "reason": one.reason, "remedy": one.remedy}
            for one in part.broken
        ],
        "broken_total": part.broken_total,
        "broken_rows": int(((status & BROKEN) != 0).sum()),
        "unreadable": _unreadable(part),
        "duplicates": part.duplicates,
        "warnings": [one._asdict() for one in part.warnings],
        "warning_counts": dict(sorted(part.codes.items())),
    }


def _unreadable(part: Part) -> list[int]:
    rows = part.rows_with(UNREADABLE)[: tally.LISTED_ROWS]
    if not part.status and part.broken:  # a fault in a file without rows
        rows = [0]
    return rows


def counts(part: Part) -> dict[str, Any]:
    """What takes a model to know: rows cut and dropped, samples, tokens a row."""
    import numpy as np

    tokens = np.frombuffer(part.tokens, dtype=np.uint32)
    status = np.frombuffer(part.status, dtype=np.uint8)
    cut, dropped, behind = (part.rows_with(one) for one in (CUT, DROPPED, BEHIND))
    counted = tokens[(status & BROKEN == 0) & (tokens > 0)]
    return {
        "cut": cut[: tally.LISTED_ROWS],
        "cut_total": len(cut),
        "dropped": len(dropped),
        "dropped_rows": dropped[: tally.LISTED_ROWS],
        "behind": behind[: tally.LISTED_ROWS],
        "behind_total": len(behind),
        "samples": int(np.count_nonzero(np.frombuffer(part.kept, dtype=np.uint32))),
        "tokens": statistics(counted),
        "histogram": histogram(counted),
    }


def save(part: Part, folder: Path) -> None:
    """Write the numbers of each row into `folder`."""
    import numpy as np

    np.save(folder / TOKENS, np.frombuffer(part.tokens, dtype=np.uint32))
    np.save(folder / KEPT, np.frombuffer(part.kept, dtype=np.uint32))


def statistics(tokens: NDArray[np.uint32]) -> dict[str, int]:
    """Total, nearest-rank percentiles and maximum; all 0 for no rows."""
    import numpy as np

    ordered = np.sort(tokens)

    def percentile(share: int) -> int:
        return int(ordered[max(0, -(-len(ordered) * share // 100) - 1)]) if len(ordered) else 0

    names = {"p50": 50, "p90": 90, "p99": 99, "max": 100}
    total = {"total": int(ordered.sum(dtype=np.uint64))}
    return total | {name: percentile(share) for name, share in names.items()}


def histogram(tokens: NDArray[np.uint32]) -> list[dict[str, int | None]]:
    """How many rows fall into each of `BINS`, up to the last one that holds any."""
    import numpy as np

    places = np.searchsorted(np.array(BINS), tokens, side="right") - 1
    rows = np.bincount(places, minlength=len(BINS)).tolist()
    while rows and not rows[-1]:
        rows.pop()
    ends = (*BINS[1:], None)
    return [
        {"low": BINS[number], "high": ends[number], "rows": count}
        for number, count in enumerate(rows)
    ]
