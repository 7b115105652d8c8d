"""Settings of a config changed for one run: the Config pane's form, on a copy of the file."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Static

from engine.errors import Problem
from engine.i18n import N_, _
from engine.run import beside
from engine.settings import Settings
from engine.text import one_line
from engine.workspace import Workspace
from tui.dialogs.keys_line import KeysLine
from tui.panes.base import as_problem
from tui.panes.config.form import Form
from tui.panes.train.launch_words import changes_line

if TYPE_CHECKING:  # the engine's config part loads when a dialog needs it
    from engine.config.text.source import Change as Changed
    from tui.panes.config.opened import OpenConfig


class Change(ModalScreen[str]):
    """Returns the text of the changed config; "" when it is as the file says.

    Args:
        path: the config file, which is left as it is.
        text: the text to begin with; "" is the file's.
        workspace: where relative paths begin.
        settings: the user's.
    """

    DEFAULT_CSS = """
    Change #change { width: 100%; height: 100%; padding: 0 1; background: $surface; }
    Change #changed { height: 1; }
    """
    BINDINGS = [
        Binding("escape", "take", N_("back, with the changes"), id="change.back"),
        Binding("u", "undo", N_("undo"), id="change.undo"),
        Binding("x", "reset", N_("as in the file"), id="change.reset"),
    ]

    def __init__(self, path: Path, text: str, workspace: Workspace, settings: Settings) -> None:
        super().__init__()
        self._path, self._text = path, text
        self._workspace, self._settings = workspace, settings
        self._config: OpenConfig | None = None
        self._folder = tempfile.TemporaryDirectory(prefix="tunedeck-")

    def compose(self) -> ComposeResult:
        """Title, what is changed, the form, the keys."""
        name = one_line(self._workspace.relative(self._path))
        with Vertical(id="change"):
            title = _("Settings for this run; {path} stays as it is").format(path=name)
            yield Static(title, classes="dialog-title", markup=False)
            yield Static("", id="changed", markup=False)
            yield Form(id="config-form")
            keys = _("Enter edit  x as in the file  u undo  Esc back, with the changes")
            yield KeysLine(keys.replace("  ", "   "))

    def on_mount(self) -> None:
        """Open the copy."""
        self._work(self._open)
        self._form.fields.focus()

    def on_unmount(self) -> None:
        """The text is all that is wanted of the copy."""
        self._folder.cleanup()

    @property
    def _form(self) -> Form:
        return self.query_one(Form)

    def _open(self) -> OpenConfig:
        from engine.config.text.source import ConfigSource
        from tui.panes.config.opened import OpenConfig

        origin = ConfigSource.open(self._path)
        text = self._text or origin.text
        copy = beside.lay(self._path, text.encode(), Path(self._folder.name))
        return OpenConfig.read(copy, self._settings, origin)

    # Editing

    @work(exclusive=True, group="change", exit_on_error=False)
    async def _work(self, made: Callable[[], OpenConfig]) -> None:
        """Show the config that `made` makes in a thread, or say why it cannot."""
        editing = self._form.editing
        try:
            self._config = await asyncio.to_thread(made)
        except Exception as error:
            self._refuse(as_problem(error), editing)
            return
        if editing:
            self._form.taken(self._form.editor.field_name)
        self._form.show(self._config, {}, checked=False)
        self.query_one("#changed", Static).update(changes_line(self._changes()))

    def _changes(self) -> list[Changed]:
        config = self._config
        return config.source.changes(config.origin) if config and config.origin else []

    def _refuse(self, problem: Problem, editing: bool) -> None:
        if editing:
            self._form.wrong(problem)
        else:
            self.notify("\n".join(problem.lines()), severity="error", markup=False)

    def _edit(self, edit: Callable[[OpenConfig], OpenConfig]) -> None:
        config = self._config
        if config is not None:
            self._work(lambda: edit(config))

    @on(Form.Typed)
    def _typed(self, event: Form.Typed) -> None:
        root = self._workspace.root
        self._edit(lambda config: config.edited(event.name, event.text, root))

    def action_undo(self) -> None:
        """Take the last edit back."""
        self._edit(lambda config: config.undone())

    def action_reset(self) -> None:
        """Let the setting under the cursor be as in the file."""
        field = self._form.field
        if field is not None:
            self._edit(lambda config: config.reset(field.name))

    def action_take(self) -> None:
        """Close; a value that is being typed and was not accepted is not taken."""
        config = self._config
        changed = config is not None and config.origin is not None and bool(self._changes())
        self.dismiss(config.source.text if config is not None and changed else "")
