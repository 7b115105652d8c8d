"""What XTuner will make of the data: asked of the dataset worker, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from engine.config import check_data, check_model, schedule
from engine.config.findings import ERROR, WARNING, Finding, Fix
from engine.config.start import Start
from engine.errors import Failed, Problem
from engine.i18n import _, ngettext
from engine.worker.client import WorkerClient

WORKER = "engine.dataset.worker"
SHAPES = ("xtuner", "alpaca")
"""Shapes of rows that the dataset worker knows."""
_NAMED = 8
"""Rows that a finding names."""


def request(start: Start) -> dict[str, Any] | str:
    """The worker's order for this start; or why its tokens cannot be counted, in words."""
    config = start.config
    files, shape = check_data.files(start), check_data.shape(start)
    model = check_model.folder(config)
    template = (config.template or {}).get("name")
    if len(files) != 1:
        return _("Only one local file is counted.")
    if model is None:
        return _("The model is not on this machine.")
    if shape not in SHAPES or not template:
        return _("The config has a map function or a template of its own.")
    return {
        "path": str(files[0].resolve()),
        "shape": shape,
        "model": str(model.resolve()),
        "template": template,
        "max_length": int(config.number(f"{start.dataset}.max_length", 2048)),
        "pack": start.packed,
        "map_num_proc": int(config.number(f"{start.dataset}.map_num_proc", 32)),
        "batch_size": int(config.number("train_dataloader.batch_size", 1)),
        "gpus": start.processes,
        "accumulation": int(config.number("optim_wrapper.accumulative_counts", 1)),
        "seed": int(config.number("randomness.seed", 0)),
        "trust_remote_code": config.get("model.llm.trust_remote_code") is True,
    }


def ask(start: Start, order: Mapping[str, Any], worker: WorkerClient | None) -> dict[str, Any]:
    """The worker's answer: samples, packed_samples, cut, dropped, failed, tokens, lost_tokens.

    Raises `Problem` when it cannot tell.
    """
    if worker is not None:
        return worker.result("count", **order)
    with WorkerClient(WORKER, start.settings) as own:
        return own.result("count", **order)


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


def check(
    start: Start, order: Mapping[str, Any], answer: Mapping[str, Any]
) -> tuple[int, schedule.Plan, list[Finding]]:
    """Samples an epoch, the length of the training, and what is wrong with either."""
    found = [*_rows(start, order, answer)]
    samples = int(answer["packed_samples"] if start.packed else answer["samples"])
    size = schedule.plan(start.config, samples, start.processes)
    if samples < 1:
        return 0, schedule.Plan(0, 0), [*found, _nothing(start, answer)]
    found += schedule.check(start.config, size)
    found += schedule.load(start.config, size, samples, start.processes)
    found += schedule.saving(start.config, size)
    if start.packed:
        found += _pieces(start, order, answer)
    return samples, size, found


def _nothing(start: Start, answer: Mapping[str, Any]) -> Finding:
    field = start.config.setting(f"{start.dataset}.max_length")
    dropped = len(answer.get("dropped") or [])
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
        _("Raise {field} ({n}), or look at `tunedeck data check`.").format(
            field=field, n=int(start.config.number(f"{start.dataset}.max_length", 0))
        ),
        field=field,
    )


def _rows(start: Start, order: Mapping[str, Any], answer: Mapping[str, Any]) -> Iterator[Finding]:
    cut, dropped = list(answer.get("cut") or []), list(answer.get("dropped") or [])
    field = start.config.setting(f"{start.dataset}.max_length")
    if cut:
        yield Finding(
            WARNING,
            "rows-cut",
            ngettext(
                "{n} row is longer than max_length and is cut",
                "{n} rows are longer than max_length and are cut",
                len(cut),
            ).format(n=len(cut)),
            _("Rows {rows}").format(rows=", ".join(map(str, cut[:_NAMED]))),
            _("Raise max_length ({n}), or shorten them.").format(n=order["max_length"]),
            field=field,
        )
    if dropped:
        yield Finding(
            WARNING,
            "rows-dropped",
            ngettext("{n} row is left out", "{n} rows are left out", len(dropped)).format(
                n=len(dropped)
            ),
            _("Rows {rows}: no token of theirs carries loss.").format(
                rows=", ".join(map(str, dropped[:_NAMED]))
            ),
            _("Give them an answer, raise max_length, or remove them."),
            field=field,
        )
    for one in list(answer.get("failed") or [])[:_NAMED]:
        yield Finding(
            ERROR,
            "data-row",
            _("XTuner cannot take row {row}").format(row=one["row"]),
            one["reason"],
            _("Correct the row, or remove it."),
        )


def _pieces(start: Start, order: Mapping[str, Any], answer: Mapping[str, Any]) -> Iterator[Finding]:
    """Packing in many processes leaves every piece's rest unpacked."""
    pieces, length = int(order["map_num_proc"]), int(order["max_length"])
    total, lost = int(answer["tokens"]["total"]), int(answer.get("lost_tokens") or 0)
    packed, full = int(answer["packed_samples"]), max(1, total // length)
    if pieces < 2 or (packed <= 1.1 * full + 1 and lost <= 0.1 * total):
        return
    field = start.config.setting(f"{start.dataset}.map_num_proc")
    yield Finding(
        WARNING,
        "pack-pieces",
        _("Packing in {pieces} pieces gives {packed} samples, {full} would be full").format(
            pieces=pieces, packed=packed, full=full
        ),
        _("Each process packs its piece of the data alone; {lost} tokens fall out.").format(
            lost=lost
        ),
        _("Set map_num_proc = 1."),
        Fix(field, 1),
        field,
    )
