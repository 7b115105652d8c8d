"""The dataset worker: rows as the model will see them, by XTuner's own functions.

Requests (see `engine.worker.serve`):

``templates {}`` → ``{names}``
``map_functions {}`` → ``{functions: [[name, columns]]}``, read without importing XTuner
``mapped {row, shape}`` → ``{conversation}``: the row after its map function
``open {model, template, max_length, trust_remote_code, shape}`` → ``{template,
split_marks}``
``sample {row, shape}`` → ``{tokens, loss_tokens, cut, text, segments,
input_ids, labels}``
``tokens {rows, shape}`` → ``{tokens}``: the tokens of each before the cut, 0 where it is
dropped or cannot be taken
``count {paths, shape, model, template, max_length, trust_remote_code, folder}`` →
``{template}`` and what `counting.summary` and `counting.counts` say (without a
``model`` only the former); sends ``progress``
``pack {folder, name, max_length, map_num_proc, seed}`` → ``{packed_samples, lost_tokens}``
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine import i18n
from engine.dataset import map_functions, shapes, xtuner_parts
from engine.dataset.checking import counting, packer
from engine.dataset.checking.batching import BatchFeed, OnlyMapped
from engine.dataset.checking.rowpass import RowPass, Tokenize
from engine.dataset.checking.suspects import Marks
from engine.dataset.feed import Feed, load_tokenizer, split_marks, template_for
from engine.dataset.map_functions import MapFunctions
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

    def map_functions(self, _request: Mapping[str, Any], _e: Emit, _s: Cancelled) -> dict[str, Any]:
        """XTuner's own map functions."""
        return {"functions": [list(one) for one in map_functions.offered()]}

    def mapped(self, request: Mapping[str, Any], _emit: Emit, _stop: Cancelled) -> dict[str, Any]:
        """One row as its map function makes it."""
        maps = self._maps(request["shape"])
        return {"conversation": maps.conversation(request["row"], request["shape"])}

    def _maps(self, shape: str) -> MapFunctions:
        own = bool(shapes.by_name(shape).module)
        return MapFunctions(None if own else self._load())

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
        wanted, shape = request.get("template"), request.get("shape") or ""
        template = template_for(self._tokenizer, parts.templates, wanted, shape)
        self._feed = Feed(parts, self._tokenizer, template, int(request["max_length"]))
        strange = split_marks(self._tokenizer, template, parts.templates)
        return {"template": template, "split_marks": strange}

    def sample(self, request: Mapping[str, Any], _emit: Emit, _stop: Cancelled) -> dict[str, Any]:
        """One row as the model will see it."""
        if self._feed is None:
            raise Problem("sample: nothing is open")
        try:
            sample = self._feed.encode(request["row"], request["shape"])
        except Problem:
            raise
        except Exception as error:
            raise Failed(
                _("XTuner cannot take this row"),
                f"{type(error).__name__}: {error}",
                _("`tunedeck data check` says what is wrong with it."),
                repr(error),
            ) from error
        if sample is not None and sample.behind:
            raise Failed(
                _("XTuner drops this row"),
                _("Its answer lies behind max_length: {length} tokens, cut at {limit}.").format(
                    length=sample.length, limit=len(sample.input_ids)
                ),
                _("Raise max_length, or shorten what stands before the answer."),
            )
        if sample is None or not sample.trained:
            raise Failed(
                _("XTuner drops this row"),
                _("No token of it would carry loss."),
                _("Give it an answer, or remove it."),
            )
        return self._feed.show(sample)

    def tokens(self, request: Mapping[str, Any], _emit: Emit, _stop: Cancelled) -> dict[str, Any]:
        """How many tokens each of some rows has."""
        if self._feed is None:
            raise Problem("tokens: nothing is open")
        return {"tokens": [self._tokens(row, request["shape"]) for row in request["rows"]]}

    def _tokens(self, row: Any, shape: str) -> int:
        assert self._feed is not None
        try:
            sample = self._feed.encode(row, shape)
        except Exception:  # `sample` says why; one bad row must not cost the others' numbers
            return 0
        return sample.length if sample is not None and sample.trained else 0

    def count(self, request: Mapping[str, Any], emit: Emit, stop: Cancelled) -> dict[str, Any]:
        """All rows: what is broken or odd; with a model, tokens, rows cut and dropped."""
        found: dict[str, Any] = {}
        name = request["shape"]
        tokenize: Tokenize | None = None
        marks = None
        if request["model"] is not None:
            found = self.open(request, emit, stop)
            assert self._parts is not None and self._feed is not None
            tokenize = BatchFeed(self._feed, self._tokenizer)
            marks = Marks.of(self._tokenizer, self._parts.templates.get(found["template"], {}))
        elif name and shapes.by_name(name).opaque:
            tokenize = OnlyMapped(self._maps(name))
        if name and (tokenize is not None or shapes.by_name(name).module):
            self._maps(name).of(name)  # what cannot be used at all is told once, not by each row
        look = RowPass(name, marks, tokenize)
        last = 0.0

        def progress(done: int, total: int) -> None:
            nonlocal last
            if time.monotonic() - last > 0.2 or done == total:
                last = time.monotonic()
                emit("progress", done=done, total=total)

        paths = request["paths"]
        with Dataset.open(paths[0] if len(paths) == 1 else paths, name) as dataset:
            part = counting.every_row(dataset, look, progress, stop)
        found |= counting.summary(part)
        if request["model"] is not None:
            counting.save(part, Path(request["folder"]))
            found |= counting.counts(part)
        return found

    def pack(self, request: Mapping[str, Any], _emit: Emit, _stop: Cancelled) -> dict[str, Any]:
        """Pack the rows whose numbers ``count`` left in a folder; their order goes there too."""
        return packer.pack_folder(
            Path(request["folder"]),
            request["name"],
            int(request["max_length"]),
            int(request["map_num_proc"]),
            int(request["seed"]),
            self._load().packer,
        )


if __name__ == "__main__":
    i18n.use(os.environ.get("TUNEDECK_LANGUAGE", ""))
    worker = Worker()
    serve(
        {
            "templates": worker.templates,
            "map_functions": worker.map_functions,
            "mapped": worker.mapped,
            "open": worker.open,
            "sample": worker.sample,
            "tokens": worker.tokens,
            "count": worker.count,
            "pack": worker.pack,
        }
    )
