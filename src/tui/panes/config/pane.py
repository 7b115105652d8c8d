"""The pane itself: which config is open, its form, its verdict, and the keys for all of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Static

from engine.errors import Problem
from engine.i18n import N_, _
from engine.settings import Settings
from engine.text import one_line
from engine.workspace import Workspace
from tui.dialogs.ask import Ask
from tui.dialogs.choose import Choose
from tui.dialogs.reading import Reading
from tui.editor import open_editor
from tui.panes.base import Pane, unexpected
from tui.panes.config import verdict_words, words
from tui.panes.config.form import Form
from tui.panes.config.rows import marks
from tui.panes.config.verdict import Verdict
from tui.widgets.strips import Line

if TYPE_CHECKING:  # libcst and the engine's parts load when a config is first opened
    from engine.config.findings import Finding
    from tui.panes.config.opened import OpenConfig

LOOK_EVERY = 2.0
"""Seconds between two looks at whether someone else changed the file."""

_ALWAYS = frozenset({"new", "open"})


class ConfigPane(Pane):
    """Form, help and verdict over one config file. Each edit is saved at once."""

    TAB = "config"
    SCOPED_CSS = False  # its rules look at the screen's width and height
    DEFAULT_CSS = Path(__file__).with_name("config.tcss").read_text(encoding="utf-8")
    BINDINGS = [
        Binding("n", "new", N_("new"), id="config.new"),
        Binding("o", "open", N_("open"), id="config.open"),
        Binding("u", "undo", N_("undo"), id="config.undo"),
        Binding("r", "raw", N_("raw .py"), id="config.raw"),
        Binding("d", "changes", N_("changes"), id="config.changes"),
        Binding("p", "preflight", N_("preflight"), id="config.preflight"),
        Binding("t", "train", N_("train"), id="config.train"),
        Binding("E", "editor", N_("edit in $EDITOR"), show=False, id="config.editor"),
        Binding("a", "use_data", N_("use the open dataset"), show=False, id="config.data"),
    ]

    class Read(Message):
        """A config was opened, or read again because `base` is not what the file says now."""

        def __init__(self, config: OpenConfig, base: OpenConfig | None, note: str = "") -> None:
            super().__init__()
            self.config, self.base, self.note = config, base, note

    class Saved(Message):
        """An edit was made and saved."""

        def __init__(self, config: OpenConfig, note: str) -> None:
            super().__init__()
            self.config, self.note = config, note

    class Refused(Message):
        """An edit could not be made; nothing was written."""

        def __init__(self, problem: Problem) -> None:
            super().__init__()
            self.problem = problem

    def __init__(self, workspace: Workspace, settings: Settings) -> None:
        super().__init__(workspace, settings)
        self.config: OpenConfig | None = None
        self._busy = False  # an edit is on its way to the disk
        self._fixing = False  # that edit is preflight's own: it looks again afterwards
        self._note = ""

    def compose(self) -> ComposeResult:
        """Title, then either a welcome or the form, then the verdict."""
        yield Line(id="config-title")
        welcome = Static("", id="config-welcome", markup=False)
        welcome.can_focus = True
        yield welcome
        yield Form(id="config-form")
        yield Verdict(self.settings)

    def on_mount(self) -> None:
        """Keep an eye on the file."""
        self._draw()
        self.set_interval(LOOK_EVERY, self._look_sometimes)

    # Parts of the screen

    @property
    def form(self) -> Form:
        """The settings."""
        return self.query_one(Form)

    @property
    def verdict(self) -> Verdict:
        """What preflight found."""
        return self.query_one(Verdict)

    def home(self) -> Widget | None:
        """The value being edited, the list, or the welcome."""
        return self.query_one("#config-welcome") if self.config is None else self.form.home()

    def activate(self) -> None:
        """Open the workspace's config if it is another one; see what others did to it."""
        last = self.workspace.last().config
        wanted = self.workspace.resolve(last) if last else None
        if wanted is not None and (self.config is None or self.config.path != wanted):
            self._read(wanted)
        else:
            self._look_sometimes()
        self._draw()

    # Reading

    @work(thread=True, exclusive=True, group="read", exit_on_error=False)
    def _read(self, path: Path) -> None:
        from tui.panes.config.opened import OpenConfig

        self.post_message(self.Read(OpenConfig.read(path, self.settings), None))

    def _look_sometimes(self) -> None:
        if self.config is not None and not self._busy and self.display:
            self._look(self.config, undoable=False)

    @work(thread=True, exclusive=True, group="look", exit_on_error=False)
    def _look(self, config: OpenConfig, undoable: bool) -> None:
        try:
            found = config.looked_again(self.settings, undoable)
        except Problem:
            # Said once; until the file changes again the last good text is shown.
            self.post_message(self.Read(config.overlooked(), config, _("cannot be read now")))
            raise
        if found.source is not config.source:
            note = _("edited") if undoable else _("changed elsewhere, read again")
            self.post_message(self.Read(found, config, note))
        elif found is not config:
            self.post_message(self.Read(found, config, self._note))

    @on(Read)
    def _show_read(self, event: Read) -> None:
        if event.base is None:
            self.verdict.forget()
            self.post_message(self.Opened(config=str(event.config.path)))
        elif self._busy or event.base is not self.config:
            return  # an edit of ours is or was quicker; the next look sees the rest
        self.config = event.config
        self._draw(event.note)
        if event.base is None and self.display:
            self.form.fields.focus()

    # Editing

    @on(Form.Typed)
    def _value_typed(self, event: Form.Typed) -> None:
        root = self.workspace.root
        self._edit(lambda config: config.edited(event.name, event.text, root))

    def _edit(self, edit: Callable[[OpenConfig], OpenConfig], note: str = "") -> None:
        """Change the config and save it; the answer is `Saved` or `Refused`."""
        if self.config is not None and not self._busy:
            self._busy = True
            self._save(self.config, edit, note or _("saved"))

    @work(thread=True, exclusive=True, group="edit", exit_on_error=False)
    def _save(
        self, config: OpenConfig, edit: Callable[[OpenConfig], OpenConfig], note: str
    ) -> None:
        try:
            self.post_message(self.Saved(edit(config), note))
        except Problem as problem:
            self.post_message(self.Refused(problem))
        except Exception as error:
            self.post_message(self.Refused(unexpected(error)))

    @on(Saved)
    def _show_saved(self, event: Saved) -> None:
        self._busy = False
        self.config = event.config
        self.form.taken()
        self._draw(event.note)
        if self._fixing:
            self._fixing = False
            self.action_preflight()

    @on(Refused)
    def _show_refusal(self, event: Refused) -> None:
        self._busy = self._fixing = False
        if self.form.editing:
            self.form.wrong(event.problem)
        else:
            self.trouble(event.problem)
        self._look_sometimes()

    def action_undo(self) -> None:
        """Go back to the text before the last edit."""
        self._edit(lambda config: config.undone(), _("undone, saved"))

    def action_use_data(self) -> None:
        """Train on the dataset that is open in the Data pane."""
        data = Path(self.workspace.last().data)
        self._edit(lambda config: config.pointed_at(data))

    def action_editor(self) -> None:
        """Edit the file in the user's own editor; what was done there can be undone here."""
        if self.config is None or self._busy:
            return
        field = self.form.fields.field
        try:
            open_editor(self.app, self.config.path, field.line if field else 1)
        except Problem as problem:
            self.trouble(problem)
        self._look(self.config, undoable=True)

    # Preflight

    def action_preflight(self) -> None:
        """Look whether the config will run, before anything is started."""
        if self.config is not None:
            self.verdict.check(self.config)

    @on(Verdict.Changed)
    def _show_verdict(self, event: Verdict.Changed) -> None:
        if event.problem is not None:
            self.trouble(event.problem)
        self._draw(self._note)

    @on(Verdict.At)
    def _at_finding(self, event: Verdict.At) -> None:
        if event.finding.field:
            self.form.fields.go_to(event.finding.field)
        self._explain(event.finding)

    @on(Verdict.FixWanted)
    def _fix(self, event: Verdict.FixWanted) -> None:
        if not self.verdict.checking and not self._busy:
            self._fixing = True
            self._edit(lambda config: config.fixed(event.fix))

    @on(Verdict.FieldWanted)
    def _to_field(self, event: Verdict.FieldWanted) -> None:
        if self.form.fields.go_to(event.name):
            self.form.fields.focus()

    def on_descendant_focus(self) -> None:
        """The next step is another one on the findings than in the form."""
        self._draw_hint()

    # The next steps

    def action_train(self) -> None:
        """Take this config to the Train pane."""
        if self.config is not None:
            self.post_message(self.Opened(config=str(self.config.path)))
            self.post_message(self.Go("train"))

    @work(exclusive=True, group="dialog", exit_on_error=False)
    async def action_new(self) -> None:
        """Choose a config of the catalogue and copy it, pointed at the open dataset."""
        from tui.panes.config import making

        choices = await asyncio.to_thread(making.catalogue_choices, self.workspace, self.settings)
        title = _("New config: what to start from")
        chosen = await self.app.push_screen_wait(Choose(title, choices))
        if chosen is None:
            return
        stock = self.workspace.resolve(chosen)
        target, model = await asyncio.to_thread(making.suggestion, self.workspace, stock)
        answers = await self.app.push_screen_wait(
            Ask(
                one_line(stock.stem),
                [(_("Write it to"), target), (_("Base model: a folder, or a hub name"), model)],
                check=lambda texts: making.target_path(self.workspace, texts[0]),
                note=words.copy_note(self.workspace),
            )
        )
        if answers is None:
            return
        path = await asyncio.to_thread(
            making.make, self.workspace, self.settings, stock, answers[0], answers[1].strip()
        )
        self._read(path)

    @work(exclusive=True, group="dialog", exit_on_error=False)
    async def action_open(self) -> None:
        """Open another config of the workspace, or any by its path."""
        from tui.panes.config import making

        choices = await asyncio.to_thread(making.config_choices, self.workspace)
        chosen = await self.app.push_screen_wait(Choose(_("Open a config"), choices, free=True))
        if chosen is not None:
            self._read(self.workspace.resolve(chosen))

    @work(exclusive=True, group="dialog", exit_on_error=False)
    async def action_raw(self) -> None:
        """The file as it is; Enter there goes to that line's setting here."""
        from tui.panes.config.raw import RawView

        if self.config is not None:
            name = self.workspace.relative(self.config.path)
            field = self.form.fields.field
            screen = RawView(one_line(name), self.config.source.text, field.line if field else 1)
            line = await self.app.push_screen_wait(screen)
            if line is not None:
                self.form.fields.go_to_line(line)

    def action_changes(self) -> None:
        """What differs from the catalogue's config that this one was copied from."""
        if self.config is not None:
            self.app.push_screen(Reading(_("Changes"), words.changes(self.config)))

    # Drawing

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Keys without a meaning now are hidden (no config) or grey (nothing to undo)."""
        if f"action_{action}" not in ConfigPane.__dict__ or action in _ALWAYS:
            return True
        if self.config is None:
            return False
        if action == "undo":
            return True if self.config.past else None
        return self._data_to_use() != "" if action == "use_data" else True

    def _data_to_use(self) -> str:
        """The open dataset, when the config does not train on it yet."""
        data = self.workspace.last().data
        if not data or self.config is None or not Path(data).is_file():
            return ""
        return "" if str(Path(data).resolve()) in self.config.source.text else data

    def _draw(self, note: str = "") -> None:
        self._note = note
        config = self.config
        self.set_class(config is None, "-empty")
        title = self.query_one("#config-title", Line)
        if config is None:
            title.say("")
            self.query_one("#config-welcome", Static).update(words.welcome(self.workspace))
        else:
            title.say(words.title(config, self.workspace), f"{note} ")
            self._draw_form(config)
        self.refresh_bindings()
        self._draw_hint()

    def _draw_form(self, config: OpenConfig) -> None:
        was_read = self.verdict.read
        self.verdict.show(config.source.text)
        if was_read and not self.verdict.read:
            # The last finding is put right and its list hidden: at once, or the
            # next key would go nowhere.
            self.screen.set_focus(self.form.home())
        names = [row.field.name for row in config.rows if row.field]
        self.form.show(config, marks(names, self.verdict.levels))
        finding = self.verdict.finding
        if finding is not None:
            self._explain(finding)
        elif not self.form.editing:
            self.form.explain(None)

    def _explain(self, finding: Finding) -> None:
        self.form.explain(verdict_words.finding_help(finding, self.form.short))
        self._draw_hint()

    def _draw_hint(self) -> None:
        if self.config is None:
            self.hint = words.first_hint(self.workspace)
        elif self.form.editing:
            self.hint = _("Enter  take this value      Esc  back")
        elif self.verdict.checking:
            self.hint = _("Enter  edit      preflight is looking …")
        elif self.verdict.finding is not None:
            self.hint = verdict_words.finding_hint(self.verdict.finding)
        else:
            report = self.verdict.report_on(self.config.source.text)
            self.hint = words.hint(report, self._data_to_use())
        self.post_message(self.HintChanged())

    @on(Form.EditingChanged)
    def _editing_changed(self) -> None:
        self._draw_hint()
