"""The Chat pane: the same question to one model or two, side by side, as the answers come."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal, VerticalScroll
from textual.widget import Widget
from textual.widgets import Input, Markdown, Static
from textual.worker import get_current_worker

from engine import files
from engine.errors import Problem
from engine.i18n import N_, _
from engine.text import clean, one_line
from tui.dialogs.ask import Ask
from tui.dialogs.choose import Choice, Choose
from tui.dialogs.reading import Reading
from tui.panes.base import Pane
from tui.widgets.field import Field
from tui.widgets.strips import Line

if TYPE_CHECKING:
    from engine.chat.session import Answer, ChatSession, Loaded, ModelSpec, Sampling

SLOTS = ("A", "B")
FLUSH = 0.1
"""Seconds between two updates of an answer: every token redrawn would cost the line."""
SHOWN = 50
"""Answers that stay mounted; older ones live on in the talk's messages."""
NONE = "-"


class Talk(VerticalScroll):
    """One model's side of the conversation."""

    DEFAULT_CSS = """
    Talk { width: 1fr; height: 1fr; padding: 0 1; scrollbar-size-vertical: 1; }
    Talk .asked { color: $primary; text-style: bold; height: auto; margin-top: 1; }
    Talk .figures { color: $text-muted; height: auto; }
    Talk Markdown { height: auto; padding: 0; margin: 0; background: transparent; }
    """

    def __init__(self, slot: str) -> None:
        super().__init__(id=f"talk-{slot}")
        self.slot = slot
        self.messages: list[dict[str, str]] = []
        self.prompt = ""
        """The exact prompt of the last answer, special tokens included."""


class ChatPane(Pane):
    """Talks with the tuned model, and with the base model beside it."""

    TAB = "chat"
    DEFAULT_CSS = """
    ChatPane #models { color: $secondary; }
    ChatPane #talks { height: 1fr; }
    ChatPane #talk-B { border-left: solid $panel; }
    ChatPane #question { border: none; height: 1; padding: 0 1; background: $boost; }
    ChatPane .-hidden { display: none; }
    """
    BINDINGS = [
        Binding("escape", "halt", N_("stop / leave the field"), id="chat.halt"),
        Binding("ctrl+r", "again", N_("again"), id="chat.again"),
        Binding("up", "edit_last", N_("edit last"), show=False, id="chat.edit"),
        Binding("ctrl+l", "clear", N_("new talk"), id="chat.clear"),
        Binding("ctrl+e", "exact", N_("exact prompt"), id="chat.exact"),
        Binding("ctrl+o", "models", N_("models"), id="chat.models"),
        Binding("ctrl+g", "sampling", N_("sampling"), id="chat.sampling"),
        Binding("ctrl+s", "save", N_("save"), id="chat.save"),
        Binding("i,enter", "write", N_("write"), show=False, id="chat.write"),
    ]

    def compose(self) -> ComposeResult:
        """Which models, their answers, the field for the question."""
        yield Line(id="models")
        with Horizontal(id="talks"):
            yield Talk("A")
            yield Talk("B")
        yield Field(placeholder=_("ask something"), id="question")

    def on_mount(self) -> None:
        """No model is loaded before something is asked."""
        self._session: ChatSession | None = None
        self._chosen: dict[str, ModelSpec] = {}
        self._loaded: dict[str, tuple[ModelSpec, Loaded]] = {}
        self._suggested: tuple[str, ...] = ()
        self._asked: list[str] = []
        self._busy = False
        self._values = {"temperature": "0", "top_p": "1", "max_new_tokens": "256", "seed": "0"}
        for talk in self.query(Talk):
            talk.anchor()

    def on_unmount(self) -> None:
        """The models' process ends with the pane."""
        if self._session is not None:
            self._session.close()

    def home(self) -> Widget:
        """The field for the question."""
        return self.query_one("#question")

    def activate(self) -> None:
        """Suggest what was made last: the tuned model, and its base beside it."""
        from engine.chat.session import ModelSpec

        last = self.workspace.last()
        suggested = (last.merged, last.adapter, last.base)
        if suggested != self._suggested and not self._busy:
            self._suggested = suggested
            chosen = {}
            if last.merged and Path(last.merged).exists():
                chosen["A"] = ModelSpec(last.merged)
            elif last.adapter and last.base and Path(last.adapter).exists():
                chosen["A"] = ModelSpec(last.base, adapter=last.adapter)
            if last.base and Path(last.base).exists():
                chosen["B" if chosen else "A"] = ModelSpec(last.base)
            if chosen:
                self._chosen = chosen
        self._draw_models()

    def _draw_models(self) -> None:
        parts = []
        for slot, spec in sorted(self._chosen.items()):
            parts.append(f"{slot} {self._title_of(spec)}")
            known = self._loaded.get(slot)
            if known and known[0] == spec:
                parts[-1] += f" · {known[1].dtype} · {known[1].device} · {known[1].template}"
        self.query_one("#models", Line).say(" " + "    ".join(parts) if parts else "")
        self.query_one("#talk-B").set_class("B" not in self._chosen, "-hidden")
        if self._busy:
            self.hint = _("Esc  stop")
        elif self._chosen:
            self.hint = _("Enter  send to the models above")
        else:
            self.hint = _("^O  choose a model")

    def _title_of(self, spec: ModelSpec) -> str:
        name = one_line(Path(spec.model).name)
        return f"{name} + {one_line(Path(spec.adapter).name)}" if spec.adapter else name

    # -- talking --------------------------------------------------------------

    @on(Input.Submitted, "#question")
    def _send(self, event: Input.Submitted) -> None:
        question = event.value.strip()
        if not question or self._busy:
            return
        if not self._chosen:
            self.trouble(Problem(_("No model is chosen"), "", _("Press ^O to choose one.")))
            return
        event.input.value = ""
        self._asked.append(question)
        self._ask(question)

    def _ask(self, question: str) -> None:
        self._busy = True
        self._draw_models()
        self._answer(question)

    @work(thread=True, exclusive=True, group="answer", exit_on_error=False)
    def _answer(self, question: str) -> None:
        """One model after the other: they share the machine."""
        try:
            for slot in sorted(self._chosen):
                if get_current_worker().is_cancelled or not self._busy:
                    break
                self._answer_one(slot, question)
        finally:
            self.app.call_from_thread(self._ended, question)

    def _answer_one(self, slot: str, question: str) -> None:
        from engine.chat.session import Answer, ChatSession, Token

        if self._session is None:
            self._session = ChatSession(self.settings)
        session, spec = self._session, self._chosen[slot]
        talk = self.query_one(f"#talk-{slot}", Talk)
        reply, figures = self.app.call_from_thread(self._mount, talk, question)
        if session.dead:
            self._loaded.clear()
        if slot not in self._loaded or self._loaded[slot][0] != spec:
            name = self._title_of(spec)
            self.app.call_from_thread(figures.update, _("loading {name} …").format(name=name))
            self._loaded[slot] = (spec, session.load(slot, spec))
            self.app.call_from_thread(self._draw_models)
        self.app.call_from_thread(figures.update, "…")
        talk.messages.append({"role": "user", "content": question})
        text, shown = "", time.monotonic()
        for event in session.generate(slot, talk.messages, self._sampling()):
            if isinstance(event, Token):
                text += event.text
                if time.monotonic() - shown >= FLUSH:
                    shown = time.monotonic()
                    self.app.call_from_thread(reply.update, clean(text))
            elif isinstance(event, Answer):
                talk.messages.append({"role": "assistant", "content": event.text})
                self.app.call_from_thread(self._finish, talk, reply, figures, event)

    def _mount(self, talk: Talk, question: str) -> tuple[Markdown, Static]:
        """The widgets of one answer: its text, and its figures below."""
        reply = Markdown(open_links=False)
        figures = Static("", classes="figures", markup=False)
        talk.mount(Static(clean(question), classes="asked", markup=False), reply, figures)
        for old in list(talk.children)[: -3 * SHOWN]:
            old.remove()
        return reply, figures

    def _finish(self, talk: Talk, reply: Markdown, figures: Static, answer: Answer) -> None:
        talk.prompt = answer.prompt
        reply.update(clean(answer.text))
        figures.update(
            _("{speed:.0f} tok/s · first {first:.2f} s · {tokens} tokens").format(
                speed=answer.tokens_per_s, first=answer.first_token_s, tokens=answer.tokens
            )
        )

    def _ended(self, question: str) -> None:
        failed = self._busy and all(not talk.messages for talk in self.query(Talk))
        self._busy = False
        if failed:  # nothing typed is lost
            self.query_one("#question", Input).value = question
        self._draw_models()

    def action_halt(self) -> None:
        """Stop the answer; without one, leave the field so that digits change tabs."""
        if self._busy:
            self._busy = False
            if self._session is not None:
                self._session.stop()
        else:
            self.app.screen.set_focus(None)
            self.app.action_put_away()  # type: ignore[attr-defined]

    def action_write(self) -> None:
        """Back into the field."""
        self.query_one("#question").focus()

    def action_again(self) -> None:
        """Ask the last question once more, as if it had not been asked."""
        if self._asked and not self._busy:
            for talk in self.query(Talk):
                del talk.messages[-2:]
            self._ask(self._asked[-1])

    def action_edit_last(self) -> None:
        """Bring the last question back into the field."""
        field = self.query_one("#question", Input)
        if self._asked and not field.value:
            field.value = self._asked[-1]
            field.cursor_position = len(field.value)

    async def action_clear(self) -> None:
        """Begin a new talk with the same models."""
        for talk in self.query(Talk):
            talk.messages.clear()
            await talk.remove_children()

    # -- looking --------------------------------------------------------------

    def action_exact(self) -> None:
        """The exact prompt of the last answer, with its special tokens."""
        lines: list[str | Text] = []
        for talk in self.query(Talk):
            if talk.prompt:
                lines += [Text(talk.slot, style="bold"), clean(talk.prompt), ""]
        self.app.push_screen(Reading(_("Exact prompt"), lines or [_("Nothing was asked yet.")]))

    def action_save(self) -> None:
        """Write the talk as Markdown into the workspace."""
        target = self.workspace.root / "chats" / f"{time.strftime('%Y%m%d-%H%M%S')}.md"
        lines = []
        for talk in self.query(Talk):
            if talk.messages:
                lines.append(f"# {talk.slot} {self._title_of(self._chosen[talk.slot])}\n")
                lines += [f"**{one['role']}**: {one['content']}\n" for one in talk.messages]
        if not lines:
            return
        with files.replacing(target) as file:
            file.write("\n".join(lines).encode())
        self.app.notify(
            _("Saved {path}").format(path=self.workspace.relative(target)), markup=False
        )

    # -- choosing -------------------------------------------------------------

    @work(exit_on_error=False)
    async def action_models(self) -> None:
        """Choose model A, then model B (or none)."""
        from engine.chat.session import ModelSpec

        chosen: dict[str, ModelSpec] = {}
        for slot in SLOTS:
            choices = [Choice(NONE, _("no second model"))] if slot == "B" else []
            choices += self._choices()
            value = await self.app.push_screen_wait(
                Choose(_("Model {slot}").format(slot=slot), choices, free=True)
            )
            if value is None:
                return
            if value != NONE:
                model, _sep, adapter = value.partition("\n")
                path = str(self.workspace.resolve(model))
                chosen[slot] = ModelSpec(path, adapter=adapter or None)
        self._chosen = chosen
        await self.action_clear()
        self._draw_models()
        self.query_one("#question").focus()

    def _choices(self) -> list[Choice]:
        """Models of the workspace, and the adapters of its runs on the base that is known."""
        models = sorted(self.workspace.models.glob("*/config.json"))
        choices = [Choice(str(one.parent), self.workspace.relative(one.parent)) for one in models]
        base = self.workspace.last().base
        if base:
            for config in sorted(self.workspace.runs.glob("*/*/adapter_config.json")):
                adapter = config.parent
                label = f"{self.workspace.relative(adapter)} + {Path(base).name}"
                choices.append(Choice(f"{base}\n{adapter}", label))
        return choices

    def _sampling(self) -> Sampling:
        from engine.chat.session import Sampling

        return Sampling(
            temperature=float(self._values["temperature"]),
            top_p=float(self._values["top_p"]),
            max_new_tokens=int(self._values["max_new_tokens"]),
            seed=int(self._values["seed"]),
        )

    @work(exit_on_error=False)
    async def action_sampling(self) -> None:
        """Change how answers are drawn; temperature 0 is greedy."""
        names = list(self._values)

        def check(values: list[str]) -> None:
            for name, value in zip(names, values, strict=True):
                try:
                    number = float(value) if name in ("temperature", "top_p") else int(value)
                except ValueError:
                    number = -1
                if number < 0:
                    raise Problem(_("{name} must be a number, 0 or more").format(name=name))

        answer = await self.app.push_screen_wait(
            Ask(_("Sampling"), list(self._values.items()), check, _("temperature 0 is greedy"))
        )
        if answer is not None:
            self._values = dict(zip(names, answer, strict=True))


PANE = ChatPane
