"""The dialog that says which columns are question and answer, with rows as they come out."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.widget import Widget
from textual.widgets import Input, Static

from engine.errors import Problem
from engine.i18n import N_, _
from engine.text import clean, one_line
from engine.workspace import Workspace
from tui.dialogs.fitted import Box
from tui.dialogs.kept import Kept
from tui.dialogs.keys_line import KeysLine
from tui.dialogs.working import Working
from tui.widgets.field import Field

if TYPE_CHECKING:
    from engine.dataset.mapping import Mapping
    from engine.dataset.reader import Dataset, Row

COLUMNS = {"question": N_("question"), "answer": N_("answer"), "system": N_("system")}
"""What is asked where question and answer are columns of their own."""
MESSAGES = {
    "messages": N_("messages"),
    "role": N_("key: whose"),
    "text": N_("key: text"),
    "roles": N_("roles"),
    "system": N_("system"),
}
"""What is asked where a column holds a talk as a list of messages."""
LONGEST = 300
"""Characters shown of a text."""
SHOWN = 3
"""Rows shown as they come out."""


class MapColumns(Working[Path | None]):
    """Asks what the columns mean, shows what becomes of rows; returns the module it wrote.

    Args:
        dataset: whose columns.
        rows: some of its rows, the likeliest to be looked at first.
        workspace: the module is written into its configs.
    """

    BINDINGS = [
        Binding("escape", "back", N_("back")),
        Binding("ctrl+t", "turn", N_("columns or messages"), show=False),
    ]

    def __init__(self, dataset: Dataset, rows: list[Row], workspace: Workspace) -> None:
        from engine.dataset.mapping import Mapping, module_name
        from engine.dataset.suggest import suggest

        super().__init__()
        self._columns = dataset.columns()
        self._rows = [row for row in rows if row.problem is None]
        self._workspace = workspace
        self._writing = False
        suggested = suggest(row.value for row in self._rows) or Mapping()
        self._values = _written(suggested)
        """What stands in the fields, those of both forms."""
        self._asked = MESSAGES if suggested.messages else COLUMNS
        name = f"{module_name(dataset.path.name.partition('.')[0])}.py"
        self._values["out"] = workspace.relative(workspace.configs / name)
        self._kept = Kept(f"map {dataset.path}", [*self._values.values()])

    def compose(self) -> ComposeResult:
        """The columns there are, a field for each part, what comes out, the keys."""
        self._values = dict(zip(self._values, self._kept.texts(self.app), strict=True))
        with Box(classes="dialog -tall -wide"):
            yield Static(_("What the columns mean"), classes="dialog-title", markup=False)
            there = _("Columns: {names}").format(names=one_line(", ".join(self._columns)))
            yield Static(there, classes="dim", markup=False)
            with Vertical(id="map-fields"):
                yield from self._lines()
            yield Static("", classes="dialog-wrong", markup=False)
            with VerticalScroll(can_focus=False):
                yield Static("", id="map-result", markup=False)
            yield KeysLine(_("Enter  next, then write    ^T  columns or messages    Esc  back"))

    def _lines(self) -> list[Widget]:
        asked = {name: _(label) for name, label in self._asked.items()} | {"out": _("write to")}
        return [
            Horizontal(
                Static(label, classes="map-label", markup=False),
                Field(self._values[name], id=name),
                classes="map-line",
            )
            for name, label in asked.items()
        ]

    def on_mount(self) -> None:
        """Typing goes into the first field."""
        self.query(Field).first().focus()
        self._show()

    def action_back(self) -> None:
        """Put the dialog away and keep what was typed."""
        self._kept.keep(self.app, list(self._values.values()))
        self.dismiss(None)

    async def action_turn(self) -> None:
        """Ask for columns, or for a list of messages; what was typed stays."""
        self._asked = COLUMNS if self._asked is MESSAGES else MESSAGES
        fields = self.query_one("#map-fields")
        await fields.remove_children()
        await fields.mount(*self._lines())
        self.on_mount()

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        if event.input.id:
            self._values[event.input.id] = event.value
        self._show()

    @on(Input.Submitted)
    def _accept(self) -> None:
        if not self._writing:
            self._writing = True
            self._write()

    @work(exit_on_error=False)
    async def _write(self) -> None:
        """Write the module, in a thread: a disk answers when it likes."""
        from engine.dataset.mapping import write_map_module

        workspace, out = self._workspace, self._values["out"]
        try:
            mapping = self._mapping()
            written = await asyncio.to_thread(
                lambda: write_map_module(mapping, workspace.resolve(out))
            )
        except Problem as problem:
            self._say("\n".join(problem.lines()), Text())
        else:
            self._kept.forget(self.app)
            self.done(written)
        finally:
            self._writing = False

    def _mapping(self) -> Mapping:
        """What the fields say. Raises `Problem` when it is not enough, or names no column."""
        from engine.dataset.mapping import Mapping, refuse_incomplete

        values = {name: self._values[name].strip() for name in self._asked}
        named = [one.strip() for one in values.pop("question", "").split(",") if one.strip()]
        system = values.pop("system")
        roles = tuple(_role(pair) for pair in values.pop("roles", "").split())
        found = Mapping(
            question=named[0] if named else "",
            extra=tuple(named[1:]),
            roles=roles,
            system=system if system in self._columns else "",
            system_text="" if system in self._columns else system,
            **values,
        )
        for name in (*found.columns, *found.extra):
            if name not in self._columns:
                raise Problem(_("There is no column {name}").format(name=name))
        refuse_incomplete(found)
        return found

    def _show(self) -> None:
        """Rows as they come out."""
        try:
            mapping = self._mapping()
        except Problem as problem:
            self._say("\n".join(problem.lines()), Text())
            return
        text = Text()
        for row in self._rows[:SHOWN]:
            text.append(_("row {row}").format(row=row.index) + "\n", "dim")
            text.append(_outcome(mapping, row))
        self._say("", text)

    def _say(self, wrong: str, result: Text) -> None:
        self.query_one(".dialog-wrong", Static).update(clean(wrong))
        self.query_one("#map-result", Static).update(result)


def _written(mapping: Mapping) -> dict[str, str]:
    """A mapping as it is typed into the fields."""
    return {
        "question": ", ".join(filter(None, (mapping.question, *mapping.extra))),
        "answer": mapping.answer,
        "messages": mapping.messages,
        "role": mapping.role,
        "text": mapping.text,
        "roles": " ".join(f"{role}={side}" for role, side in mapping.roles),
        "system": mapping.system or mapping.system_text,
    }


def _role(pair: str) -> tuple[str, str]:
    from engine.dataset.mapping import SIDES

    role, equals, side = pair.rpartition("=")
    if not equals or side not in SIDES:
        raise Problem(
            _("{pair} does not say whose words a role's are").format(pair=pair),
            todo=_("Write ROLE=SIDE, with SIDE one of: {sides}.").format(sides=", ".join(SIDES)),
        )
    return role, side


def _outcome(mapping: Mapping, row: Row) -> Text:
    """The turns that are made of a row, or why there are none."""
    from engine.dataset import mapping as mapping_
    from engine.dataset import shapes

    flaws = shapes.errors(shapes.by_mapping(mapping, "", "").check(row.index, row.value))
    if flaws:
        return Text(f"✗ {one_line(flaws[0].reason)}\n", style="red")
    text = Text()
    turns = mapping_.apply(mapping, row.value) if isinstance(row.value, dict) else []
    for turn in turns:
        for name, sign, style in (
            ("system", "S", "dim"),
            ("input", "?", ""),
            ("output", "▌", "bold green"),
        ):
            said = str(turn.get(name) or "")
            if said:
                text.append(f"{sign} {one_line(said[:LONGEST])}\n", style)
    return text or Text("! " + _("XTuner drops this row: it has no answer.") + "\n", style="yellow")
