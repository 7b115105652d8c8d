"""What a check found, in words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from engine.dataset.checking.suspects import DUPLICATE
from engine.i18n import _, ngettext, sentences
from engine.text import one_line

if TYPE_CHECKING:
    from engine.dataset.checking.check import CheckReport

BAR = 40
"""Cells of the histogram's longest bar."""
_EIGHTHS = " ▏▎▍▌▋▊▉█"


def verdict(report: CheckReport) -> Iterable[str]:
    """A check in two lines: the rows, then what training will make of them."""
    yield " · ".join(_rows(report))
    if report.steps_per_epoch is None:
        yield _("t chooses a model: then tokens and steps are counted too.")
    elif report.packed_samples is not None:
        yield _(
            "{samples:,} packed samples · {steps:,} steps per epoch (batch 1 × 1 GPU) · p unpacked"
        ).format(samples=report.packed_samples, steps=report.steps_per_epoch)
    else:
        yield _(
            "{samples:,} samples · {steps:,} steps per epoch (batch 1 × 1 GPU) · p packed"
        ).format(samples=report.samples, steps=report.steps_per_epoch)


def _rows(report: CheckReport) -> Iterator[str]:
    yield _("{good:,} good").format(good=report.good)
    if report.cut:
        words = _("{count:,} cut at max_length (row {row})")
        yield words.format(count=report.cut_total, row=report.cut[0])
    behind = set(report.behind or ())
    if report.behind:
        words = _("{count:,} dropped, the answer lies behind max_length (row {row})")
        yield words.format(count=report.behind_total, row=report.behind[0])
    empty = [row for row in report.dropped_rows or () if row not in behind]
    if empty:
        words = _("{count:,} dropped, nothing to learn from (row {row})")
        count = (report.dropped or 0) - (report.behind_total or 0)
        yield words.format(count=count, row=empty[0])
    double = report.warning_counts.get(DUPLICATE, 0)
    if double:
        yield ngettext("{count:,} duplicate", "{count:,} duplicates", double).format(count=double)
    if count := report.warnings_total - double:
        yield ngettext("{count:,} warning", "{count:,} warnings", count).format(count=count)
    if report.broken:
        first, rows = report.broken[0], report.broken_rows
        words = _("{count:,} broken: row {row} {reason}")
        yield words.format(count=rows, row=first.row, reason=one_line(first.reason))


def findings(report: CheckReport) -> list[str]:
    """Every row that deserves a look in a line: its number, the reason, the remedy."""
    lines = [(one.row, _told(one.reason, one.remedy)) for one in report.broken]
    lines += [(one.row, _told(one.reason, one.remedy)) for one in report.warnings]
    lines += [(row, _("is cut at max_length")) for row in report.cut or ()]
    dropped = _("is dropped: no token of it would carry loss")
    far = _("is dropped: its answer lies behind max_length")
    behind = set(report.behind or ())
    lines += [(row, far if row in behind else dropped) for row in report.dropped_rows or ()]
    told = [f"{row:>9}  {words}" for row, words in sorted(lines)]
    more = sum(report.warning_counts.values()) - len(report.warnings)
    more += report.broken_total - len(report.broken)
    more += (report.cut_total or 0) - len(report.cut or ())
    more += (report.dropped or 0) - len(report.dropped_rows or ())
    return [*told, _("… and {count:,} more").format(count=more)] if more else told


def _told(reason: str, remedy: str) -> str:
    return sentences(one_line(reason), one_line(remedy))


def lengths(report: CheckReport) -> Iterator[str]:
    """How long the rows are: a histogram in lines, then the figures."""
    bins, tokens = report.histogram or [], report.tokens
    if not bins or tokens is None:
        yield _("The rows' tokens are not counted yet: t chooses a model, then c checks.")
        return
    used = [place for place, one in enumerate(bins) if one.rows]
    most = max((one.rows for one in bins), default=0) or 1
    for one in bins[: used[-1] + 1] if used else []:
        name = f"{one.low:,} …" if one.high is None else f"{one.low:,} – {one.high - 1:,}"
        yield f"{name:>19}  {_bar(one.rows / most)} {one.rows:,}"
    yield ""
    yield _("{total:,} tokens in {rows:,} rows").format(total=tokens.total, rows=report.rows)
    yield _(
        "half of them up to {p50:,}, 9 of 10 up to {p90:,}, 99 of 100 up to {p99:,}, "
        "at most {max:,}"
    ).format(p50=tokens.p50, p90=tokens.p90, p99=tokens.p99, max=tokens.max)
    if report.cut_total:
        yield ngettext(
            "{count:,} row is longer than max_length and is cut",
            "{count:,} rows are longer than max_length and are cut",
            report.cut_total,
        ).format(count=report.cut_total)


def _bar(share: float) -> str:
    """A bar of up to `BAR` cells, to an eighth of a cell; never empty for something."""
    eighths = round(share * BAR * 8) or (1 if share else 0)
    return "█" * (eighths // 8) + (_EIGHTHS[eighths % 8] if eighths % 8 else "")
