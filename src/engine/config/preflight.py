"""Everything that can be known about a training before a GPU is touched."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from engine.config import (
    check_data,
    check_load,
    check_machine,
    check_model,
    estimate,
    loaded,
    schedule,
)
from engine.config.estimate import Estimate
from engine.config.findings import ERROR, INFO, WARNING, Finding, Fix
from engine.config.loaded import Loaded
from engine.errors import Failed, Problem
from engine.i18n import _, ngettext
from engine.settings import Settings
from engine.worker.client import WorkerClient

DATASET_WORKER = "engine.dataset.worker"
COUNTED = ("xtuner", "alpaca")
"""Shapes of rows that the dataset worker knows."""

Progress = Callable[[int, int], None]
"""``progress(done, total)``: stages of the check."""
Rows = Callable[[Path, str | None], list[Finding]]
"""Looks at every row of a file of a shape: findings "data-row" and "data-broken"."""


class Report(msgspec.Struct, frozen=True):
    """The verdict. What could not be told is None."""

    ok: bool
    """No finding is an error."""
    findings: list[Finding]
    estimate: Estimate | None
    samples: int | None
    """Samples in an epoch, after cutting, dropping and packing."""
    steps: int | None
    """Iterations in all, as XTuner's log counts them."""
    disk_bytes: int | None


class _Flight:
    """The findings so far and what later checks need."""

    def __init__(self) -> None:
        self.findings: list[Finding] = []
        self.samples: int | None = None
        self.steps: int | None = None
        self.estimate: Estimate | None = None
        self.disk_bytes: int | None = None

    @property
    def failed(self) -> bool:
        return any(one.level == ERROR for one in self.findings)

    def report(self) -> Report:
        order = (ERROR, WARNING, INFO)
        findings = sorted(self.findings, key=lambda one: order.index(one.level))
        return Report(
            not self.failed, findings, self.estimate, self.samples, self.steps, self.disk_bytes
        )


def preflight(
    path: Path,
    *,
    settings: Settings,
    gpus: Sequence[int] | None = None,
    deepspeed: str | None = None,
    work_dir: Path | None = None,
    progress: Progress | None = None,
    rows: Rows | None = None,
    worker: WorkerClient | None = None,
) -> Report:
    """Check the config at `path`. Cheap checks first: with an error, the dear ones are left out.

    Without counting tokens it takes about a second; counting starts the
    dataset worker and reads the whole dataset.

    Args:
        gpus: the GPUs it shall run on; None: one, or the CPU.
        deepspeed: as ``xtuner train --deepspeed`` takes it.
        work_dir: where it shall write; default the config's folder.
        rows: looks at every row's structure; by default only the first are looked at.
        worker: a warm loader (`loaded.warm`); by default one is started.

    Raises `Problem` when the file itself cannot be read.
    """
    tell = progress or (lambda done, total: None)
    text = _read(path)
    flight = _Flight()
    flight.findings += check_load.syntax(text)
    if flight.failed:
        return flight.report()
    tell(0, 4)
    try:
        config = loaded.load(path, settings, worker=worker)
    except Failed as failed:
        flight.findings.append(check_load.lost(failed))
        return flight.report()
    flight.findings += check_load.load_error(config)
    if config.error is not None:
        return flight.report()
    tell(1, 4)
    flight.findings += check_load.names(config)
    flight.findings += check_load.unused(text, config)
    flight.findings += check_model.check(config)
    flight.findings += check_data.check(config)
    flight.findings += check_machine.check(config, gpus, deepspeed, settings)
    tell(2, 4)
    if not flight.failed and rows is not None and check_data.shape(config) in COUNTED:
        for file in check_data.files(config):
            flight.findings += rows(file, check_data.shape(config))
    counted = None if flight.failed else _count(flight, config, len(gpus or [0]), settings)
    tell(3, 4)
    _sizes(flight, config, counted, gpus, deepspeed, settings)
    if flight.disk_bytes is not None:
        flight.findings += check_machine.disk(flight.disk_bytes, work_dir or path.parent)
    tell(4, 4)
    return flight.report()


def _read(path: Path) -> str:
    try:
        return check_load.read(path)
    except UnicodeDecodeError as error:
        raise Problem(
            _("{path} is not UTF-8 text").format(path=path),
            _("Byte {byte} cannot be read.").format(byte=error.start),
            _("Save it as UTF-8: mmengine reads configs only so."),
        ) from error
    except OSError as error:
        raise Problem(
            _("Cannot read the config {path}").format(path=path),
            _("It is a folder.") if path.is_dir() else (error.strerror or str(error)),
            _("Give the path of a Python config, or copy one: tunedeck config copy NAME"),
        ) from error


def _count(
    flight: _Flight, config: Loaded, processes: int, settings: Settings
) -> Mapping[str, Any] | None:
    """Ask the dataset worker what XTuner will make of the data; findings about the answer."""
    files, shape, model = (
        check_data.files(config),
        check_data.shape(config),
        check_model.folder(config),
    )
    template = (config.template or {}).get("name")
    if len(files) != 1 or shape not in COUNTED or model is None or not template:
        flight.findings.append(
            _not_counted(_("Only one local file with a local model is counted."))
        )
        return None
    base = check_data.base(config)
    packed = config.get(f"{base}.pack_to_max_length", True) is not False
    request = {
        "path": str(files[0].resolve()),
        "shape": shape,
        "model": str(model.resolve()),
        "template": template,
        "max_length": int(config.number(f"{base}.max_length", 2048)),
        "pack": packed,
        "map_num_proc": int(config.number(f"{base}.map_num_proc", 32)),
        "batch_size": int(config.number("train_dataloader.batch_size", 1)),
        "gpus": processes,
        "accumulation": int(config.number("optim_wrapper.accumulative_counts", 1)),
        "seed": int(config.number("randomness.seed", 0)),
        "trust_remote_code": config.get("model.llm.trust_remote_code") is True,
    }
    try:
        with WorkerClient(DATASET_WORKER, settings) as worker:
            counted = worker.result("count", **request)
    except Failed as failed:
        flight.findings.append(_not_counted(" ".join(failed.lines())))
        return None
    flight.findings += _rows(counted, request)
    samples = counted["packed_samples"] if packed else counted["samples"]
    size = schedule.plan(config, samples, processes)
    flight.samples, flight.steps = samples, size.total if size.per_epoch else 0
    flight.findings += schedule.check(config, size)
    flight.findings += schedule.saving(config, size)
    if packed:
        flight.findings += _pieces(config, counted, request)
    return counted


def _not_counted(why: str) -> Finding:
    return Finding(
        WARNING,
        "not-counted",
        _("Samples and steps were not counted"),
        why,
        _("Without them the warm-up cannot be checked."),
    )


def _rows(counted: Mapping[str, Any], request: Mapping[str, Any]) -> list[Finding]:
    found = []
    cut = list(counted.get("cut") or [])
    if cut:
        found.append(
            Finding(
                WARNING,
                "rows-cut",
                ngettext(
                    "{n} row is longer than max_length and is cut",
                    "{n} rows are longer than max_length and are cut",
                    len(cut),
                ).format(n=len(cut)),
                _("Rows {rows}").format(rows=", ".join(map(str, cut[:8]))),
                _("Raise max_length ({n}), or shorten them.").format(n=request["max_length"]),
                field="max_length",
            )
        )
    dropped = list(counted.get("dropped") or [])
    if dropped:
        found.append(
            Finding(
                WARNING,
                "rows-dropped",
                ngettext("{n} row is left out", "{n} rows are left out", len(dropped)).format(
                    n=len(dropped)
                ),
                _("Rows {rows}: no token of theirs carries loss.").format(
                    rows=", ".join(map(str, dropped[:8]))
                ),
                _("Give them an answer, raise max_length, or remove them."),
            )
        )
    found += [
        Finding(
            ERROR,
            "data-row",
            _("XTuner cannot take row {row}").format(row=one["row"]),
            one["reason"],
            _("Correct the row, or remove it."),
        )
        for one in list(counted.get("failed") or [])[:10]
    ]
    return found


def _pieces(
    config: Loaded, counted: Mapping[str, Any], request: Mapping[str, Any]
) -> list[Finding]:
    """Packing in many processes leaves every piece's rest unpacked."""
    pieces, length = int(request["map_num_proc"]), int(request["max_length"])
    total, lost = int(counted["tokens"]["total"]), int(counted.get("lost_tokens") or 0)
    packed, full = int(counted["packed_samples"]), max(1, total // length)
    if pieces < 2 or (packed <= 1.1 * full + 1 and lost <= 0.1 * total):
        return []
    field = f"{check_data.base(config)}.map_num_proc"
    return [
        Finding(
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
    ]


def _sizes(
    flight: _Flight,
    config: Loaded,
    counted: Mapping[str, Any] | None,
    gpus: Sequence[int] | None,
    deepspeed: str | None,
    settings: Settings,
) -> None:
    """Memory and disk, from the model's own sizes; nothing for a model of an unknown form."""
    folder = check_model.folder(config)
    model = estimate.shape(folder) if folder is not None else None
    if folder is None or model is None:
        return
    try:
        zero = check_machine.deepspeed_stage(deepspeed, settings)
    except Problem:
        return  # reported already
    base = check_data.base(config)
    length = int(config.number(f"{base}.max_length", 2048))
    longest = int(((counted or {}).get("tokens") or {}).get("max") or length)
    if config.get(f"{base}.pack_to_max_length", True) is False:
        length = min(length, longest)
    kind = estimate.model_kind(folder)
    flight.estimate = estimate.memory(
        config,
        model,
        kind=kind,
        tokens=length * max(1, int(config.number("train_dataloader.batch_size", 1))),
        zero=zero,
        processes=len(gpus or [0]),
    )
    flight.findings += check_machine.fits(flight.estimate, gpus)
    if flight.steps is not None:
        flight.disk_bytes = estimate.disk(
            config, model, kind=kind, steps=flight.steps, folder=folder
        )
