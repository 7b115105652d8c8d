"""A prompt set over several models: the table as it fills, to walk through, save and vote on."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen
from textual.widgets import Static

from engine.chat import set_files, votes
from engine.chat.answer import Answer, Loaded, Sampling
from engine.chat.set_run import distinct
from engine.chat.set_table import Cell, Table
from engine.chat.sets import Item
from engine.errors import Problem
from engine.i18n import N_, _, ngettext
from engine.joined.candidates import Candidate
from engine.text import one_line
from engine.workspace import Workspace
from tui.dialogs.ask import Ask
from tui.dialogs.fitted import Box
from tui.dialogs.keys_line import KeysLine
from tui.dialogs.reading import Reading
from tui.panes.chat.asking import Asking
from tui.panes.chat.side_by_side import SideBySide
from tui.panes.chat.vote_screen import VoteScreen, tally_lines
from tui.widgets.table import Column, VirtualTable

WIDE = 3
"""So many models have a column with their answers; of more only the marks are shown."""


class SetScreen(ModalScreen[None]):
    """Asks every question of `items` when it opens, and shows what comes.

    Args:
        name: of the file with the questions.
        items: the questions.
        chosen: who is asked, by slot.
        asking: loads the models and asks them.
        sampling: how answers are drawn.
        system: for all questions; None is each model's own.
        workspace: where files go.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q", "leave", N_("stop, back")),
        Binding("s", "save", N_("save")),
        Binding("v", "vote", N_("vote")),
    ]
    DEFAULT_CSS = """
    SetScreen #models { height: auto; max-height: 6; }
    """

    def __init__(
        self,
        name: str,
        items: Sequence[Item],
        chosen: Mapping[str, Candidate],
        asking: Asking,
        sampling: Sampling,
        system: str | None,
        workspace: Workspace,
    ) -> None:
        super().__init__()
        models = distinct({slot: chosen[slot].title for slot in sorted(chosen)})
        self.table = Table(name, items, models)
        self.running = True
        self._chosen = chosen
        self._asking = asking
        self._sampling = sampling
        self._system = system
        self._workspace = workspace
        self._phase = ""
        self._wrong: list[str] = []

    def compose(self) -> ComposeResult:
        """What is going on, the table, the models with their scores, the keys."""
        with Box(classes="dialog -full"):
            yield Static(one_line(self.table.name), classes="dialog-title", markup=False)
            yield Static("", id="state", markup=False)
            yield VirtualTable(list(self._columns()), id="answers")
            yield Static("", id="models", markup=False)
            yield Static("", id="wrong", classes="dialog-wrong", markup=False)
            yield KeysLine(id="set-keys")

    def on_mount(self) -> None:
        """Ask."""
        table = self.query_one(VirtualTable)
        table.set_source(len(self.table.items), self._cells)
        table.focus()
        self._draw()
        self._ask()

    # -- asking -----------------------------------------------------------------

    @work(exit_on_error=False)
    async def _ask(self) -> None:
        worker = self.run_worker(self._ask_all, thread=True, group="set", exit_on_error=False)
        try:
            await worker.wait()
        finally:
            self.running = False
            self._phase = ""
            self._draw()

    def _ask_all(self) -> None:
        self._asking.ask_set(
            self._chosen,
            self.table.items,
            self._sampling,
            self._system,
            _Hearing(self),
            self._heard,
        )

    def _heard(self, cell: Cell) -> None:
        self.app.call_from_thread(self._add, cell)

    def _add(self, cell: Cell) -> None:
        self.table.add(cell)
        self._phase = ""
        self.query_one(VirtualTable).rows_ready(cell.item, cell.item + 1)
        self._draw()

    def loading_says(self, text: str) -> None:
        """What is done before the next answer can come."""
        self._phase = text
        self._draw()

    def missing(self, text: str) -> None:
        """A model could not be loaded; the others are asked."""
        self._wrong.append(text)
        self._draw()

    # -- drawing ----------------------------------------------------------------

    def _columns(self) -> list[Column]:
        question = Column(N_("question"))
        if len(self.table.models) > WIDE:
            return [question, *(Column(slot, width=3) for slot in self.table.models)]
        return [question, *(Column(one_line(f"{slot} {n}")) for slot, n in self._models())]

    def _models(self) -> list[tuple[str, str]]:
        return list(self.table.models.items())

    def _cells(self, index: int) -> list[str | Text]:
        found: list[str | Text] = [one_line(self.table.items[index].question)]
        narrow = len(self.table.models) > WIDE
        for slot in self.table.models:
            cell = self.table.cell(index, slot)
            found.append(_shown(cell, narrow))
        return found

    def _draw(self) -> None:
        if not self.is_mounted:
            return
        table = self.table
        words = [_("{n} of {total} answers").format(n=table.asked, total=table.total)]
        differing = table.differing()
        if differing:
            said = ngettext("≠ {n} question differs", "≠ {n} questions differ", differing)
            words.append(said.format(n=differing))
        if self.running:
            words.append(self._phase or _("asking …"))
        elif table.asked < table.total:
            words.append(_("not all were asked"))
        self.query_one("#state", Static).update("   ".join(words))
        lines = []
        for slot, name in self._models():
            counted = set_files.score(table, slot)
            right = "  " + _("{score} right").format(score=counted) if counted else ""
            lines.append(f"{slot}  {one_line(name)}{right}")
        self.query_one("#models", Static).update("\n".join(lines))
        self.query_one("#wrong", Static).update("\n".join(self._wrong))
        keys = _("Esc  stop") if self.running else _("s  save      v  vote blind      Esc  close")
        self.query_one("#set-keys", KeysLine).tell(_("Enter  whole answers") + "      " + keys)

    # -- keys -------------------------------------------------------------------

    def action_leave(self) -> None:
        """Stop asking; what is answered stays. Then close."""
        if self.running:
            self._asking.stop()
        else:
            self.dismiss(None)

    @on(VirtualTable.Selected)
    def _open(self, event: VirtualTable.Selected) -> None:
        self.app.push_screen(SideBySide(self.table, event.index), self._back_at)

    def _back_at(self, index: int | None) -> None:
        if index is not None:
            self.query_one(VirtualTable).move_to(index)

    @work(exclusive=True, group="save", exit_on_error=False)
    async def action_save(self) -> None:
        """Write the table; the suffix says how."""
        folder = self._workspace.root / "chats"
        stem = Path(self.table.name).stem
        names = [f"{stem}.md", *(f"{stem}-{number}.md" for number in range(2, 100))]
        free = await asyncio.to_thread(_first_free, folder, names)

        def write(values: list[str]) -> None:
            set_files.write(self._workspace.resolve(values[0].strip()), self.table)

        note = _("{suffixes} say how it is written").format(suffixes=", ".join(set_files.SUFFIXES))
        fields = [(_("File"), self._workspace.relative(folder / free))]
        answer = await self.app.push_screen_wait(Ask(_("Save the answers"), fields, write, note))
        if answer is not None:
            self.notify(_("Saved {path}").format(path=answer[0].strip()), markup=False)

    @work(exit_on_error=False)
    async def action_vote(self) -> None:
        """Vote without knowing who answered; the tally comes at the end."""
        ballot = votes.Ballot(self.table)
        if self.running or not ballot.pairs:
            self.notify(_("There are no two different answers to vote on."), markup=False)
            return
        await self.app.push_screen_wait(VoteScreen(ballot))
        if not ballot.at:
            return
        record = ballot.record()
        path = await asyncio.to_thread(votes.save, self._workspace.root / "chats", record)
        lines = [
            *tally_lines(record),
            _("Saved {path}").format(path=self._workspace.relative(path)),
        ]
        self.app.push_screen(Reading(_("How you voted"), lines))


def _first_free(folder: Path, names: list[str]) -> str:
    """The first of `names` that no file in `folder` has; the first of all where none is free."""
    return next((name for name in names if not (folder / name).exists()), names[0])


class _Hearing:
    """Carries what happens in the asking thread over to the screen; answers come as cells."""

    def __init__(self, screen: SetScreen) -> None:
        self._screen = screen

    def loading(self, slot: str) -> None:
        """Say so."""
        name = one_line(self._screen.table.models[slot])
        words = _("loading {name} …").format(name=name)
        self._screen.app.call_from_thread(self._screen.loading_says, words)

    def starting(self, slot: str, line: str) -> None:
        """Say so."""
        self._screen.app.call_from_thread(self._screen.loading_says, one_line(line))

    def loaded(self, slot: str, loaded: Loaded) -> None:
        """The next thing heard of it is an answer."""

    def begun(self, slot: str) -> None:
        """Answers are counted when they are whole."""

    def piece(self, slot: str, text: str) -> None:
        """Only whole answers are shown."""

    def answered(self, slot: str, answer: Answer) -> None:
        """It comes as a cell."""

    def failed(self, slot: str, problem: Problem) -> None:
        """Keep it in view."""
        words = f"{slot}  {one_line(problem.what)}"
        self._screen.app.call_from_thread(self._screen.missing, words)


def _shown(cell: Cell | None, narrow: bool) -> str | Text:
    if cell is None:
        return ""
    if cell.error:
        return Text("!" if narrow else f"! {one_line(cell.error)}", style="bold red")
    mark = set_files.mark(cell)
    styles = {True: "green", False: "red", None: ""}
    line = Text(mark or ("·" if narrow else ""), style=styles[cell.right])
    return line if narrow else line.append(f" {one_line(cell.answer.strip())}", style="default")
