"""The Chat pane: the same question to up to three models, side by side, as the answers come."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from textual import on, work
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.timer import Timer
from textual.widget import Widget

from engine.chat.answer import Answer, Loaded, Sampling
from engine.chat.conversation import Conversation, Node, Reply
from engine.chat.transcripts import Transcript
from engine.errors import Problem
from engine.i18n import N_, _
from engine.joined.candidates import Candidate, suggested
from engine.settings import Settings
from engine.text import one_line
from engine.workspace import Workspace
from tui.panes.base import Pane
from tui.panes.chat.acts import Acts
from tui.panes.chat.asking import Asking
from tui.panes.chat.column import WAITING, Column, Exchange
from tui.panes.chat.hearing import Hearing
from tui.panes.chat.loop import LoopActs
from tui.widgets.question import Question

SLOTS = ("A", "B", "C")
KEEP_AFTER = 0.5
"""Seconds without a key after which a question that is being written is kept."""
IDLE_LOOK = 20.0
"""Seconds between looks at whether the models were idle long enough to leave."""


class ChatPane(Acts, LoopActs, Pane):
    """Talks with the tuned model, and with others beside it."""

    TAB = "chat"
    WAYS = {
        "engine": N_("^O offers it without."),
        "share-gpu": N_("After Esc w lets models share its GPU."),
        "unload": N_("After Esc f takes all models out."),
    }
    can_focus = True  # after Esc, so that plain keys work
    DEFAULT_CSS = """
    ChatPane #columns { height: 1fr; }
    """

    def __init__(self, workspace: Workspace, settings: Settings) -> None:
        super().__init__(workspace, settings)
        self.chosen: dict[str, Candidate] = {}
        self.sampling = Sampling(max_new_tokens=256)
        self.talk = Conversation()
        self.transcript = Transcript(workspace.root / "chats")
        self.asking = Asking(workspace, settings)
        self.busy = False
        self.answers: dict[str, Answer] = {}
        """The last answer of each slot, as it came."""
        self._loaded: dict[str, Loaded] = {}
        self._exchanges: dict[str, Exchange] = {}
        self._open: set[str] = set()
        """The slots that owe an answer."""
        self._suggested: dict[str, Candidate] = {}
        self._keeping: Timer | None = None

    # -- layout ---------------------------------------------------------------

    def compose(self) -> ComposeResult:
        """A column for each model, the field for the question."""
        with Horizontal(id="columns"):
            for slot in SLOTS:
                yield Column(slot)
        yield Question(_("ask something"), lambda: self.talk.questions(), id="question")

    def on_mount(self) -> None:
        """No model is loaded before something is asked; what was being written is there again."""
        self.query_one(Question).put(self.workspace.last().question)
        for column in self.query(Column):
            column.set_class(column.slot != SLOTS[0], "-later")
        if self.settings.chat.idle:
            self.set_interval(IDLE_LOOK, self._unload_when_idle)

    @on(Question.Changed)
    def _written(self) -> None:
        """Keep what is being written, soon after the last key."""
        if self._keeping is not None:
            self._keeping.stop()
        self._keeping = self.set_timer(KEEP_AFTER, self._keep_question)

    def _keep_question(self) -> None:
        if values := self.untold():
            self.post_message(self.Opened(**values))

    def untold(self) -> dict[str, str]:
        """What is being written, where it is not kept as it stands."""
        text = self.query_one(Question).text
        return {} if text == self.workspace.last().question else {"question": text}

    def on_unmount(self) -> None:
        """The models' process ends with the pane."""
        self.asking.close()

    def home(self) -> Widget:
        """The field for the question."""
        return self.query_one(Question)

    def activate(self) -> None:
        """Suggest what was made last: the tuned model, and its base beside it.

        What others answered does not stand above theirs: they begin a talk of their own.
        """
        found = suggested(self.workspace)
        if found != self._suggested and not self.busy:
            self._suggested = found
            if found and found != self.chosen:
                self.choose(found)
                if self.talk.branch:
                    self.action_clear()
                    said = _("A new talk with {name}. After Esc h brings an earlier one back.")
                    self.notify(said.format(name=found[SLOTS[0]].title), markup=False)
        self.draw()

    def column(self, slot: str) -> Column:
        """The column of a slot."""
        return self.query_one(f"#column-{slot}", Column)

    def choose(self, chosen: dict[str, Candidate]) -> None:
        """Other models: what they have in common with the old ones stays in memory."""
        for slot, candidate in list(self.chosen.items()):
            if chosen.get(slot) != candidate:
                self._loaded.pop(slot, None)
                self.answers.pop(slot, None)
        gone = [slot for slot in self.chosen if slot not in chosen]
        self.chosen = dict(chosen)
        self.talk.models = {slot: one.title for slot, one in chosen.items()}
        if gone:
            self.forget(gone)
        self.draw()

    @work(thread=True, group="forget", exit_on_error=False)
    def forget(self, slots: list[str]) -> None:
        """Free the memory of `slots`."""
        for slot in slots:
            self.asking.forget(slot)

    def let_go(self) -> None:
        """Free the memory of all models; the next question loads them again."""
        self._loaded.clear()
        self.asking.close()
        self.draw()

    def draw(self) -> None:
        """The models above their columns, and what Enter does."""
        for slot in SLOTS:
            candidate = self.chosen.get(slot)
            # Where nothing is chosen yet, an empty first column stands for all.
            used = bool(candidate) or (not self.chosen and slot == SLOTS[0])
            self.column(slot).set_class(used, "-used")
            title = candidate.title if candidate else _("no model chosen")
            self.column(slot).show_model(title, self._loaded.get(slot), self._note(slot))
        self._draw_hint()
        self.refresh_bindings()  # which draws the keys

    def _draw_hint(self) -> None:
        if self.busy:
            self.hint = _("Esc  stop")
        elif not self.chosen:
            self.hint = _("^O  choose a model")
        elif self.has_focus:
            self.hint = _("Enter  write a question")
        else:
            self.hint = _("Enter  send to the models above      Esc  leave the field")

    def on_focus(self) -> None:
        """Enter goes back into the field now."""
        self.call_later(self._draw_hint)  # when it is known that it has the focus

    def on_descendant_focus(self) -> None:
        """Enter sends."""
        self.call_later(self._draw_hint)

    def _note(self, slot: str) -> str:
        """What to do, in place of answers."""
        if self.busy or self.talk.branch:
            return ""
        candidate = self.chosen.get(slot)
        if candidate is None:
            return _(
                "^O offers the checkpoints and models of this workspace; a folder elsewhere "
                "or a server's address can be typed."
            )
        words = [] if self._loaded.get(slot) else [_("It is loaded when it is first asked.")]
        if slot == min(self.chosen):
            words.append(
                _("\nAfter Esc\n  o  other models\n  p  a set of questions\n  h  an earlier talk")
            )
        return "\n".join(words)

    # -- talking --------------------------------------------------------------

    @on(Question.Sent)
    def _sent(self, event: Question.Sent) -> None:
        if not self.chosen:
            self.trouble(Problem(_("No model is chosen"), "", _("Press ^O to choose one.")))
        elif self.idle():
            self.answer(self.talk.ask(event.text), new=True)

    def note_question(self, node: Node) -> None:
        """Write a question down; a full disk must not keep it from being asked."""
        try:
            self.transcript.question(self.talk, node)
        except Problem as problem:
            self.trouble(problem)

    def answer(self, node: Node, new: bool = False) -> None:
        """Ask all models the question of `node`; a `new` one is written down."""
        self.busy = True
        hearing = Hearing(self, node)
        # A worker of Textual's would begin behind what there is to draw.
        asking = asyncio.get_running_loop().run_in_executor(None, self._ask, node, hearing)
        # What the screen and the disk need is done while the model already works.
        hearing.until_busy()
        self._answer(node, new, hearing, asking)

    @work(exclusive=True, group="answer", exit_on_error=False)
    async def _answer(
        self, node: Node, new: bool, hearing: Hearing, asking: asyncio.Future[None]
    ) -> None:
        try:
            self._exchanges, self._open = {}, set(self.chosen)
            with self.app.batch_update():  # laid out and drawn once
                if new:
                    self.query_one(Question).put("")
                self.draw()
                for slot in sorted(self.chosen):
                    self._exchanges[slot] = await self.column(slot).begin(node.question)
            if new:
                self.note_question(node)
            await hearing.deliver()
            await asking
        finally:
            self.busy = False
            for slot in self._open & self._exchanges.keys():  # it was not their turn yet
                self._exchanges[slot].say(_("stopped"))
            self.draw()

    def _ask(self, node: Node, hearing: Hearing) -> None:
        try:
            self.asking.ask(self.chosen, self.talk, node, self.sampling, hearing)
        finally:
            hearing.over()

    def loaded(self, slot: str, loaded: Loaded) -> None:
        """A model is in memory."""
        self._loaded[slot] = loaded
        self._exchanges[slot].say(WAITING)
        self.draw()

    async def answered(self, node: Node, slot: str, answer: Answer) -> None:
        """A whole answer has come."""
        reply = Reply.of(answer)
        self.talk.answered(node, slot, reply)
        self.answers[slot] = answer
        self._open.discard(slot)
        await self._exchanges[slot].finish(reply)
        loaded = self._loaded.get(slot)
        limit = loaded.context if loaded else None
        self.column(slot).show_context(answer.prompt_tokens + answer.tokens, limit)
        try:
            self.transcript.reply(node, slot, reply)
        except Problem as problem:
            self.trouble(problem)

    def failed(self, slot: str, problem: Problem) -> None:
        """A model could not answer; the others go on."""
        self._open.discard(slot)
        self._exchanges[slot].say(one_line(problem.what))
        self.trouble(problem)

    def exchange(self, slot: str) -> Exchange:
        """Where the answer of `slot` grows."""
        return self._exchanges[slot]

    async def redraw_branch(self) -> None:
        """Draw the open branch in every column."""
        self.answers.clear()
        for slot in self.chosen:
            await self.column(slot).show_branch(self.talk.branch)
        self.draw()

    def system_of(self, slot: str) -> str:
        """The system text that the model in `slot` was asked with."""
        loaded = self._loaded.get(slot)
        own = loaded.system if loaded is not None else ""
        return own if self.talk.system is None else self.talk.system

    def parities(self) -> Iterator[tuple[str, Loaded]]:
        """The models that are in memory."""
        yield from sorted(self._loaded.items())

    def _unload_when_idle(self) -> None:
        import time

        idle = time.monotonic() - self.asking.idle_since
        if self.asking.holds and not self.busy and idle > 60 * self.settings.chat.idle:
            self.let_go()
            self.notify(_("The models have left the memory: nobody asked."), markup=False)
