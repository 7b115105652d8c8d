"""What XTuner will make of the data, and what is wrong with it.

The rows themselves are the dataset part's affair: whoever calls preflight hands
it in as `Data` (see `engine.joined.rows`).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import msgspec

from engine.config.checks import data as check_data
from engine.config.checks import model as check_model
from engine.config.checks import schedule, sequence
from engine.config.checks.findings import ERROR, WARNING, Finding, Fix
from engine.config.checks.start import Start
from engine.errors import Failed, Problem
from engine.i18n import _, ngettext
from engine.paths import absolute

_NAMED = 8
"""Rows that a finding names."""


class Order(msgspec.Struct, frozen=True):
    """What is to be counted, and how XTuner will read it."""

    paths: list[Path]
    shape: str
    """A shape's name, an XTuner map function's, or the path of a module with one."""
    model: Path
    template: str
    max_length: int
    pack: bool
    map_num_proc: int
    batch_size: int
    gpus: int
    accumulation: int
    seed: int
    trust_remote_code: bool


class Counted(msgspec.Struct, frozen=True):
    """What became of every row."""

    samples: int
    """Rows that are trained on, before packing."""
    packed: int | None
    """Samples after packing; None without."""
    cut: list[int]
    cut_total: int
    dropped: list[int]
    dropped_total: int
    refused: list[tuple[int, str]]
    """Rows for which XTuner raises an error, and which."""
    tokens: int
    longest: int
    lost_tokens: int


class Data(Protocol):
    """What preflight asks of the dataset part. Both raise `Problem` when they cannot tell."""

    def rows(self, path: Path, shape: str) -> list[Finding]:
        """Look at every row's structure: findings "data-row" and "data-broken"."""

    def count(self, order: Order) -> Counted:
        """Tokenize every row as XTuner does."""


def request(start: Start) -> Order | str:
    """What to count for this start; or why its tokens cannot be counted, in words."""
    config = start.config
    files, shape = check_data.files(start), check_data.shape(start)
    model = check_model.folder(config)
    template = (config.template or {}).get("name")
    if not files:
        return _("The data is no local file.")
    if model is None:
        return _("The model is not on this machine.")
    if shape is None or not template:
        return _("The config has a map function or a template of its own.")
    return Order(
        paths=[absolute(path) for path in files],
        shape=shape,
        model=model.resolve(),
        template=str(template),
        max_length=int(config.number(f"{start.dataset}.max_length", 2048)),
        pack=start.packed,
        map_num_proc=int(config.number(f"{start.dataset}.map_num_proc", 32)),
        batch_size=int(config.number("train_dataloader.batch_size", 1)),
        gpus=sequence.readers(start),
        accumulation=int(config.number("optim_wrapper.accumulative_counts", 1)),
        seed=int(config.number("randomness.seed", 0)),
        trust_remote_code=config.get("model.llm.trust_remote_code") is True,
    )


def unknown(why: str) -> Finding:
    """That nothing was counted, and what is therefore not known."""
    return Finding(
        WARNING,
        "not-counted",
        _("Samples and steps were not counted"),
        why,
        _("Without them the warm-up cannot be checked."),
    )


def failed(problem: Problem) -> Finding:
    """The worker could not count: the tokenizer does not load, most often."""
    tokenizer = isinstance(problem, Failed) and "okenizer" in problem.what
    return Finding(
        ERROR if tokenizer else WARNING,
        "tokenizer-load" if tokenizer else "not-counted",
        problem.what,
        problem.why,
        problem.todo,
        field="pretrained_model_name_or_path" if tokenizer else "",
    )


def check(start: Start, order: Order, counted: Counted) -> tuple[int, schedule.Plan, list[Finding]]:
    """Samples an epoch, the length of the training, and what is wrong with either."""
    found = [*_rows(start, order, counted)]
    samples = counted.samples if counted.packed is None else counted.packed
    if samples < 1:
        return 0, schedule.Plan(0, 0), [*found, _nothing(start, order, counted)]
    readers = sequence.readers(start)
    size = schedule.plan(start.config, samples, readers)
    found += schedule.check(start.config, size)
    found += schedule.load(start.config, size, samples, readers)
    found += schedule.saving(start.config, size)
    found += _pieces(start, order, counted)
    return samples, size, found


def _nothing(start: Start, order: Order, counted: Counted) -> Finding:
    field = start.config.setting(f"{start.dataset}.max_length")
    dropped = counted.dropped_total
    return Finding(
        ERROR,
        "no-samples",
        _("No sample is left to train on"),
        ngettext(
            "{n} row was left out: no token of it carries loss.",
            "{n} rows were left out: no token of theirs carries loss.",
            dropped,
        ).format(n=dropped)
        if dropped
        else _("The data has no row that XTuner can take."),
        _("Raise {field} ({n}), or look at the rows.").format(field=field, n=order.max_length),
        field=field,
        ways=("check",),
    )


def _rows(start: Start, order: Order, counted: Counted) -> Iterator[Finding]:
    field = start.config.setting(f"{start.dataset}.max_length")
    if counted.cut_total:
        yield Finding(
            WARNING,
            "rows-cut",
            ngettext(
                "{n} row is longer than max_length and is cut",
                "{n} rows are longer than max_length and are cut",
                counted.cut_total,
            ).format(n=counted.cut_total),
            _("Rows {rows}").format(rows=", ".join(map(str, counted.cut[:_NAMED]))),
            _("Raise max_length ({n}), or shorten them.").format(n=order.max_length),
            field=field,
        )
    if counted.dropped_total:
        yield Finding(
            WARNING,
            "rows-dropped",
            ngettext("{n} row is left out", "{n} rows are left out", counted.dropped_total).format(
                n=counted.dropped_total
            ),
            _("Rows {rows}: no token of theirs carries loss.").format(
                rows=", ".join(map(str, counted.dropped[:_NAMED]))
            ),
            _("Give them an answer, raise max_length, or remove them."),
            field=field,
        )
    for row, reason in counted.refused[:_NAMED]:
        yield Finding(
            ERROR,
            "data-row",
            _("XTuner cannot take row {row}").format(row=row),
            reason,
            _("Correct the row, or remove it."),
        )


def _pieces(start: Start, order: Order, counted: Counted) -> Iterator[Finding]:
    """Packing in many processes leaves every piece's rest unpacked."""
    pieces, lost = order.map_num_proc, counted.lost_tokens
    if counted.packed is None or pieces < 2:
        return
    full = max(1, counted.tokens // order.max_length)
    if counted.packed <= 1.1 * full + 1 and lost <= 0.1 * counted.tokens:
        return
    field = start.config.setting(f"{start.dataset}.map_num_proc")
    yield Finding(
        WARNING,
        "pack-pieces",
        _("Packing in {pieces} pieces gives {packed} samples, {full} would be full").format(
            pieces=pieces, packed=counted.packed, full=full
        ),
        _("Each process packs its piece of the data alone; {lost} tokens fall out.").format(
            lost=lost
        ),
        _("Set map_num_proc = 1."),
        Fix(field, 1),
        field,
    )
