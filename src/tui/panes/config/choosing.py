"""The catalogue as a dialog: search, narrow by method, model and size, look before taking."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.cells import cell_len
from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal, VerticalScroll
from textual.screen import ModalScreen
from textual.timer import Timer
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from engine.config.stock import searching
from engine.config.stock.entry import Entry
from engine.i18n import N_, _
from engine.text import clean, one_line
from tui.dialogs.fitted import Box
from tui.dialogs.keys_line import KeysLine
from tui.panes.config.raw import highlighted
from tui.widgets.field import Field

SHOWN = 200
"""Configs drawn at once; typing narrows the rest."""

_BESIDE = 44
"""Cells of the screen that method, size and what stands around the names take."""

PAUSE = 0.1
"""Seconds without a key after which the list is narrowed."""

GROUPS = {"method": N_("Method"), "family": N_("Model"), "size": N_("Size")}


class Facets(OptionList):
    """What the catalogue can be narrowed by; Enter takes a value or gives it back."""

    def __init__(self) -> None:
        super().__init__(id="catalogue-facets", markup=False)
        self.chosen: dict[str, str] = {}
        self._values: list[tuple[str, str]] = []

    def on_focus(self) -> None:
        """One sees where one is: the cursor stands on the first value."""
        if self.highlighted is None:
            self.action_first()

    def show(self, entries: Sequence[Entry]) -> Sequence[Entry]:
        """Show the values that `entries` have; return those of them that fit the chosen ones."""
        at = self.highlighted
        self.clear_options()
        self._values = []
        for group, title in GROUPS.items():
            others = {key: value for key, value in self.chosen.items() if key != group}
            found = searching.facets(_narrowed(entries, others))[group]
            self.add_option(Option(Text(_(title), style="bold"), disabled=True))
            self._values.append((group, ""))
            for facet in found:
                mark = "●" if self.chosen.get(group) == facet.value else " "
                self.add_option(Option(f"{mark} {facet.value} {facet.count}"))
                self._values.append((group, facet.value))
        if at is not None:
            self.highlighted = min(at, len(self._values) - 1)
        return _narrowed(entries, self.chosen)

    def toggle(self, index: int) -> None:
        """Take the value at `index`, or give it back."""
        group, value = self._values[index]
        if self.chosen.get(group) == value:
            del self.chosen[group]
        else:
            self.chosen[group] = value


def _narrowed(entries: Sequence[Entry], chosen: dict[str, str]) -> Sequence[Entry]:
    """The configs that have all the chosen values, in the order that they came in."""
    if not chosen:
        return entries
    fit = {
        entry.path
        for entry in searching.narrow(
            entries,
            method=chosen.get("method", ""),
            model=chosen.get("family", ""),
            size=chosen.get("size", ""),
        )
    }
    return [entry for entry in entries if entry.path in fit]


class ChooseConfig(ModalScreen["str | None"]):
    """Returns the path of the chosen config, or None."""

    BINDINGS = [
        Binding("escape", "dismiss(None)", N_("back"), id="catalogue.close"),
        Binding("down,ctrl+n", "move(1)", N_("down"), show=False, id="catalogue.down"),
        Binding("up,ctrl+p", "move(-1)", N_("up"), show=False, id="catalogue.up"),
        Binding("pagedown", "move(8)", N_("page down"), show=False, id="catalogue.page-down"),
        Binding("pageup", "move(-8)", N_("page up"), show=False, id="catalogue.page-up"),
    ]

    def __init__(self, entries: Sequence[Entry]) -> None:
        super().__init__()
        self._entries = entries
        self._shown: Sequence[Entry] = []
        self._waiting: Timer | None = None

    def compose(self) -> ComposeResult:
        """Title, the field, facets and list side by side, a closer look, the keys."""
        with Box(classes="dialog -tall -wide", id="catalogue"):
            yield Static("", id="catalogue-title", classes="dialog-title", markup=False)
            yield Field(placeholder=_("type to narrow: a model, a method, a size"))
            with Horizontal(id="catalogue-middle"):
                yield Facets()
                options = OptionList(id="catalogue-list", markup=False)
                options.can_focus = False  # keys stay in the field; arrows move the list
                yield options
            with VerticalScroll(id="catalogue-preview", can_focus=False):
                yield Static("", id="catalogue-look", markup=False)
            yield KeysLine(_("Enter  take    ↑↓  move    Tab  to method, model, size    Esc  back"))

    def on_mount(self) -> None:
        """Show everything, ready to type."""
        self.query_one(Field).focus()
        self._narrow()

    @on(Input.Changed)
    def _typed(self) -> None:
        """Narrow when the typing pauses: a key has to be answered at once."""
        if self._waiting is not None:
            self._waiting.stop()
        self._waiting = self.set_timer(PAUSE, self._narrow)

    def _narrow(self) -> None:
        if self._waiting is not None:
            self._waiting.stop()
            self._waiting = None
        found = self.query_one(Facets).show(
            searching.search(self._entries, self.query_one(Field).value)
        )
        self._shown = found[:SHOWN]
        options = self.query_one("#catalogue-list", OptionList)
        options.clear_options()
        widest = max((cell_len(one_line(entry.name)) for entry in self._shown), default=0)
        column = min(widest, self.app.size.width - _BESIDE)
        options.add_options(Option(_line(entry, column)) for entry in self._shown)
        if self._shown:
            options.highlighted = 0
        title = _("New config: what to start from ({n} of {total})")
        self.query_one("#catalogue-title", Static).update(
            title.format(n=len(found), total=len(self._entries))
        )
        self._look()

    def _look(self) -> None:
        entry = self._entry
        look = (
            Text(_("Nothing fits: Backspace, or give a choice back."))
            if entry is None
            else _look(entry)
        )
        self.query_one("#catalogue-look", Static).update(look)
        self.query_one("#catalogue-preview", VerticalScroll).scroll_home(animate=False)

    @property
    def _entry(self) -> Entry | None:
        at = self.query_one("#catalogue-list", OptionList).highlighted
        return self._shown[at] if at is not None and at < len(self._shown) else None

    @on(OptionList.OptionHighlighted, "#catalogue-list")
    def _moved(self) -> None:
        self._look()

    def action_move(self, by: int) -> None:
        """Move the highlight by `by` lines."""
        options = self.query_one("#catalogue-list", OptionList)
        if self._shown:
            at = (options.highlighted or 0) + by
            options.highlighted = max(0, min(len(self._shown) - 1, at))

    @on(OptionList.OptionSelected, "#catalogue-facets")
    def _facet(self, event: OptionList.OptionSelected) -> None:
        self.query_one(Facets).toggle(event.option_index)
        self._narrow()

    @on(Input.Submitted)
    def _take(self) -> None:
        if self._waiting is not None:
            self._narrow()
        entry = self._entry
        typed = self.query_one(Field).value.strip()
        exact = next((one for one in self._shown if one.name == typed), entry)
        if exact is not None:
            self.dismiss(str(exact.path))


def _line(entry: Entry, column: int) -> Text:
    line = Text(one_line(entry.name), no_wrap=True, overflow="ellipsis")
    line.pad_right(max(column - line.cell_len, 0))
    detail = "  ".join(part for part in (entry.method, entry.size) if part)
    return line.append("  " + one_line(detail), style="dim")


def _look(entry: Entry) -> Text:
    """What a person wants to know of a config before copying it."""
    seen = searching.preview(entry)
    return Text("\n").join([*_facts(seen), Text(""), *highlighted(clean(seen.settings))])


def _facts(seen: searching.Preview) -> Iterator[Text]:
    for label, value in seen.facts:
        yield Text.assemble((f"{label}: ", "bold"), one_line(value))
