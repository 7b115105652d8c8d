"""The dataset worker: rows as the model will see them, by XTuner's own functions.

Requests (see `engine.worker.serve`):

``templates {}`` → ``{names}``
``open {model, template, max_length, trust_remote_code}`` → ``{template}``
``sample {row, shape}`` → ``{tokens, loss_tokens, cut, text, segments,
input_ids, labels}``
``count {path, shape, model, template, max_length, pack, batch_size, gpus,
accumulation, map_num_proc, seed}`` → see `_Counter.result`; sends ``progress``.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any

from engine import i18n
from engine.dataset import packing, shapes, xtuner_parts
from engine.dataset.feed import Feed, choose_template, load_tokenizer
from engine.dataset.reader import Dataset
from engine.errors import Failed, Problem
from engine.i18n import _
from engine.worker.serve import Cancelled, Emit, serve


class Worker:
    """Holds the tokenizer between requests."""

    def __init__(self) -> None:
        self._parts: xtuner_parts.Parts | None = None
        self._tokenizer: Any = None
        self._model: tuple[str, bool] | None = None
        self._feed: Feed | None = None

    def templates(self, _request: Mapping[str, Any], _e: Emit, _s: Cancelled) -> dict[str, Any]:
        """The names of XTuner's prompt templates."""
        return {"names": list(self._load().templates)}

    def _load(self) -> xtuner_parts.Parts:
        if self._parts is None:
            self._parts = xtuner_parts.load()
        return self._parts

    def open(self, request: Mapping[str, Any], _emit: Emit, _stop: Cancelled) -> dict[str, Any]:
        """Load the tokenizer and set the template and the maximum length."""
        parts = self._load()
        model = (request["model"], bool(request.get("trust_remote_code")))
        if model != self._model:
            self._tokenizer = load_tokenizer(*model)
            self._model = model
        templates = parts.templates
        template = request.get("template") or choose_template(self._tokenizer, templates)
        if template not in templates:
            raise Problem(
                _("XTuner has no prompt template called {name}").format(name=template),
                todo=_("Choose one of: {names}.").format(names=", ".join(templates)),
            )
        max_length = int(request["max_length"])
        self._feed = Feed(parts, self._tokenizer, template, max_length)
        return {"template": template}

    def sample(self, request: Mapping[str, Any], _emit: Emit, _stop: Cancelled) -> dict[str, Any]:
        """One row as the model will see it."""
        if self._feed is None:
            raise Problem("sample: nothing is open")
        try:
            sample = self._feed.encode(request["row"], request["shape"])
        except Exception as error:
            raise Failed(
                _("XTuner cannot take this row"),
                f"{type(error).__name__}: {error}",
                _("`tunedeck data check` says what is wrong with it."),
                repr(error),
            ) from error
        if sample is None or not sample.trained:
            raise Failed(
                _("XTuner drops this row"),
                _("No token of it would carry loss."),
                _("Give it an answer, or remove it."),
            )
        return self._feed.show(sample)

    def count(self, request: Mapping[str, Any], emit: Emit, stop: Cancelled) -> dict[str, Any]:
        """All rows: tokens, rows cut and dropped, samples and steps."""
        opened = self.open(request, emit, stop)
        assert self._feed is not None and self._parts is not None
        counter = _Counter(self._feed)
        with Dataset.open(request["path"], request["shape"]) as dataset:
            last = time.monotonic()
            total = dataset.index(cancelled=stop)
            shape = shapes.by_name(dataset.shape)
            for row in dataset.records():
                if stop():
                    raise Failed(_("Stopped before every row was counted"))
                if row.problem is None and not shape.check(row.index, row.value):
                    counter.add(row.index, row.value, shape.name)
                if time.monotonic() - last > 0.2:
                    last = time.monotonic()
                    emit("progress", done=row.index, total=total)
        emit("progress", done=total, total=total)
        return opened | counter.result(request, self._parts)


class _Counter:
    """Sums up what becomes of every row."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self._lengths: list[int] = []
        self._kept: list[int] = []
        self._cut: list[int] = []
        self._dropped: list[int] = []
        self._failed: list[dict[str, Any]] = []

    def add(self, index: int, value: Any, shape: str) -> None:
        try:
            sample = self._feed.encode(value, shape)
        except Exception as error:  # whatever XTuner cannot take would end its run
            self._failed.append({"row": index, "reason": f"{type(error).__name__}: {error}"})
            return
        if sample is not None:
            self._lengths.append(sample.length)
        if sample is None or not sample.trained:
            self._dropped.append(index)
            return
        self._kept.append(len(sample.input_ids))
        if sample.length > len(sample.input_ids):
            self._cut.append(index)

    def result(self, request: Mapping[str, Any], parts: xtuner_parts.Parts) -> dict[str, Any]:
        """Samples, steps and token statistics.

        ``tokens`` are of rows before the cut; ``packed_samples`` is None without
        packing; ``lost_tokens`` are those that packing leaves out at its pieces' ends;
        ``failed`` are rows for which XTuner itself raises an error.
        """
        samples, lost, packed = len(self._kept), 0, None
        if request.get("pack"):
            packed, tokens = packing.pack(
                self._kept,
                self._feed.max_length,
                int(request["map_num_proc"]),
                parts.packer,
                int(request.get("seed", 0)),
            )
            samples, lost = packed, sum(self._kept) - tokens
        epoch = packing.steps(samples, int(request["batch_size"]), int(request["gpus"]))
        return {
            "samples": len(self._kept),
            "packed_samples": packed,
            "dropped": self._dropped,
            "cut": self._cut,
            "failed": self._failed,
            "steps_per_epoch": epoch,
            "updates_per_epoch": -(-epoch // int(request["accumulation"])),
            "lost_tokens": lost,
            "tokens": _statistics(self._lengths),
        }


def _statistics(lengths: list[int]) -> dict[str, int]:
    """Total, nearest-rank percentiles and maximum; all 0 for no rows."""
    ordered = sorted(lengths)

    def percentile(share: int) -> int:
        return ordered[max(0, -(-len(ordered) * share // 100) - 1)] if ordered else 0

    return {
        "total": sum(ordered),
        "p50": percentile(50),
        "p90": percentile(90),
        "p99": percentile(99),
        "max": percentile(100),
    }


if __name__ == "__main__":
    i18n.use(os.environ.get("TUNEDECK_LANGUAGE", ""))
    worker = Worker()
    serve(
        {
            "templates": worker.templates,
            "open": worker.open,
            "sample": worker.sample,
            "count": worker.count,
        }
    )
