"""The form: sections, settings, help, and the field that opens over a value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.text import Text
from textual import events, on
from textual.app import ComposeResult
from textual.containers import Container
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Input, Static

from engine.errors import Problem
from engine.i18n import _
from engine.text import one_line
from tui.panes.config import words
from tui.panes.config.field_table import Editor, FieldTable, SectionTable
from tui.panes.config.rows import text_to_edit
from tui.widgets.table import VirtualTable

if TYPE_CHECKING:
    from engine.config.known.fields import Field
    from tui.panes.config.opened import OpenConfig


class Form(Container):
    """Shows a config's settings and takes new values for them; it saves nothing itself."""

    SCOPED_CSS = False  # its rules look at the screen's width
    DEFAULT_CSS = Path(__file__).with_name("form.tcss").read_text(encoding="utf-8")

    class Typed(Message):
        """A new value was typed; answer with `taken` or `wrong`."""

        def __init__(self, name: str, text: str) -> None:
            super().__init__()
            self.name, self.text = name, text

    class EditingChanged(Message):
        """A value is being edited now, or no more."""

    def __init__(self, id: str) -> None:
        super().__init__(id=id)
        self._config: OpenConfig | None = None
        self._drafts: dict[str, str] = {}
        self.used: Mapping[str, Sequence[tuple[str, int]]] = {}
        """The values that settings had in the workspace's runs, each with how many had it."""

    def compose(self) -> ComposeResult:
        """Sections, settings with the editor over them, help."""
        yield SectionTable(id="config-sections")
        with Container(id="config-place"):
            yield FieldTable(id="config-fields")
            yield Editor(id="config-editor")
        yield Static("", id="config-help", markup=False)

    @property
    def fields(self) -> FieldTable:
        """The list of settings."""
        return self.query_one(FieldTable)

    @property
    def sections(self) -> SectionTable:
        """The list of sections, shown where there is room."""
        return self.query_one(SectionTable)

    @property
    def editor(self) -> Editor:
        """The field that lies over a value while it is edited."""
        return self.query_one(Editor)

    @property
    def editing(self) -> bool:
        """Whether a value is being edited."""
        return self.editor.is_open

    @property
    def field(self) -> Field | None:
        """The setting under the cursor."""
        return self.fields.field

    @property
    def untaken(self) -> dict[str, str]:
        """What was typed for settings and is not in the file."""
        typed = dict(self._drafts)
        if self.editing and self.editor.value != self.editor.first_text:
            typed[self.editor.field_name] = self.editor.value
        return typed

    def home(self) -> Widget:
        """What should have the focus."""
        return self.editor if self.editing else self.fields

    # What the pane calls

    def show(self, config: OpenConfig, levels: dict[str, str], checked: bool) -> None:
        """Show the settings of `config`.

        Args:
            config: the config that is open.
            levels: the worst findings' levels, by setting.
            checked: whether preflight looked at the config as it is.
        """
        if self._config is None or self._config.path != config.path:
            self._drafts = {}
            self._close()
        self._config = config
        self.fields.show(config.rows, config.was, levels)
        if self.editing and (self.field is None or self.field.name != self.editor.field_name):
            self._close()  # the setting went with an edit made elsewhere
        elif self.editing and self.field is not None:
            self._warn_of_another(text_to_edit(self.field))
        self.sections.show(config.rows, levels, checked)
        self.sections.follow(self.fields.section)
        self.call_after_refresh(self._settle)

    def _warn_of_another(self, text: str) -> None:
        """The value that is being edited has been changed by somebody else."""
        if text != self.editor.first_text and text != self.editor.value:
            self.editor.first_text = text
            said = _("Changed elsewhere to {value}. Enter takes yours, Esc leaves that one.")
            self._say(Text(said.format(value=one_line(text) or "–")), wrong=True)

    def taken(self, name: str) -> None:
        """The value that was typed for the setting `name` is in the file."""
        self._drafts.pop(name, None)
        if self.editor.field_name == name:
            self._close()

    def wrong(self, problem: Problem) -> None:
        """The value cannot be taken: say why, keep what was typed."""
        self._say(words.wrong(problem), wrong=True)

    def remember(self, used: Mapping[str, Sequence[tuple[str, int]]]) -> None:
        """This is what settings were in the workspace's runs."""
        self.used = used
        if self.has_focus_within and not self.editing:
            self.explain(None)

    def explain(self, text: Text | None) -> None:
        """Show `text` as help, or the help of the setting under the cursor."""
        field, config = self.field, self._config
        if text is not None:
            self._say(text)
        elif field is not None and config is not None:
            draft = self._drafts.get(field.name) if not self.editing else None
            was, used = config.was.get(field.name), self.used.get(field.name, ())
            line = self.screen.size.width - 2 if self.short else 0
            self._say(words.field_help(field, was, line, draft, used))

    @property
    def short(self) -> bool:
        """Whether the help has two lines only."""
        return not self.screen.has_class("-wide")

    def _say(self, text: Text, wrong: bool = False) -> None:
        panel = self.query_one("#config-help", Static)
        panel.set_class(wrong, "-wrong")
        panel.update(text, layout=False)

    # Editing

    @on(VirtualTable.Selected, "#config-fields")
    def _open(self, event: VirtualTable.Selected) -> None:
        event.stop()
        field = self.field
        if field is not None:
            self.editor.open(field.name, text_to_edit(field), self._drafts.get(field.name))
            self._settle()
            self.post_message(self.EditingChanged())

    @on(Input.Submitted)
    def _typed(self, event: Input.Submitted) -> None:
        event.stop()
        if event.value == self.editor.first_text:
            self.taken(self.editor.field_name)
            self.explain(None)
        else:
            self.post_message(self.Typed(self.editor.field_name, event.value))

    @on(Editor.Left)
    def _left(self, event: Editor.Left) -> None:
        event.stop()
        self._drafts.pop(event.name, None)
        if event.text != self.editor.first_text:
            self._drafts[event.name] = event.text
        self._close()
        self.explain(None)

    def _close(self) -> None:
        if self.editing:
            had_focus = self.editor.has_focus
            self.editor.close()
            if had_focus:
                self.fields.focus()
            self.post_message(self.EditingChanged())

    # Moving

    @on(VirtualTable.Moved, "#config-fields")
    def _moved(self) -> None:
        self.sections.follow(self.fields.section)
        if self.has_focus_within:  # else the findings moved it, and explain it
            self.explain(None)

    @on(VirtualTable.Moved, "#config-sections")
    def _section_moved(self) -> None:
        if self.sections.has_focus:
            self.fields.go_to_section(self.sections.section)

    @on(VirtualTable.Selected, "#config-sections")
    def _section_chosen(self, event: VirtualTable.Selected) -> None:
        event.stop()
        self.fields.focus()

    def on_descendant_focus(self, event: events.DescendantFocus) -> None:
        """The help speaks of what has the focus."""
        if event.widget is self.fields:
            self.explain(None)

    def on_resize(self) -> None:
        """The help has another form, the value being edited another place."""
        self.call_after_refresh(self._resettle)

    def _resettle(self) -> None:
        self._settle()
        # What is said of a finding is another's, and why a value is wrong still holds.
        if self.has_focus_within and not self.query_one("#config-help").has_class("-wrong"):
            self.explain(None)

    def _settle(self) -> None:
        region = self.fields.value_region()
        if self.editing and region is not None:
            self.editor.place(region)
