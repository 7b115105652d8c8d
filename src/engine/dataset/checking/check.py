"""Check every row of a dataset, and count what XTuner makes of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec

from engine.dataset import shapes
from engine.dataset.checking import check_cache, counting, packing
from engine.dataset.checking.checked import Bin, CheckReport, Tokens, Warned
from engine.dataset.checking.rowpass import RowPass
from engine.dataset.files.offsets import Cancelled, Progress
from engine.dataset.preview import WORKER, check_model
from engine.dataset.reader import Dataset
from engine.errors import Failed, Problem
from engine.i18n import _
from engine.paths import absolute
from engine.settings import Settings
from engine.worker.client import WorkerClient

__all__ = ["Bin", "CheckReport", "Tokens", "Warned", "check"]

SMALL = 8_000_000
"""Bytes up to which a look without a model starts no process."""


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
    cache: Path | None = None,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> CheckReport:
    """Look at every row; with `model`, tokenize every one as XTuner does.

    `cache` is a folder that keeps what was found: the same question about the same
    file is then answered at once, and what costs most, the tokens, is not counted
    again for another batch size or another way of packing. `progress` gets rows.
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
        model = None  # no row can be read: there is nothing to tokenize
    key = check_cache.key(dataset, model, template, max_length, settings)

    def look(cache: Path | None) -> dict[str, Any]:
        with (
            WorkerClient(WORKER, settings) as client,  # starts when it is first asked
            _folder(cache, key) as folder,
        ):
            asked = _Asked(dataset, client, progress, cancelled)
            found = check_cache.load(folder, "rows")
            if found is None:
                found = asked.rows(model, template, max_length, trust_remote_code, folder)
                check_cache.store(folder, "rows", found)
            else:
                found["cached"] = True
            if model is not None:
                found |= _training(found, asked, folder, max_length, pack, map_num_proc, seed)
                steps = packing.steps(_samples(found), batch_size, gpus)
                found |= {"steps_per_epoch": steps, "updates_per_epoch": -(-steps // accumulation)}
                found |= {"details": None if cache is None else str(folder)}
        return found

    try:
        found = look(cache)
    except (OSError, Problem):
        if cache is None or check_cache.usable(cache) or (cancelled is not None and cancelled()):
            raise
        found = look(None)  # a full disk, or one that can only be read, is no fault of the rows
    return msgspec.convert(
        {"format": dataset.format, "shape": dataset.shape} | found, CheckReport, strict=False
    )


def _samples(found: dict[str, Any]) -> int:
    packed = found["packed_samples"]
    return int(found["samples"] if packed is None else packed)


def _training(
    found: dict[str, Any],
    asked: _Asked,
    folder: Path,
    max_length: int,
    pack: bool,
    map_num_proc: int,
    seed: int,
) -> dict[str, Any]:
    """The packed samples, from the cache or by XTuner's own Packer."""
    if not pack:
        return {"packed_samples": None, "lost_tokens": 0}
    name = f"{map_num_proc}-{seed}"
    packed = check_cache.load(folder, f"packed-{name}")
    if packed is None:
        packed = asked.worker(
            "pack",
            folder=str(folder),
            name=name,
            max_length=max_length,
            map_num_proc=map_num_proc,
            seed=seed,
        )
        packed = {key: packed[key] for key in ("packed_samples", "lost_tokens")}
        check_cache.store(folder, f"packed-{name}", packed)
        found["cached"] = False
    return packed | {"packing": name}


@contextmanager
def _folder(cache: Path | None, key: str | None) -> Iterator[Path]:
    """Where what is found is kept, or a temporary folder."""
    if cache is not None and key is not None:
        yield check_cache.folder(cache, key)
    else:
        with TemporaryDirectory(prefix="tunedeck-") as name:
            yield Path(name)


class _Asked:
    """A dataset, and who answers questions about its rows."""

    def __init__(
        self,
        dataset: Dataset,
        client: WorkerClient,
        progress: Progress | None,
        cancelled: Cancelled | None,
    ) -> None:
        self._dataset = dataset
        self._client = client
        self._progress = progress or (lambda done, total: None)
        self._cancelled = cancelled or (lambda: False)

    def rows(
        self,
        model: Path | str | None,
        template: str | None,
        max_length: int,
        trust_remote_code: bool,
        folder: Path,
    ) -> dict[str, Any]:
        """What a look at every row finds (see `counting`)."""
        dataset = self._dataset
        opaque = bool(dataset.shape) and shapes.by_name(dataset.shape).opaque
        if model is None and dataset.size <= SMALL and not opaque:
            look = RowPass(dataset.shape)
            part = counting.every_row(dataset, look, self._progress, self._cancelled, 1)
            return counting.summary(part)
        several = len(dataset.paths) > 1 and not dataset.path.is_dir()
        answer = self.worker(
            "count",
            paths=[str(absolute(path)) for path in (dataset.paths if several else [dataset.path])],
            shape=dataset.shape,
            model=None if model is None else str(model),
            template=template,
            max_length=max_length,
            trust_remote_code=trust_remote_code,
            folder=str(folder),
        )
        return {key: value for key, value in answer.items() if key not in ("id", "event")}

    def worker(self, do: str, **request: Any) -> dict[str, Any]:
        """A worker's answer, its progress passed on."""
        for message in self._client.ask(do, **request):
            if message["event"] == "done":
                return message
            if message["event"] == "progress":
                self._progress(message["done"], message["total"])
            if self._cancelled():
                self._client.cancel()
        raise AssertionError("a worker's answers end with done")


def _need_shape(dataset: Dataset) -> None:
    """Raise `Problem` when rows can be read and their shape is unknown, or there are none."""
    for row in dataset.records():
        if row.problem is None:
            raise shapes.unknown(dataset.path, row.value)
    if dataset.index() == 0 and not dataset.faults():
        raise Failed(_("{path} holds no rows").format(path=dataset.path))
