"""Rows as the model will see them, asked of a dataset worker that stays warm."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec

from engine.errors import Problem
from engine.i18n import _
from engine.paths import expanded
from engine.settings import Settings
from engine.worker.client import WorkerClient

WORKER = "engine.dataset.worker"


class Segment(msgspec.Struct, frozen=True):
    """Text whose tokens all carry loss, or all do not."""

    text: str
    loss: bool


class Sample(msgspec.Struct, frozen=True):
    """One row after XTuner's own map function, template and tokenizing.

    `tokens` is what is trained on, `cut` how many tokens beyond max_length are
    left out. The texts of `segments`, joined, are `text`.
    """

    tokens: int
    loss_tokens: int
    cut: int
    text: str
    segments: list[Segment]


class Preview:
    """A tokenizer, a template and a maximum length, held by a worker process.

    Blocking: in the app, call it from a thread. The first answer takes some
    seconds (the worker imports the tokenizer's library), the others milliseconds.
    """

    def __init__(self, settings: Settings) -> None:
        self._client = WorkerClient(WORKER, settings)
        self._opened: dict[str, Any] | None = None
        self.template = ""
        """The template in use, once `open` has returned; "" where the shape needs none."""
        self.split_marks: list[str] = []
        """Marks of that template that the tokenizer takes for plain text: hardly the right one."""

    @property
    def pid(self) -> int | None:
        """The worker's process id while it runs."""
        return self._client.pid

    def start(self) -> None:
        """Start the worker ahead of need; returns at once."""
        self._client.start()

    def open(
        self,
        model: Path | str,
        template: str | None = None,
        max_length: int = 2048,
        trust_remote_code: bool = False,
        shape: str = "",
    ) -> str:
        """Load the tokenizer of `model`; return the template in use.

        Without `template` it is the one that writes what the tokenizer's own chat
        template writes; for a `shape` that needs none (plain text) it is "". Raises
        `Problem` when there is no such model or template, and for a tokenizer with
        which XTuner fails; `Failed` when the worker cannot load it.
        """
        check_model(model)
        wanted = {
            "model": str(model),
            "template": template,
            "max_length": max_length,
            "trust_remote_code": trust_remote_code,
            "shape": shape,
        }
        if wanted != self._opened or self._client.pid is None:
            self._opened = None
            opened = self._client.result("open", **wanted)
            self.template, self.split_marks = opened["template"], opened["split_marks"]
            self._opened = wanted
        return self.template

    def sample(self, row: Any, shape: str) -> Sample:
        """`row` (decoded JSON) of `shape`, as the model will see it.

        Raises `Failed` for a row that XTuner drops or cannot take.
        """
        self._revive()
        return msgspec.convert(self._client.result("sample", row=row, shape=shape), Sample)

    def tokens(self, rows: list[Any], shape: str) -> list[int]:
        """How many tokens each of `rows` has before the cut; 0 for one that XTuner drops."""
        self._revive()
        counts: list[int] = self._client.result("tokens", rows=rows, shape=shape)["tokens"]
        return counts

    def _revive(self) -> None:
        """Start the worker again, with what it had open, if it died since."""
        if self._client.pid is None and self._opened is not None:
            self._client.result("open", **self._opened)

    def mapped(self, row: Any, shape: str) -> list[dict[str, Any]]:
        """The turns that the map function of `shape` makes of `row`; needs no model.

        Raises `Failed` for a row that it cannot take.
        """
        turns: list[dict[str, Any]] = self._client.result("mapped", row=row, shape=shape)[
            "conversation"
        ]
        return turns

    def close(self) -> None:
        """End the worker."""
        self._client.close()

    def __enter__(self) -> Preview:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def template_names(settings: Settings) -> list[str]:
    """The names of XTuner's prompt templates. Takes some seconds: a worker imports them."""
    with WorkerClient(WORKER, settings) as client:
        names: list[str] = client.result("templates")["names"]
    return names


def map_functions(settings: Settings) -> dict[str, list[str]]:
    """XTuner's map functions and the columns that each asks for; {} without XTuner. Some 0.2 s."""
    with WorkerClient(WORKER, settings) as client:
        return dict(client.result("map_functions")["functions"])


def check_map_function(name: str, settings: Settings) -> None:
    """Raise `Problem` when `name` is none of XTuner's map functions."""
    known = map_functions(settings)
    if name not in known:
        raise Problem(
            _("XTuner has no map function called {name}").format(name=name),
            todo=_("It has: {names}.").format(names=", ".join(known) or _("none")),
        )


def check_model(model: Path | str) -> None:
    """Raise `Problem` for a path that cannot hold a tokenizer, before anything is started."""
    path = expanded(model)
    what = _("{path} is not a model").format(path=model)
    todo = _("Give a model's folder: one with config.json and tokenizer files.")
    if not path.exists():
        text = str(model)
        if text.count("/") == 1 and not text.startswith((".", "/", "~")):
            return  # the name of a model on the hub
        raise Problem(what, _("There is no such folder."), todo)
    if not path.is_dir():
        raise Problem(what, _("It is a file."), todo)
    names = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "vocab.json")
    if any((path / name).is_file() for name in names):
        return
    if (path / "adapter_config.json").is_file():
        raise Problem(
            what, _("It is an adapter, which has no tokenizer."), _("Give its base model.")
        )
    raise Problem(what, _("It holds no tokenizer files."), todo)
