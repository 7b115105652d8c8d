"""The demo's journey: from a dataset to a chat, in a folder that becomes a workspace."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import msgspec

from engine import files, resources, text
from engine.demo import base, compare, dataset, ledger
from engine.demo.ledger import Entry, combine, stamp
from engine.demo.stages import CONFIG, TEMPLATE, Done, Stages
from engine.errors import Failed, Problem
from engine.i18n import N_, _
from engine.machine import gpu
from engine.settings import Settings
from engine.workspace import Workspace

ROOM = 1_500_000_000
"""Bytes of disk that the whole journey takes, the download included."""

TITLES = {
    "base": N_("Base model"),
    "data": N_("Dataset"),
    "config": N_("Config"),
    "preflight": N_("Preflight"),
    "train": N_("Training"),
    "convert": N_("Convert to an adapter"),
    "merge": N_("Merge"),
    "verify": N_("Verify"),
    "chat": N_("Ask both models"),
}


class Teller(Protocol):
    """Who is told how the journey goes."""

    def begin(self, number: int, total: int, title: str) -> None:
        """A stage begins."""

    def progress(self, done: int, total: int, words: str = "") -> None:
        """It goes on."""

    def end(self, words: str, seconds: float, reused: bool) -> None:
        """It is done; `reused`: it was done before."""


class Step(msgspec.Struct, frozen=True):
    """A stage that is done; `reused` when an earlier journey had done it.

    `seconds` is what it took when it was done.
    """

    step: str
    words: str
    seconds: float
    reused: bool


class Result(msgspec.Struct, frozen=True):
    """How the journey ended: the keys of ``demo --json``."""

    dir: str
    ok: bool
    questions: list[str]
    base: list[str]
    tuned: list[str]
    seconds: float
    """Of this time; see `Step` for what was done before."""
    device: str
    """"gpu" or "cpu"."""
    steps: list[Step]
    missed: list[str]
    """What should have come out and did not, in words."""


def run(
    folder: Path,
    settings: Settings,
    teller: Teller,
    *,
    cpu: bool = False,
) -> Result:
    """Walk the whole way in `folder`. On two cores it takes some minutes, the second time seconds.

    Args:
        folder: made when it is not there; becomes a workspace.
        settings: says which interpreter trains.
        teller: is told of every stage.
        cpu: do not use a GPU that is there.

    Raises `Problem` or `Failed` when a stage cannot be done.
    """
    if folder.exists() and not folder.is_dir():
        raise Problem(
            _("{path} is not a folder").format(path=folder),
            _("The demo makes a workspace: a folder."),
            _("Choose another name."),
        )
    workspace = Workspace(files.private_folder(folder))
    on_gpu = not cpu and gpu.read().available
    with ledger.alone(workspace.state / "demo.lock"):
        stages = Stages(workspace, settings, teller.progress, on_gpu=on_gpu)
        return _Journey(stages, teller).walk()


class _Journey:
    """The stages in order, each with what it depends on."""

    def __init__(self, stages: Stages, teller: Teller) -> None:
        self.stages = stages
        self.teller = teller
        self.steps: list[Step] = []

    def walk(self) -> Result:
        started = time.monotonic()
        do = self.stages
        if not do.base.exists():
            _require_room(do.workspace.root)
        self._step("base", base.fingerprint(), do.make_base)
        self._step("data", combine(dataset.content(), dataset.NEW_NAME), do.make_data)
        self._step("config", self._config_inputs(), do.make_config)
        given = combine(*map(stamp, (do.base, do.data, do.config)), str(do.on_gpu))
        self._step("preflight", given, do.preflight)
        trained = self._step("train", given, lambda: do.train(given)).facts
        checkpoint = Path(trained["checkpoint"])
        converted = self._step("convert", stamp(checkpoint), lambda: do.convert(checkpoint)).facts
        adapter = Path(converted["adapter"])
        both = combine(stamp(do.base), stamp(adapter))
        self._step("merge", both, lambda: do.merge(adapter))
        three = combine(both, stamp(do.merged))
        self._step("verify", three, lambda: do.verify(adapter))
        answers = self._step("chat", combine(three, *compare.QUESTIONS), do.chat).facts
        do.workspace.remember(
            data=str(do.data),
            template=TEMPLATE,
            config=str(do.config),
            run=Path(trained["run"]).name,
            base=str(do.base),
            adapter=str(adapter),
            merged=str(do.merged),
        )
        return self._result(answers["base"], answers["tuned"], time.monotonic() - started)

    def _step(self, name: str, inputs: str, work: Callable[[], Done]) -> Entry:
        """Do a stage, unless it was done with the same inputs and its outputs are untouched."""
        self.teller.begin(len(self.steps) + 1, len(TITLES), _(TITLES[name]))
        started = time.monotonic()
        book = self.stages.book
        entry = book.done(name, inputs)
        reused = entry is not None
        if entry is None:
            made = work()
            seconds = round(time.monotonic() - started, 2)
            facts = {"words": made.words, "seconds": seconds} | made.facts
            entry = book.note(name, inputs, made.outputs, **facts)
        step = Step(name, entry.facts["words"], entry.facts["seconds"], reused)
        self.steps.append(step)
        self.teller.end(step.words, step.seconds, reused)
        return entry

    def _config_inputs(self) -> str:
        """The shipped config, and what the copy points at."""
        do = self.stages
        shipped = (resources.configs() / f"{CONFIG}.py").read_bytes()
        return combine(shipped, str(do.data), str(do.base), str(do.on_gpu))

    def _result(self, before: list[str], after: list[str], seconds: float) -> Result:
        missed = compare.missed(before, after)
        return Result(
            dir=str(self.stages.workspace.root),
            ok=not missed,
            questions=list(compare.QUESTIONS),
            base=before,
            tuned=after,
            seconds=round(seconds, 1),
            device="gpu" if self.stages.on_gpu else "cpu",
            steps=self.steps,
            missed=missed,
        )


def _require_room(folder: Path) -> None:
    free = shutil.disk_usage(folder).free
    if free < ROOM:
        raise Failed(
            _("There is not enough room in {path}").format(path=folder),
            _("The demo takes {need}; {free} are free.").format(
                need=text.size(ROOM), free=text.size(free)
            ),
            _("Free some space, or choose a folder on another disk."),
        )
