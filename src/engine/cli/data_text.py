"""What the ``data`` verbs print for people."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.i18n import _, ngettext, sentences
from engine.text import one_line

if TYPE_CHECKING:
    import argparse

    from engine.dataset.checking.check import CheckReport
    from engine.dataset.editing.replace import Replaced
    from engine.dataset.reader import Dataset

BAR = 40
"""Characters of the histogram's longest bar."""
WARNED = 10
"""Warnings of each code listed for people."""
LISTED = 100
"""Broken rows listed for people; ``--json`` lists more."""


def shown(document: dict[str, Any]) -> Iterator[str]:
    """The rows that ``data show`` was asked for."""
    several = len(document["files"]) > 1
    for item in document["items"]:
        name = Path(item["file"]).name if several else ""
        yield "── " + " · ".join([place(item["row"], item["line"], name), *_facts(item)])
        if item["problem"]:
            yield "✗ " + item["problem"]
        elif item["segments"] is not None:
            for segment in item["segments"]:
                mark = "▌" if segment.loss else " "
                lines = segment.text.removesuffix("\n").split("\n")
                yield from (f"{mark} {line}" for line in lines)
        elif item["text"]:
            yield from (f"  {line}" for line in item["text"].split("\n"))
        else:
            yield "  " + json.dumps(item["value"], ensure_ascii=False, default=str)
    packed = f".{document['compression']}" if document["compression"] else ""
    yield "── " + _("{format}, {shape}: {rows:,} rows").format(
        format=document["format"] + packed, shape=document["shape"] or "?", rows=document["rows"]
    )
    if document["template"]:
        yield "   " + _("▌ carries loss; prompt template {name}").format(name=document["template"])


def place(row: int, line: int | None, name: str = "") -> str:
    """Where a row stands: its number, and file (where there are several) and line, if any."""
    if line is None:
        text = _("row {row}").format(row=row)
    else:
        text = _("row {row}, line {line}").format(row=row, line=line)
    return _("{place} of {file}").format(place=text, file=one_line(name)) if name else text


def _facts(item: dict[str, Any]) -> list[str]:
    parts = []
    if item["turns"] is not None:
        parts.append(
            ngettext("{count} turn", "{count} turns", item["turns"]).format(count=item["turns"])
        )
    if item["tokens"] is not None:
        parts.append(
            _("{tokens} tokens, {loss} of them with loss").format(
                tokens=item["tokens"], loss=item["loss_tokens"]
            )
        )
        if item["cut"]:
            parts.append(_("{count} more are cut off").format(count=item["cut"]))
    return parts


def checked(report: CheckReport, dataset: Dataset, args: argparse.Namespace) -> Iterator[str]:
    """What ``data check`` found: the rows, then what training makes of them."""
    yield _("{format}, {shape}: {rows:,} rows").format(
        format=report.format, shape=report.shape or "?", rows=report.rows
    )
    parts = [
        _("{count:,} good").format(count=report.good),
        _("{count:,} broken").format(count=report.broken_rows),
    ]
    if report.cut_total is not None and report.dropped is not None:
        parts += [
            _("{count:,} cut at {length} tokens").format(
                count=report.cut_total, length=args.max_length
            ),
            _("{count:,} dropped").format(count=report.dropped),
        ]
    yield " · ".join(parts)
    for finding in report.broken[:LISTED]:
        place = _place(finding.row, report, dataset)
        yield f"✗ {place}: {sentences(finding.reason, finding.remedy)}"
    yield from _more(report.broken_total, len(report.broken), LISTED)
    yield from _warned(report, dataset)
    yield from _some(_("cut"), report.cut)
    behind = set(report.behind or ())
    empty = [row for row in report.dropped_rows or () if row not in behind]
    yield from _some(_("dropped: the answer lies behind max_length"), report.behind)
    yield from _some(_("dropped: no token would carry loss"), empty)
    if report.tokens is not None:
        yield from _histogram(report)
        yield _("tokens a row: median {p50}, p90 {p90}, p99 {p99}, longest {max}").format(
            p50=report.tokens.p50,
            p90=report.tokens.p90,
            p99=report.tokens.p99,
            max=report.tokens.max,
        )
        yield _("prompt template {name} · {total:,} tokens in all").format(
            name=report.template, total=report.tokens.total
        )
        yield _training(report, args)


def _place(row: int, report: CheckReport, dataset: Dataset) -> str:
    line = dataset.line(row) if row < report.rows else 1
    if line is None:
        return _("row {row}").format(row=row)
    return _("row {row}, line {line}").format(row=row, line=line)


def _more(total: int, listed: int, shown: int) -> Iterator[str]:
    """That there are more than the `shown` ones of `total`, and how many the report lists."""
    if total > listed:
        words = _("… and {count:,} more; --json lists the first {listed:,}")
        yield words.format(count=total - shown, listed=listed)
    elif total > shown:
        yield _("… and {count:,} more; --json lists them").format(count=total - shown)


def _warned(report: CheckReport, dataset: Dataset) -> Iterator[str]:
    """Warnings: a few of each code, and how many there are."""
    for code, count in report.warning_counts.items():
        listed = [warning for warning in report.warnings if warning.code == code]
        for warning in listed[:WARNED]:
            field = f" {one_line(warning.field)}" if warning.field else ""
            place = _place(warning.row, report, dataset)
            yield f"! {place}{field}: {sentences(one_line(warning.reason), warning.remedy)}"
        yield from _more(count, len(listed), WARNED)


def _histogram(report: CheckReport) -> Iterator[str]:
    """A bar for each bin of the token counts."""
    bins = report.histogram or []
    most = max((one.rows for one in bins), default=0)
    for one in bins:
        ends = f"{one.low:>6}–{one.high - 1}" if one.high is not None else f"{one.low:>6}–"
        bar = "█" * -(-BAR * one.rows // most) if most else ""
        yield f"{ends:<13} {bar:<{BAR}} {one.rows:,}".rstrip()


def _some(label: str, rows: list[int] | None) -> Iterator[str]:
    """The first of these rows, on one line."""
    if rows:
        more = " …" if len(rows) > 20 else ""
        yield f"{label}: " + ", ".join(map(str, rows[:20])) + more


def _training(report: CheckReport, args: argparse.Namespace) -> str:
    setting = _("batch {batch} × {gpus} GPU").format(batch=args.batch_size, gpus=args.gpus)
    parts = [_("{count:,} samples").format(count=report.samples)]
    if report.packed_samples is not None:
        parts.append(_("packed to {count:,}").format(count=report.packed_samples))
    parts.append(
        _("{steps:,} steps per epoch ({setting})").format(
            steps=report.steps_per_epoch, setting=setting
        )
    )
    if args.accumulation > 1:
        parts.append(
            _("{count:,} updates (accumulation {every})").format(
                count=report.updates_per_epoch, every=args.accumulation
            )
        )
    return " · ".join(parts)


def replaced(done: Replaced, dry_run: bool) -> Iterator[str]:
    """What ``data replace`` did, or would do."""
    from engine.dataset.editing.replace import excerpt

    for place in done.places:
        before, after = excerpt(place)
        where = _("row {row}, line {line}").format(row=place.row, line=place.line)
        yield f"{where}, {one_line(place.field)}"
        yield f"  - {one_line(before)}"
        yield f"  + {one_line(after)}"
    yield ngettext(
        "{count:,} replacement in {changed:,} of {rows:,} rows",
        "{count:,} replacements in {changed:,} of {rows:,} rows",
        done.replacements,
    ).format(count=done.replacements, changed=done.rows_changed, rows=done.rows)
    if dry_run:
        yield _("Nothing was written (--dry-run).")
    else:
        yield _("written to {path}").format(path=done.out)
