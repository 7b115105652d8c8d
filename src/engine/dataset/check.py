"""Check every row of a dataset, and count what XTuner makes of it."""

from __future__ import annotations

from array import array
from pathlib import Path
from typing import Any

import msgspec

from engine.dataset import shapes
from engine.dataset.offsets import Cancelled, Progress
from engine.dataset.preview import WORKER, check_model
from engine.dataset.reader import Dataset
from engine.dataset.shapes import Finding
from engine.errors import Failed, Problem
from engine.i18n import _
from engine.settings import Settings
from engine.worker.client import WorkerClient


class Tokens(msgspec.Struct, frozen=True):
    """Tokens a row before the cut: in all, nearest-rank percentiles, and the longest."""

    total: int
    p50: int
    p90: int
    p99: int
    max: int


class CheckReport(msgspec.Struct, frozen=True, kw_only=True):
    """What `check` found. What takes a model to know is None without one.

    `good` rows are neither broken nor cut nor dropped. `samples` are the rows that
    XTuner trains on, before packing. `steps_per_epoch` counts iterations as XTuner
    logs them, `updates_per_epoch` the optimizer's steps (of gradient accumulation).
    `unreadable` are the broken rows that are no right JSON.
    """

    format: str
    shape: str
    rows: int
    good: int
    broken: list[Finding]
    unreadable: list[int]
    template: str | None = None
    cut: list[int] | None = None
    dropped: int | None = None
    dropped_rows: list[int] | None = None
    samples: int | None = None
    packed_samples: int | None = None
    steps_per_epoch: int | None = None
    updates_per_epoch: int | None = None
    lost_tokens: int | None = None
    tokens: Tokens | None = None

    @property
    def fine(self) -> bool:
        """Whether XTuner can train on the file as it stands."""
        return not self.broken and self.rows > 0 and self.steps_per_epoch != 0


def check(
    dataset: Dataset,
    *,
    model: Path | str | None = None,
    template: str | None = None,
    max_length: int = 2048,
    pack: bool = False,
    batch_size: int = 1,
    gpus: int = 1,
    accumulation: int = 1,
    map_num_proc: int = 32,
    seed: int = 0,
    trust_remote_code: bool = False,
    settings: Settings,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> CheckReport:
    """Look at every row; with `model`, tokenize every one as XTuner does.

    Raises `Problem` when the rows have no known shape or the model is none, and
    `Failed` when cancelled or when the worker fails.
    """
    numbers = (max_length, batch_size, gpus, accumulation)
    if min(numbers) < 1:
        raise Problem(_("Lengths, sizes and counts must be 1 or more"))
    if model is not None:
        check_model(model)
    if not dataset.shape:
        _need_shape(dataset)
    broken, unreadable = _structure(dataset, progress if model is None else None, cancelled)
    rows = dataset.index()
    if model is None or not dataset.shape:
        return CheckReport(
            format=dataset.format,
            shape=dataset.shape,
            rows=rows,
            good=rows - len({finding.row for finding in broken}),
            broken=broken,
            unreadable=unreadable,
        )
    counted = _count(
        settings,
        progress,
        cancelled,
        path=str(dataset.path.resolve()),
        shape=dataset.shape,
        model=str(model),
        template=template,
        max_length=max_length,
        pack=pack,
        batch_size=batch_size,
        gpus=gpus,
        accumulation=accumulation,
        map_num_proc=map_num_proc,
        seed=seed,
        trust_remote_code=trust_remote_code,
    )
    return _with_counts(dataset, broken, unreadable, counted)


def _with_counts(
    dataset: Dataset, broken: list[Finding], unreadable: list[int], counted: dict[str, Any]
) -> CheckReport:
    """The report with what the worker `counted`; rows that XTuner refuses are broken too."""
    remedy = _("Correct the row, or remove it.")
    broken += [Finding(failed["row"], "", failed["reason"], remedy) for failed in counted["failed"]]
    broken.sort(key=lambda finding: finding.row)
    flawed = {finding.row for finding in broken}.union(counted["cut"], counted["dropped"])
    rows = dataset.index()
    return CheckReport(
        format=dataset.format,
        shape=dataset.shape,
        rows=rows,
        good=rows - len(flawed),
        broken=broken,
        unreadable=unreadable,
        template=counted["template"],
        cut=counted["cut"],
        dropped=len(counted["dropped"]),
        dropped_rows=counted["dropped"],
        samples=counted["samples"],
        packed_samples=counted["packed_samples"],
        steps_per_epoch=counted["steps_per_epoch"],
        updates_per_epoch=counted["updates_per_epoch"],
        lost_tokens=counted["lost_tokens"],
        tokens=msgspec.convert(counted["tokens"], Tokens),
    )


def _structure(
    dataset: Dataset, progress: Progress | None, cancelled: Cancelled | None
) -> tuple[list[Finding], list[int]]:
    """The findings that need no model, in the order of the rows, and the rows that are no JSON."""
    shape = shapes.by_name(dataset.shape) if dataset.shape else None
    remedy = _("Correct the JSON there, or remove the row.")
    broken: list[Finding] = []
    unreadable: list[int] = []
    marked, without = False, array("Q")
    rows = dataset.index(cancelled=cancelled)
    for row in dataset.records():
        if row.problem is not None:
            broken.append(Finding(row.index, "", row.problem, remedy))
            unreadable.append(row.index)
        elif shape is not None:
            broken += shape.check(row.index, row.value)
            some, others = shapes.loss_marks(row.value)
            marked = marked or some
            if others:
                without.append(row.index)
        if row.index % 1000 == 0:
            if progress is not None:
                progress(row.index, rows)
            if cancelled is not None and cancelled():
                raise Failed(_("Stopped before every row was checked"))
    if progress is not None:
        progress(rows, rows)
    if marked:
        broken += [shapes.unmarked(index) for index in without]
    for before, reason in dataset.faults():
        place = max(before, 0)
        if place not in unreadable:  # else the row's own message says where it goes wrong
            broken.append(Finding(place, "", reason, remedy))
            unreadable.append(place)
    return sorted(broken, key=lambda finding: finding.row), sorted(unreadable)


def _need_shape(dataset: Dataset) -> None:
    """Raise `Problem` when rows can be read and their shape is unknown, or there are none."""
    for row in dataset.records():
        if row.problem is None:
            raise shapes.unknown(dataset.path, row.value)
    if dataset.index() == 0 and not dataset.faults():
        raise Failed(_("{path} holds no rows").format(path=dataset.path))


def _count(
    settings: Settings,
    progress: Progress | None,
    cancelled: Cancelled | None,
    **request: Any,
) -> dict[str, Any]:
    """The worker's answer to ``count``, its progress passed on."""
    with WorkerClient(WORKER, settings) as client:
        for message in client.ask("count", **request):
            if message["event"] == "done":
                return message
            if progress is not None and message["event"] == "progress":
                progress(message["done"], message["total"])
            if cancelled is not None and cancelled():
                client.cancel()
    raise AssertionError("a worker's answers end with done")
