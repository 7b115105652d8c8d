"""What the Export pane asks: which checkpoint, onto what, how, and where to with the model."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from textual import work

from engine.errors import Problem
from engine.i18n import _
from engine.text import size
from tui.copying import copy
from tui.dialogs.ask import Ask
from tui.dialogs.choose import Choice, Choose
from tui.dialogs.confirm import Confirm
from tui.panes.base import Pane

if TYPE_CHECKING:
    from engine.export.handover import Handover
    from engine.export.job import Order, Step
    from engine.export.plan import Choices
    from engine.run.checkpoints import Checkpoint
    from engine.workspace import Workspace
    from tui.panes.export.look import Look


class Choosing(Pane):
    """The dialogs of the Export pane."""

    seen: Look | None
    """What is shown."""
    bases: dict[Path, Path]
    """By checkpoint: the base model that was chosen in place of the config's."""

    @abstractmethod
    def read(self, checkpoint: Path | None = None) -> object:
        """Look at a checkpoint."""

    @abstractmethod
    def run_job(self, wanted: Order) -> None:
        """Begin a job and follow it."""

    @property
    @abstractmethod
    def busy(self) -> bool:
        """Whether a job is at work."""

    @work(exclusive=True, group="dialog", exit_on_error=False)
    async def action_checkpoint(self) -> None:
        """Choose a checkpoint of any run, or give a path."""
        choices = await asyncio.to_thread(_checkpoints, self.workspace)
        chosen = await self.app.push_screen_wait(Choose(_("Checkpoint"), choices, free=True))
        if chosen:
            self.read(await asyncio.to_thread(self.workspace.resolve, chosen))

    @work(exclusive=True, group="dialog", exit_on_error=False)
    async def action_base(self) -> None:
        """Choose the base model that the adapter belongs to."""
        from engine.export import artefact

        checkpoint = self._at_rest.plan.checkpoint
        folder = self.workspace.models
        models = await asyncio.to_thread(lambda: sorted(folder.glob("*/config.json")))
        choices = [Choice(str(one.parent), self.workspace.relative(one.parent)) for one in models]
        chosen = await self.app.push_screen_wait(Choose(_("Base model"), choices, free=True))
        if chosen:
            path = await asyncio.to_thread(self.workspace.resolve, chosen)
            kinds, wanted = (artefact.MODEL,), _("a model's folder")
            await asyncio.to_thread(artefact.expect, path, kinds, wanted)
            self.bases[checkpoint] = path
            self.read(checkpoint)

    @work(exclusive=True, group="dialog", exit_on_error=False)
    async def action_options(self) -> None:
        """Choose the type, the device and the folder of finished models."""
        from engine.export import plan as plans

        checkpoint = self._at_rest.plan.checkpoint
        chosen = await asyncio.to_thread(plans.choices, self.workspace)
        offered = [
            Choice("dtype", _("type of the weights"), chosen.dtype),
            Choice("device", _("where to compute"), chosen.device),
            Choice("out", _("folder for finished models"), chosen.out or "models"),
        ]
        what = await self.app.push_screen_wait(Choose(_("How models are made"), offered))
        if what is None:
            return
        value = await self._option(what, chosen)
        if value is not None:
            chosen = msgspec.structs.replace(chosen, **{what: value})
            await asyncio.to_thread(plans.choose, self.workspace, chosen)
            self.read(checkpoint)

    async def _option(self, what: str, chosen: Choices) -> str | None:
        if what == "out":
            fields = [(_("folder"), getattr(chosen, what) or "models")]
            asked = await self.app.push_screen_wait(Ask(_("Folder for finished models"), fields))
            return asked[0].strip() if asked else None
        if what == "dtype":
            offered = [Choice("auto", "auto", _("as the base has it"))]
            offered += [Choice(one, one) for one in ("bf16", "fp16", "fp32")]
            title = _("Type of the weights")
            return await self.app.push_screen_wait(Choose(title, offered, now=chosen.dtype))
        from engine.machine import gpu

        found = await asyncio.to_thread(gpu.read)
        offered = [Choice("auto", "auto", _("a GPU if one is free, else the CPU"))]
        offered.append(Choice("cpu", "cpu"))
        offered += [
            Choice(f"cuda:{at}", f"cuda:{at}", one.name)
            for at, one in enumerate(gpu.for_one_process(found.gpus))
        ]
        title = _("Where to compute")
        return await self.app.push_screen_wait(Choose(title, offered, now=chosen.device))

    # -- what becomes of the model ----------------------------------------------

    @property
    def _at_rest(self) -> Look:
        """What is shown. Raises `Problem` while it is at work: it would go on as it was begun."""
        if self.seen is None:
            raise Problem(_("There is no checkpoint yet."), "", _("c chooses one."))
        if self.busy:
            raise at_work()
        return self.seen

    @property
    def _made(self) -> tuple[Look, Handover]:
        """What is shown, and its model. Raises `Problem` while that is not made."""
        if self.seen is None or self.seen.handover is None:
            raise Problem(_("First the model has to be made."))
        return self.seen, self.seen.handover

    @work(exit_on_error=False)
    async def action_copy(self) -> None:
        """Copy one of the commands that serve or copy the model."""
        found = self._made[1]
        offered = [Choice(one.tool, one.tool, one.note) for one in found.commands]
        chosen = await self.app.push_screen_wait(Choose(_("Copy the command for"), offered))
        line = next((one.command for one in found.commands if one.tool == chosen), "")
        if line:
            copy(self, line)

    @work(exit_on_error=False)
    async def action_gguf(self) -> None:
        """Make a GGUF file of the model; the sizes are said before."""
        seen, found = self._made
        if self.busy:
            raise at_work()
        if not seen.llama_cpp:
            raise Problem(
                _("llama.cpp is not here"),
                _("GGUF files are made by llama.cpp's own programs."),
                _("Install llama.cpp, and put it on PATH or set llama_cpp to its folder."),
            )
        sizes = found.gguf_bytes
        offered = [Choice(kind, kind, "≈ " + size(count)) for kind, count in sizes.items()]
        note = _("{size} are free").format(size=size(_free(seen.plan.merged)))
        chosen = await self.app.push_screen_wait(Choose(_("GGUF file"), offered, note=note))
        if chosen:
            self._hand_over(seen, "gguf", gguf=chosen)

    @work(exclusive=True, group="upload", exit_on_error=False)
    async def action_upload(self) -> None:
        """Upload the model to a hub, privately unless it is said otherwise."""
        from engine.export import plan as plans
        from engine.hub import upload

        seen, found = self._made
        if self.busy:
            raise at_work()
        chosen = await asyncio.to_thread(plans.choices, self.workspace)
        owner = chosen.target.rpartition("/")[0] if chosen.target else "hf:me"
        fields = [(_("repository"), f"{owner}/{seen.plan.merged.name}")]
        note = _("hf: is Hugging Face, ms: ModelScope. {size} to upload.").format(
            size=size(found.bytes)
        )
        dialog = Ask(_("Upload"), fields, check=lambda texts: upload.target(texts[0]), note=note)
        asked = await self.app.push_screen_wait(dialog)
        if not asked:
            return
        question = _("Shall everybody see {name}?").format(name=asked[0])
        public = await self.app.push_screen_wait(Confirm(question, _("No: it is private.")))
        chosen = msgspec.structs.replace(chosen, target=asked[0])
        await asyncio.to_thread(plans.choose, self.workspace, chosen)
        self._hand_over(seen, "upload", upload=asked[0], public=public)

    @work(thread=True, group="begin", exit_on_error=False)
    def _hand_over(self, seen: Look, step: Step, **values: object) -> None:
        from engine.export import plan as plans

        wanted = plans.order(seen.plan, (step,), workspace=self.workspace, settings=self.settings)
        self.run_job(msgspec.structs.replace(wanted, **values))


def at_work() -> Problem:
    """Why nothing else can be begun."""
    return Problem(_("A step is at work."), "", _("Wait until it is done, or cancel it with x."))


def _free(path: Path) -> int:
    from engine.export import costs

    return costs.free(path)


def _checkpoints(workspace: Workspace) -> list[Choice]:
    """Those of all runs, the newest of each first, and which of them are at work."""
    from engine.export import job
    from engine.run import listing

    working = {one.folder for one in job.running(workspace)}
    return [
        Choice(
            str(one.path),
            f"{run.name} / {one.path.name}",
            _detail(one, job.of(workspace, one.path).folder in working),
        )
        for run in listing.list_runs(workspace)
        for one in reversed(run.checkpoints())
    ]


def _detail(checkpoint: Checkpoint, working: bool) -> str:
    parts = [size(checkpoint.bytes)]
    if checkpoint.loss is not None:
        parts.append(f"loss {checkpoint.loss:.3f}")
    if not checkpoint.complete:
        parts.append(_("torn"))
    if working:
        parts.append("◐ " + _("being exported"))
    return "  ".join(parts)
