"""One model's side of the conversation."""

from __future__ import annotations

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Markdown, Static
from textual.widgets.markdown import MarkdownStream

from engine.chat.answer import Loaded
from engine.chat.conversation import Node, Reply
from engine.i18n import _
from engine.text import clean, one_line
from tui.widgets.strips import Line

SHOWN = 30
"""Answers that stay mounted; the conversation itself keeps all."""
LONGEST = 20_000
"""Characters of an answer that are laid out as Markdown; a longer one is plain text,
since the layout of a single huge paragraph would hold up the screen."""


FIRST = 20
"""Characters that a first piece may have, to be shown in one line."""
WAITING = "…"


class Exchange(Vertical):
    """A question, its answer, and the figures below."""

    DEFAULT_CSS = """
    Exchange { height: auto; margin: 0 0 1 0; }
    Exchange .asked { color: $primary; text-style: bold; height: auto; }
    Exchange .figures { color: $text-muted; height: auto; }
    Exchange Markdown { height: auto; padding: 0; margin: 0; background: transparent; }
    Exchange .plain { height: auto; }
    """

    def __init__(self, question: str) -> None:
        super().__init__()
        self._question = question
        self._stream: MarkdownStream | None = None
        self._length = 0
        self._first = ""
        """The beginning of the answer, while it stands in the line below."""
        self._said = WAITING

    def compose(self) -> ComposeResult:
        """What is needed to wait; the answer's own place comes with it."""
        yield Static(clean(self._question), classes="asked", markup=False)
        yield Static(WAITING, classes="figures", markup=False)

    async def grow(self, text: str) -> None:
        """Add a piece of the answer."""
        self._length += len(text)
        if self._length > LONGEST:
            words = _("{count:,} characters so far; the rest is shown when the answer is whole")
            self.say(words.format(count=self._length))
            return
        text = clean(text)
        if self.query(Markdown):
            self._stream = self._stream or Markdown.get_stream(self.query_one(Markdown))
            await self._stream.write(text)
        elif not self._first and "\n" not in text and len(text) <= FIRST:
            self._show_first(text)
        else:
            with self.app.batch_update():  # the beginning is never in both places, nor in none
                await self._answer_with(Markdown(self._first + text, open_links=False))
                self.say(WAITING)

    def _show_first(self, text: str) -> None:
        """Show the beginning where one waits for it, without waiting for a layout."""
        self._first = text
        line = self.query_one(".figures", Static)
        line.update(Content.styled(text, "$foreground"), layout=False)

    async def _answer_with(self, answer: Widget) -> None:
        await self.mount(answer, before=".figures")

    async def finish(self, reply: Reply) -> None:
        """The whole answer, and how it went."""
        if self._stream is not None:
            await self._stream.stop()
            self._stream = None
        text = clean(reply.text)
        with self.app.batch_update():
            if len(text) > LONGEST:
                await self.query(Markdown).remove()
                await self._answer_with(Static(text, classes="plain", markup=False))
            elif not self.query(Markdown):
                await self._answer_with(Markdown(text, open_links=False))
            elif self.query_one(Markdown).source != text:
                await self.query_one(Markdown).update(text)
            self.say(figures(reply))

    def say(self, text: str) -> None:
        """A line below the answer."""
        if text != self._said or self._first:
            self._said, self._first = text, ""
            self.query_one(".figures", Static).update(text)


def figures(reply: Reply) -> str:
    """How an answer went: speed, length, and why it ended if not of itself."""
    words = [
        _("{speed:.0f} tok/s · first {first:.2f} s · {tokens} tokens").format(
            speed=reply.tokens_per_s, first=reply.first_token_s, tokens=reply.tokens
        )
    ]
    ends = {
        "length": _("cut at the length that was set"),
        "stopped": _("stopped"),
        "broken": _("the server broke off"),
    }
    if reply.ended in ends:
        words.append(ends[reply.ended])
    if reply.dropped:
        words.append(_("the oldest {n} messages did not fit").format(n=reply.dropped))
    return " · ".join(words)


class Column(Vertical):
    """A model and its answers."""

    DEFAULT_CSS = """
    Column { width: 1fr; height: 1fr; display: none; }
    Column.-used { display: block; }
    Column > .model { color: $secondary; padding: 0 1; }
    Column > .note { color: $text-muted; padding: 1 1 0 1; height: auto; display: none; }
    Column > VerticalScroll { height: 1fr; padding: 0 1; scrollbar-size-vertical: 1; }
    Column.-later { border-left: solid $panel; }
    """

    def __init__(self, slot: str) -> None:
        super().__init__(id=f"column-{slot}")
        self.slot = slot
        self.context = ""
        self._title = ""
        self._loaded: Loaded | None = None

    def compose(self) -> ComposeResult:
        """What answers here, above its answers; before there are any, what to do."""
        yield Line(classes="model")
        yield Static("", classes="note", markup=False)
        yield VerticalScroll()

    def on_mount(self) -> None:
        """The newest answer stays in view until one scrolls."""
        self.scroll.can_focus = False
        self.scroll.anchor()

    @property
    def scroll(self) -> VerticalScroll:
        """The answers."""
        return self.query_one(VerticalScroll)

    def show_model(self, title: str, loaded: Loaded | None, note: str = "") -> None:
        """Say what answers here; `loaded` once it is in memory; `note` while nothing is asked."""
        self._title, self._loaded = title, loaded
        shown = self.query_one(".note", Static)
        shown.update(note)
        shown.display = bool(note)
        self._draw()

    def show_context(self, used: int, limit: int | None) -> None:
        """How much of the context the conversation takes."""
        self.context = f"{used}/{limit}" if limit else str(used)
        self._draw()

    def _draw(self) -> None:
        words = [Text(self.slot, style="bold"), Text(" " + one_line(self._title))]
        loaded = self._loaded
        if loaded is not None:
            if loaded.parity is not None:
                agree = loaded.parity.agree
                # First: what a narrow column cuts is the rest.
                words.append(Text(" ✓" if agree else " ≠", style="" if agree else "bold yellow"))
            place = loaded.device.replace("cuda:", "GPU")
            parts = [loaded.dtype, place if loaded.dtype else "", one_line(loaded.template)]
            words.append(Text("".join(f" · {part}" for part in parts if part), style="dim"))
        self.query_one(Line).say(Text.assemble(*words), self.context)

    async def begin(self, question: str) -> Exchange:
        """A new question, to be answered."""
        exchange = Exchange(question)
        await self.scroll.mount(exchange)
        for old in list(self.scroll.children)[:-SHOWN]:
            await old.remove()
        return exchange

    async def show_branch(self, branch: list[Node]) -> None:
        """Draw a branch of the conversation anew."""
        await self.scroll.remove_children()
        for node in branch[-SHOWN:]:
            reply = node.reply(self.slot)
            if reply is not None:
                exchange = await self.begin(node.question)
                await exchange.finish(reply)
        self.context = ""
        self._draw()
