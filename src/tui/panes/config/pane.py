"""The pane itself: which config is open, its form, its verdict, and the keys for all of it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding
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
from tui.panes.config import verdict_words, words
from tui.panes.config.form import Form
from tui.panes.config.keeper import Change, ConfigKeeper
from tui.panes.config.rows import marks
from tui.panes.config.verdict import Verdict
from tui.widgets.strips import Line

if TYPE_CHECKING:  # the engine's parts load when a config is first opened
    from engine.config.checks.findings import Finding, Fix
    from engine.config.making.copy import Copied
    from tui.panes.config.opened import OpenConfig

_ALWAYS = frozenset({"new", "open"})


class ConfigPane(ConfigKeeper):
    """Form, help and verdict over one config file. Each edit is saved at once."""

    TAB = "config"
    WAYS = {
        "catalogue": N_("n shows the catalogue."),
        "data": N_("a takes the dataset that is open in Data (F2)."),
    }
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
        Binding("ctrl+r", "redo", N_("redo"), show=False, id="config.redo"),
        Binding("i", "about", N_("about this setting"), show=False, id="config.about"),
        Binding("x", "reset", N_("back to the origin's value"), show=False, id="config.reset"),
        Binding("W", "write", N_("write a deleted file again"), show=False, id="config.write"),
        Binding("E", "editor", N_("edit in $EDITOR"), show=False, id="config.editor"),
        Binding("a", "use_data", N_("use the open dataset"), show=False, id="config.data"),
    ]

    def __init__(self, workspace: Workspace, settings: Settings) -> None:
        super().__init__(workspace, settings)
        self._known_runs: list[Path] = []
        self._fixes: list[Fix] = []  # taken, of those that are still listed
        self._named = ""  # what is open, as the workspace remembers it

    def compose(self) -> ComposeResult:
        """Title, then either a welcome or the form, then the verdict."""
        yield Line(id="config-title")
        welcome = Static("", id="config-welcome", markup=False)
        welcome.can_focus = True
        yield welcome
        yield Form(id="config-form")
        yield Verdict(self.workspace, self.settings)

    def on_mount(self) -> None:
        """Nothing is open yet."""
        self.draw()
        self.keep_looking()

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
        if last and (self.config is None or last != self._named):
            self.read(last)
        else:
            self.look()
        self.draw()
        self._look_at_runs()

    @work(thread=True, exclusive=True, group="runs", exit_on_error=False)
    def _look_at_runs(self) -> None:
        """What the settings were in earlier runs, where there are others by now."""
        from engine.joined.run_configs import used
        from engine.run.listing import list_runs

        runs = list_runs(self.workspace)
        known = [run.path for run in runs]
        if known != self._known_runs:
            self._known_runs = known
            self.app.call_from_thread(self.form.remember, used(runs))

    def leaving(self) -> str:
        """Values that were typed and not taken, edits that wait for the disk."""
        typed = self.form.untaken.items() if self.config is not None else ()
        said = ", ".join(f"{one_line(name)} = {one_line(text)}" for name, text in typed)
        not_taken = _("Typed, not taken: {text}").format(text=said) if said else ""
        return "\n".join(filter(None, (not_taken, self.unsaved)))

    # What became of a file and of edits

    def opened(self) -> None:
        """Another config: what preflight found was about the last one."""
        self._fixes.clear()
        self._named = str(self.config.path) if self.config is not None else ""
        if self.display:
            self.form.fields.focus()

    def draw(self, note: str = "") -> None:
        """Show the config, and `note` beside its name."""
        self.note = note
        config = self.config
        self.set_class(config is None, "-empty")
        title = self.query_one("#config-title", Line)
        if config is None:
            title.say("")
            self.query_one("#config-welcome", Static).update(words.welcome(self.workspace))
        else:
            self.verdict.about(config.path)
            title.say(words.title(config, self.workspace), f"{note} ")
            self._draw_form(config)
        self.refresh_bindings()
        self._draw_hint()

    def saved(self, change: Change) -> None:
        """Close the field; look again after a fix of preflight's."""
        self.form.taken(change.field)
        if change.fix:
            self.call_later(self.action_preflight)

    def refused(self, change: Change, problem: Problem) -> None:
        """Say why, where the value was typed if it was."""
        if change.fix in self._fixes:
            self._fixes.remove(change.fix)
        if self.form.editing and self.form.editor.field_name == change.field:
            self.form.wrong(problem)
        else:
            self.trouble(problem)

    def line(self) -> int:
        """The line of the setting under the cursor."""
        field = self.form.fields.field
        return max(field.line, 1) if field else 1

    @on(Form.Typed)
    def _value_typed(self, event: Form.Typed) -> None:
        root = self.workspace.root
        self.edit(lambda config: config.edited(event.name, event.text, root), field=event.name)

    def action_reset(self) -> None:
        """Give the setting under the cursor the value that it has in the origin."""
        field = self.form.fields.field
        if field is not None:
            self.edit(lambda config: config.reset(field.name))

    def action_about(self) -> None:
        """All that is known of the setting under the cursor."""
        field = self.form.fields.field
        if field is not None and self.config is not None:
            was, used = self.config.was.get(field.name), self.form.used.get(field.name, ())
            lines = words.about(field, was, used)
            self.app.push_screen(Reading(one_line(field.name), lines))

    # Preflight

    def action_preflight(self) -> None:
        """Look whether the config will run, before anything is started."""
        if self.config is not None:
            self.verdict.check(self.config)

    @on(Verdict.Changed)
    def _show_verdict(self, event: Verdict.Changed) -> None:
        if event.problem is not None:
            self.trouble(event.problem)
        if not self.verdict.checking:
            self._fixes.clear()
        self.draw(self.note)

    @on(Verdict.At)
    def _at_finding(self, event: Verdict.At) -> None:
        if event.finding is not self.verdict.finding:
            return  # the cursor has moved on
        if event.finding.field:
            self.form.fields.go_to(event.finding.field)
        self._explain(event.finding)

    @on(Verdict.FixWanted)
    def _fix(self, event: Verdict.FixWanted) -> None:
        if event.fix not in self._fixes:
            self._fixes.append(event.fix)
            self.edit(lambda config: config.fixed(event.fix), fix=event.fix)

    @on(Verdict.FieldWanted)
    def _to_field(self, event: Verdict.FieldWanted) -> None:
        if self.form.fields.go_to(event.name):
            self.form.fields.focus()

    def on_resize(self) -> None:
        """What is said of a finding has another form."""
        self.call_after_refresh(self._explain_again)

    def _explain_again(self) -> None:
        finding = self.verdict.finding
        if finding is not None:
            self._explain(finding)

    def on_descendant_focus(self) -> None:
        """The next step is another one on the findings than in the form."""
        self._draw_hint()

    # The next steps

    def action_train(self) -> None:
        """Take this config to the Train pane; a launch reads the file, not what is to be in it."""
        if self.unsaved:
            self.trouble(Problem(self.unsaved, "", _("Press t again when all is saved.")))
        elif self.config is not None:
            self.post_message(self.Opened(config=str(self.config.path)))
            self.post_message(self.Go("train"))

    @work(exclusive=True, group="dialog", exit_on_error=False)
    async def action_new(self) -> None:
        """Choose a config of the catalogue and copy it, pointed at the open dataset."""
        from tui.panes.config import making
        from tui.panes.config.choosing import ChooseConfig

        entries = await asyncio.to_thread(making.entries, self.workspace, self.settings)
        chosen = await self.app.push_screen_wait(ChooseConfig(entries))
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
        made = await asyncio.to_thread(
            making.make, self.workspace, self.settings, stock, answers[0], answers[1].strip()
        )
        self.read(str(made.path))
        self._tell(made)

    def _tell(self, made: Copied) -> None:
        """What else a copy wrote, and what was guessed for it."""
        if made.module is not None:
            name = one_line(self.workspace.relative(made.module))
            self.notify(_("Saved {path}").format(path=name), markup=False)
        for note in made.notes:
            self.notify(one_line(note), markup=False)

    @work(exclusive=True, group="dialog", exit_on_error=False)
    async def action_open(self) -> None:
        """Open another config of the workspace, or any by its path."""
        from tui.panes.config import making

        choices = await asyncio.to_thread(making.config_choices, self.workspace)
        chosen = await self.app.push_screen_wait(Choose(_("Open a config"), choices, free=True))
        if chosen is not None:
            self.read(chosen)

    @work(exclusive=True, group="dialog", exit_on_error=False)
    async def action_raw(self) -> None:
        """The file as it is; Enter there goes to that line's setting here."""
        from tui.panes.config.raw import RawView

        if self.config is not None:
            name = self.workspace.relative(self.config.path)
            screen = RawView(one_line(name), self.config.source.text, self.line())
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
        if action not in _OWN or action in _ALWAYS:
            return True
        if action == "use_data":
            return self._data_to_use() != ""
        return self.may_edit(action)

    def _data_to_use(self) -> str:
        """The open dataset, when the config does not train on it yet.

        Asked at every drawing: no disk is, which may be slow. A file that is gone is told
        when it is read.
        """
        if self.config is None:
            return ""
        last, text = self.workspace.last(), self.config.source.text
        return "" if all(str(path) in text for path in last.dataset) else last.data

    def _draw_form(self, config: OpenConfig) -> None:
        was_read = self.verdict.read
        self.verdict.show(config.source.text)
        if was_read and not self.verdict.read:
            # The last finding is put right and its list hidden: at once, or the
            # next key would go nowhere.
            self.screen.set_focus(self.form.home())
        names = [row.field.name for row in config.rows if row.field]
        checked = self.verdict.report_on(config.source.text) is not None
        self.form.show(config, marks(names, self.verdict.levels), checked)
        finding = self.verdict.finding
        if finding is not None:
            self._explain(finding)
        elif not self.form.editing:
            self.form.explain(None)

    def _explain(self, finding: Finding) -> None:
        self.form.explain(verdict_words.finding_help(finding.told(self.say), self.form.short))
        self._draw_hint()

    def _draw_hint(self) -> None:
        if self.config is None:
            self.hint = words.first_hint(self.workspace)
        elif (finding := self.verdict.finding) is not None:
            self.hint = verdict_words.finding_hint(finding)
        elif self.form.editing:
            self.hint = _("Enter  take this value      Esc  back")
        elif self.verdict.checking:
            self.hint = _("Enter  edit      preflight is looking …")
        else:
            report = self.verdict.report_on(self.config.source.text)
            self.hint = words.hint(report, self._data_to_use())
        self.post_message(self.HintChanged())

    @on(Form.EditingChanged)
    def _editing_changed(self) -> None:
        self._draw_hint()


_OWN = frozenset(binding.action for binding in ConfigPane.BINDINGS if isinstance(binding, Binding))
