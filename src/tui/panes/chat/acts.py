"""What the keys of the Chat pane do."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import msgspec
from rich.text import Text
from textual import work
from textual.binding import Binding, BindingType

from engine import files
from engine.chat import engines, transcripts
from engine.chat.conversation import Conversation
from engine.chat.engines import Engine
from engine.chat.transcripts import Transcript
from engine.errors import Problem
from engine.i18n import N_, _
from engine.joined.candidates import Candidate, candidates, named
from engine.text import one_line
from tui.dialogs.ask import Ask
from tui.dialogs.choose import Choice, Choose
from tui.dialogs.reading import Reading
from tui.panes.base import Pane
from tui.panes.chat import looking
from tui.widgets.question import Question

if TYPE_CHECKING:
    from tui.panes.chat.pane import ChatPane

NONE = "-"
_ON_A_QUESTION = frozenset({"again", "edit_last", "undo", "clear", "save", "exact", "correct"})
"""Actions on what was asked."""
_AFTER_ANSWERS = frozenset(
    {"again", "edit_last", "undo", "branch", "clear", "reopen", "exact", "models", "unload"}
    | {"prompt_set", "correct"}
)
"""Actions for which the answers in progress are waited for."""
CHANCES = 5
"""Alternatives that are kept for each token when somebody wants to see them."""


class Acts(Pane):
    """The keys of `ChatPane`. With ^ they work while one writes; plain ones after Esc."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "halt", N_("stop / leave the field"), show=False, id="chat.halt"),
        Binding("ctrl+c", "stop", N_("stop"), show=False, id="chat.stop"),
        Binding("i,enter", "write", N_("write"), show=False, id="chat.write"),
        Binding("ctrl+r,r", "again", N_("again"), id="chat.again"),
        Binding("ctrl+o,o", "models", N_("models"), id="chat.models"),
        Binding("ctrl+g,g", "sampling", N_("sampling"), id="chat.sampling"),
        # In the field ^E would else go to the line's end, as End does.
        Binding("ctrl+e", "exact", N_("exact prompt"), priority=True, id="chat.exact"),
        Binding("ctrl+s,s", "save", N_("save"), id="chat.save"),
        Binding("ctrl+l,n", "clear", N_("new talk"), id="chat.clear"),
        Binding("e", "edit_last", N_("edit the last question"), show=False, id="chat.edit"),
        Binding("u", "undo", N_("take the last question back"), show=False, id="chat.undo"),
        Binding("left_square_bracket", "branch(-1)", N_("branch before"), show=False),
        Binding("right_square_bracket", "branch(1)", N_("next branch"), show=False),
        Binding("t", "chances", N_("how likely each token was"), show=False, id="chat.chances"),
        Binding("d", "greedy", N_("greedy, or drawn"), show=False, id="chat.greedy"),
        Binding("y", "system", N_("system text"), show=False, id="chat.system"),
        Binding("h", "reopen", N_("an earlier talk"), show=False, id="chat.reopen"),
        Binding("f", "unload", N_("free the models' memory"), show=False, id="chat.unload"),
        Binding("w", "share", N_("GPUs of runs: take, leave"), show=False, id="chat.share"),
    ]

    @property
    def _pane(self) -> ChatPane:
        return self  # type: ignore[return-value]  # these are its keys

    # -- the conversation -------------------------------------------------------

    def action_halt(self) -> None:
        """Stop the answers; without one, leave the field so that plain keys work."""
        pane = self._pane
        if pane.busy:
            pane.asking.stop()
            return
        self.focus()
        self.app.action_put_away()  # type: ignore[attr-defined]

    def action_stop(self) -> None:
        """Stop the answers, as in a shell."""
        self._pane.asking.stop()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """In the field Enter sends: there is no way back into it. ^C stops what answers."""
        if action == "stop":
            return self.is_mounted and self._pane.busy
        return action != "write" or not (self.is_mounted and self.query_one(Question).has_focus)

    def offers(self, action: str) -> bool:
        """What needs a question or models, where they are; what waits for answers, after them."""
        pane = self._pane
        if pane.busy and action in _AFTER_ANSWERS:
            return False
        if action == "exact" and any(pane.parities()):
            return True
        if action in _ON_A_QUESTION:
            return pane.talk.last is not None
        return bool(pane.chosen) if action == "prompt_set" else True

    def idle(self) -> bool:
        """Whether nobody answers now; it is told when somebody does."""
        if self._pane.busy:
            said = _("The models are answering; Esc stops them.")
            self.notify(said, markup=False, timeout=4)
        return not self._pane.busy

    def _asked(self) -> bool:
        """Whether there is a question to do something with; it is told when there is none."""
        if self._pane.talk.last is None:
            self.notify(_("Nothing was asked yet."), markup=False, timeout=4)
        return self._pane.talk.last is not None

    def action_write(self) -> None:
        """Back into the field."""
        self.query_one(Question).focus()

    def action_again(self) -> None:
        """Ask the last question once more; the old answers are kept beside the new ones."""
        pane = self._pane
        if self.idle() and self._asked() and pane.talk.last is not None:
            pane.answer(pane.talk.last)

    def action_edit_last(self) -> None:
        """Bring the last question back into the field; sent again it is a branch of its own."""
        pane = self._pane
        if not self.idle() or not self._asked() or pane.talk.last is None:
            return
        field = self.query_one(Question)
        field.put(pane.talk.last.question)
        field.focus()
        self._take_back()

    def action_undo(self) -> None:
        """Take the last question and its answers back; ] brings them back."""
        if self.idle() and self._asked():
            self._take_back()

    @work(exclusive=True, group="branch", exit_on_error=False)
    async def _take_back(self) -> None:
        self._pane.talk.undo()
        await self._pane.redraw_branch()

    @work(exclusive=True, group="branch", exit_on_error=False)
    async def action_branch(self, step: int) -> None:
        """Open another branch of the conversation."""
        pane = self._pane
        if self.idle() and pane.talk.turn_to(step):
            await pane.redraw_branch()

    @work(exclusive=True, group="branch", exit_on_error=False)
    async def action_clear(self) -> None:
        """Begin a new talk with the same models; the old one stays in its file."""
        pane = self._pane
        if not self.idle():
            return
        pane.talk = Conversation(pane.talk.system, pane.talk.models)
        pane.transcript = Transcript(pane.workspace.root / "chats")
        await pane.redraw_branch()

    @work(exclusive=True, group="reopen", exit_on_error=False)
    async def action_reopen(self) -> None:
        """Go on with an earlier talk."""
        pane = self._pane
        choices = await asyncio.to_thread(_talks, pane.workspace.root / "chats")
        value = await self.app.push_screen_wait(Choose(_("Earlier talks"), choices))
        if value is None:
            return
        earlier = await asyncio.to_thread(transcripts.resume, Path(value))
        if not pane.busy:
            pane.talk, pane.transcript = earlier
            await pane.redraw_branch()

    @work(exit_on_error=False)
    async def action_save(self) -> None:
        """Write the open branch as Markdown into the workspace."""
        pane = self._pane
        if not self._asked():
            return
        path = pane.transcript.path
        target = (path or pane.workspace.root / "chats" / "chat.jsonl").with_suffix(".md")
        await asyncio.to_thread(_write, target, transcripts.markdown(pane.talk))
        where = pane.workspace.relative(target)
        self.notify(_("Saved {path}").format(path=where), markup=False)

    # -- looking ------------------------------------------------------------------

    @work(thread=True, exclusive=True, group="look", exit_on_error=False)
    def action_exact(self) -> None:
        """The exact prompt of the last question, with its special tokens, ids and count."""
        pane = self._pane
        if not self.app.call_from_thread(self.idle):
            return
        lines: list[str | Text] = []
        for slot, loaded in pane.parities():
            prompt = pane.asking.prompt(slot, pane.talk)
            if prompt is not None:
                lines += looking.prompt_lines(slot, prompt, loaded.parity)
            elif loaded.parity is not None:
                lines += looking.parity_lines(loaded.parity)
        screen = Reading(_("Exact prompt"), lines or [_("Nothing was asked yet.")])
        self.app.call_from_thread(self.app.push_screen, screen)

    def action_chances(self) -> None:
        """How likely each token of the last answers was, with the alternatives."""
        pane = self._pane
        lines: list[str | Text] = []
        for slot, answer in sorted(pane.answers.items()):
            if answer.chances:
                lines += looking.chance_lines(slot, answer)
        if lines:
            self.app.push_screen(Reading(_("How likely each token was"), lines))
            return
        pane.sampling = msgspec.structs.replace(pane.sampling, chances=CHANCES)
        if pane.talk.last is None or pane.busy:
            self.notify(_("From now on answers keep how likely each token was."), markup=False)
        else:
            self.notify(_("Asked again, with probabilities; then t shows them."), markup=False)
            self.action_again()

    # -- choosing -------------------------------------------------------------------

    @work(exclusive=True, group="dialog", exit_on_error=False)
    async def action_models(self) -> None:
        """Choose up to three models: each further one may be left out."""
        pane = self._pane
        if not self.idle():
            return
        own = await asyncio.to_thread(candidates, pane.workspace)
        if pane.busy:  # a question was faster
            return
        served = [_by(engine, one) for engine in engines.found(pane.settings) for one in own]
        known = {str(at): one for at, one in enumerate([*own, *served])}
        choices = [Choice(key, one.title, one.detail) for key, one in known.items()]
        chosen: dict[str, Candidate] = {}
        for slot in ("A", "B", "C"):
            none = [Choice(NONE, _("no further model"))] if chosen else []
            note = _("a model, a checkpoint, or a server's address (http://host:8000/v1)")
            title = _("Model {slot}").format(slot=slot)
            value = await self.app.push_screen_wait(
                Choose(title, [*none, *choices], free=True, note=note)
            )
            if value is None:
                return
            if value == NONE:
                break
            found = known.get(value)
            chosen[slot] = found if found is not None else named(value, pane.workspace)
        pane.choose(chosen)
        self.query_one(Question).focus()

    def action_unload(self) -> None:
        """Free the memory of all models and end the engines; the next question brings them back."""
        pane = self._pane
        if self.idle():
            pane.let_go()
            self.notify(_("The models leave the memory."), markup=False, timeout=4)

    def action_share(self) -> None:
        """Let models onto GPUs on which runs train, or keep them off again."""
        asking = self._pane.asking
        asking.share = not asking.share
        shared = _("Models may take a GPU on which a run trains.")
        left = _("GPUs on which a run trains are left alone.")
        self.notify(shared if asking.share else left, markup=False, timeout=4)

    @work(exit_on_error=False)
    async def action_sampling(self) -> None:
        """Change how answers are drawn; temperature 0 is greedy."""
        pane = self._pane
        names = ("temperature", "top_p", "top_k", "repetition", "max_new_tokens", "seed")
        now = [(name, _shown(getattr(pane.sampling, name))) for name in names]

        def made(values: list[str]) -> dict[str, float | int | None]:
            return dict(zip(names, map(_number, names, values), strict=True))

        def check(values: list[str]) -> None:
            msgspec.structs.replace(pane.sampling, **made(values)).check()

        note = _("temperature 0 is greedy; top_k 0 is all; no seed draws anew each time")
        answer = await self.app.push_screen_wait(Ask(_("Sampling"), now, check, note))
        if answer is not None:
            pane.sampling = msgspec.structs.replace(pane.sampling, **made(answer))

    def action_greedy(self) -> None:
        """Switch between the likeliest answer and a drawn one."""
        pane = self._pane
        drawn = pane.sampling.temperature == 0
        pane.sampling = msgspec.structs.replace(pane.sampling, temperature=0.8 if drawn else 0.0)
        said = _("Answers are drawn (temperature 0.8).") if drawn else _("Answers are greedy.")
        self.notify(said, markup=False, timeout=4)

    @work(exit_on_error=False)
    async def action_system(self) -> None:
        """Set the system text, for all models alike; empty is none, - is each model's own."""
        pane = self._pane
        own = pane.talk.system
        note = _("- is each model's own, as trained; empty is none")
        fields = [(_("System text"), "-" if own is None else own)]
        answer = await self.app.push_screen_wait(Ask(_("System text"), fields, note=note))
        if answer is not None:
            pane.talk.system = None if answer[0].strip() == "-" else answer[0]


def _by(engine: Engine, candidate: Candidate) -> Candidate:
    """The same model, with an engine of the user's that answers for it."""
    return msgspec.structs.replace(
        candidate,
        title=f"{candidate.title} · {engine.name}",
        spec=msgspec.structs.replace(candidate.spec, engine=engine.name),
    )


def _write(target: Path, text: str) -> None:
    with files.replacing(target) as file:
        file.write(text.encode())


def _talks(folder: Path) -> list[Choice]:
    """The transcripts in `folder`, each read for its first question."""
    return [Choice(str(one), *_heading(one)) for one in transcripts.listed(folder)]


def _heading(path: Path) -> tuple[str, str]:
    """A transcript in the list: when, and its first question."""
    when = path.stem
    with contextlib.suppress(ValueError):  # a file of another name
        when = f"{datetime.strptime(path.stem[:15], '%Y%m%d-%H%M%S'):%Y-%m-%d %H:%M:%S}"
    try:
        branch = transcripts.read(path).branch
    except Problem as problem:
        return when, problem.what
    return when, one_line(branch[0].question)[:60] if branch else ""


def _shown(value: float | int | None) -> str:
    return "" if value is None else f"{value:g}"


def _number(name: str, text: str) -> float | int | None:
    if name == "seed" and not text.strip():
        return None
    try:
        return float(text) if name in ("temperature", "top_p", "repetition") else int(text)
    except ValueError as error:
        raise Problem(
            _("{name} must be a number").format(name=name), _("{text} is none.").format(text=text)
        ) from error
