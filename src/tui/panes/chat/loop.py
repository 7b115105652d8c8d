"""What closes the loop: prompt sets over the models, and corrected answers for the dataset."""

from __future__ import annotations

import asyncio
import string
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual import work
from textual.binding import Binding, BindingType

from engine import resources
from engine.chat import sets
from engine.chat.set_run import distinct
from engine.errors import Problem
from engine.i18n import N_, _, ngettext
from engine.joined.candidates import Candidate, candidates
from engine.text import one_line
from tui.dialogs.choose import Choice, Choose
from tui.dialogs.correct import Correct, Corrected
from tui.panes.base import Pane
from tui.panes.chat.set_screen import SetScreen

if TYPE_CHECKING:
    from engine.joined.corrected import Target
    from tui.panes.chat.pane import ChatPane

FOLDER = "prompts"
"""Where a workspace, and Tunedeck itself, keeps prompt sets."""


class LoopActs(Pane):
    """The keys of `ChatPane` for whole sets of questions and for the dataset."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("p", "prompt_set", N_("prompt set"), show=False, id="chat.set"),
        Binding("c", "correct", N_("correct, into the dataset"), show=False, id="chat.correct"),
    ]

    @property
    def _chat(self) -> ChatPane:
        return self  # type: ignore[return-value]  # these are its keys

    # -- prompt sets ------------------------------------------------------------

    @work(exclusive=True, group="dialog", exit_on_error=False)
    async def action_prompt_set(self) -> None:
        """Choose a file of questions and put them to the models above, and to checkpoints."""
        pane = self._chat
        if not pane.idle():
            return
        if not pane.chosen:
            self.trouble(Problem(_("No model is chosen"), "", _("Press ^O to choose one.")))
            return
        note = _("JSON, JSON Lines, CSV, TSV, or one question a line")
        files = await asyncio.to_thread(self._files)
        choices = [Choice(str(one), one.name, str(one.parent)) for one in files]
        value = await self.app.push_screen_wait(
            Choose(_("Prompt set"), choices, free=True, note=note)
        )
        if value is None:
            return
        try:
            path = await asyncio.to_thread(self.workspace.resolve, value)
            items = await asyncio.to_thread(sets.read, path)
        except Problem as problem:
            self.trouble(problem)
            return
        chosen = await self._who()
        if chosen is not None:
            await self._ask_set(path.name, items, chosen)

    async def _ask_set(
        self, name: str, items: list[sets.Item], chosen: dict[str, Candidate]
    ) -> None:
        pane = self._chat
        pane.busy = True
        try:
            await self.app.push_screen_wait(
                SetScreen(
                    name,
                    items,
                    chosen,
                    pane.asking,
                    pane.sampling,
                    pane.talk.system,
                    self.workspace,
                )
            )
        finally:
            pane.busy = False
        pane.forget([slot for slot in chosen if slot not in pane.chosen])
        pane.draw()

    def _files(self) -> list[Path]:
        folders = (self.workspace.root / FOLDER, resources.configs() / FOLDER)
        return [one for folder in folders for one in sorted(folder.glob("*")) if one.is_file()]

    async def _who(self) -> dict[str, Candidate] | None:
        """The models above, and if one wants the checkpoints of a run beside them."""
        pane = self._chat
        runs: dict[str, list[Candidate]] = {}
        every = await asyncio.to_thread(candidates, self.workspace)
        for one in reversed(every):  # the oldest step first
            known = any(one.spec == other.spec for other in pane.chosen.values())
            if one.checkpoint is not None and not known:
                runs.setdefault(one.checkpoint.parent.name, []).append(one)
        if not runs:
            return dict(pane.chosen)
        above = ", ".join(one_line(one.title) for one in pane.chosen.values())
        choices = [Choice("", _("the models above"), above)]
        for name, found in reversed(runs.items()):
            words = ngettext(
                "and the {n} checkpoint of {run}", "and the {n} checkpoints of {run}", len(found)
            )
            choices.append(Choice(name, words.format(n=len(found), run=name)))
        value = await self.app.push_screen_wait(Choose(_("Who is asked"), choices))
        if value is None:
            return None
        free = [slot for slot in string.ascii_uppercase if slot not in pane.chosen]
        return pane.chosen | dict(zip(free, runs.get(value, []), strict=False))

    # -- the dataset --------------------------------------------------------------

    @work(exit_on_error=False)
    async def action_correct(self) -> None:
        """Put the last answer right and add it to the dataset that is open."""
        from engine.joined import corrected

        pane = self._chat
        node = pane.talk.last
        if pane.busy or node is None or not node.replies:
            self.notify(_("There is no answer yet."), markup=False, timeout=4)
            return
        slot = await self._whose()
        reply = node.reply(slot) if slot else None
        if slot is None or reply is None:
            return
        try:
            where = corrected.target(self.workspace)
        except Problem as problem:
            self.trouble(problem)
            return
        data = "" if where.closed else self.workspace.relative(where.data)
        beside = self.workspace.relative(where.beside)
        dialog = Correct(
            node.question,
            reply.text,
            pane.system_of(slot) or where.system,
            data,
            beside,
            where.closed,
        )
        made = await self.app.push_screen_wait(dialog)
        if made is not None:
            self._add(where, made)

    async def _whose(self) -> str | None:
        """The slot whose answer is meant."""
        pane = self._chat
        node = pane.talk.last
        assert node is not None
        there = {slot: found for slot in sorted(node.replies) if (found := node.reply(slot))}
        if len(there) < 2:
            return next(iter(there), None)
        names = distinct({slot: pane.talk.models.get(slot, "") for slot in there})
        choices = [
            Choice(slot, f"{slot}  {names[slot]}", one_line(reply.text)[:60])
            for slot, reply in there.items()
        ]
        return await self.app.push_screen_wait(Choose(_("Whose answer"), choices))

    @work(thread=True, group="correct", exit_on_error=False)
    def _add(self, where: Target, made: Corrected) -> None:
        from engine.dataset.shapes import Turn
        from engine.joined import corrected

        turn = Turn(made.question, made.answer, made.system)
        try:
            added = corrected.add(where, turn, self.workspace, made.into_data)
        except (Problem, OSError) as error:
            problem = error if isinstance(error, Problem) else Problem(_("Not added"), str(error))
            self.app.call_from_thread(self.trouble, problem)
            return
        said = _("Row {row} of {path}").format(
            row=added.row, path=self.workspace.relative(added.path)
        )
        if added.kept:
            kept = self.workspace.relative(Path(added.kept))
            said += "\n" + _("The former version is {path}.").format(path=kept)
        self.app.call_from_thread(self.notify, said, markup=False)
