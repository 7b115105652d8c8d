"""What a check found, in words."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from engine.i18n import _, ngettext
from engine.text import one_line

if TYPE_CHECKING:
    from engine.dataset.check import CheckReport


def verdict(report: CheckReport) -> Iterable[str]:
    """A check in two lines: the rows, then what training will make of them."""
    parts = [_("{good:,} good").format(good=report.good)]
    if report.cut:
        words = _("{count} cut at max_length (row {row})")
        parts.append(words.format(count=len(report.cut), row=report.cut[0]))
    if report.dropped_rows:
        words = _("{count} dropped, nothing to learn from (row {row})")
        parts.append(words.format(count=len(report.dropped_rows), row=report.dropped_rows[0]))
    if report.broken:
        first = report.broken[0]
        rows = len({finding.row for finding in report.broken})
        parts.append(
            ngettext("{count} broken", "{count} broken", rows).format(count=rows)
            + f": {_('row')} {first.row} {one_line(first.reason)}"
        )
    yield " · ".join(parts)
    if report.steps_per_epoch is not None:
        yield _(
            "{samples} samples · {steps} steps per epoch (batch 1 × 1 GPU × accumulation 1)"
        ).format(samples=report.samples, steps=report.steps_per_epoch)
    else:
        yield _("t chooses a model: then tokens and steps are counted too.")


def marks(report: CheckReport) -> dict[int, str]:
    """The rows that deserve a look, each with its mark."""
    found = dict.fromkeys([*(report.cut or ()), *(report.dropped_rows or ())], "✂")
    return found | {finding.row: "✗" for finding in report.broken}


def findings(report: CheckReport) -> list[str]:
    """Every row that deserves a look in a line: its number, the reason, the remedy."""
    lines = [
        (finding.row, f"{one_line(finding.reason)}  {one_line(finding.remedy)}")
        for finding in report.broken
    ]
    lines += [(row, _("is cut at max_length")) for row in report.cut or ()]
    dropped = _("is dropped: no token of it would carry loss")
    lines += [(row, dropped) for row in report.dropped_rows or ()]
    return [f"{row:>7}  {words}" for row, words in sorted(lines)]
