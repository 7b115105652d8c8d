"""A pane that keeps one config file open: reading, editing, what others do to it.

How that looks is `pane.ConfigPane`'s matter.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from textual import on, work
from textual.message import Message

from engine.errors import Problem
from engine.i18n import N_, _, ngettext
from engine.settings import Settings
from engine.workspace import Workspace
from tui.editor import open_editor
from tui.panes.base import Pane, as_problem

if TYPE_CHECKING:  # the engine's parts load when a config is first opened
    from engine.config.checks.findings import Fix
    from tui.panes.config.opened import OpenConfig

LOOK_EVERY = 2.0
"""Seconds between two looks at whether someone else changed the file."""
UNREADABLE = N_("cannot be read now")


@dataclass(frozen=True)
class Change:
    """An edit that was asked for.

    Attributes:
        make: makes of the config as it is the one that is to be. Raises `Problem`.
        note: what it is called once it is saved.
        field: the setting whose value was typed; "" where none was.
        fix: the finding's remedy that it is; preflight looks again afterwards.
    """

    make: Callable[[OpenConfig], OpenConfig]
    note: str
    field: str = ""
    fix: Fix | None = None


class ConfigKeeper(Pane):
    """Holds the config that is open. Each edit is saved at once, in a thread."""

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
        self._changes: deque[Change] = deque()  # the first one is on its way to the disk
        self._meanwhile: ConfigKeeper.Read | None = None  # opened before the last was saved
        self.note = ""
        """What happened last, in a word."""

    @property
    def busy(self) -> bool:
        """Whether edits are on their way to the disk."""
        return bool(self._changes)

    @property
    def unsaved(self) -> str:
        """How many edits would be lost now, in a sentence; "" where none would."""
        count = len(self._changes)
        if not count:
            return ""
        return ngettext(
            "{count} edit is not saved yet", "{count} edits are not saved yet", count
        ).format(count=count)

    # What the pane on top does

    @abstractmethod
    def draw(self, note: str = "") -> None:
        """Show the config as it is now, and what happened to it."""

    @abstractmethod
    def opened(self) -> None:
        """Another config is open now; it is drawn already."""

    @abstractmethod
    def saved(self, change: Change) -> None:
        """An edit is in the file; it is not drawn yet."""

    @abstractmethod
    def refused(self, change: Change, problem: Problem) -> None:
        """An edit could not be made."""

    @abstractmethod
    def line(self) -> int:
        """The line of the file that the user is looking at."""

    # Reading

    def keep_looking(self) -> None:
        """Keep an eye on the file."""
        self.set_interval(LOOK_EVERY, self.look)

    @work(thread=True, exclusive=True, group="read", exit_on_error=False)
    def read(self, name: str) -> None:
        """Open the config that a person means by `name`."""
        from tui.panes.config.opened import OpenConfig

        path = self.workspace.resolve(name)
        self.post_message(self.Read(OpenConfig.read(path, self.settings), None))

    def look(self) -> None:
        """See what others did to the file."""
        if self.config is not None and not self.busy and self.display:
            self._look(self.config, undoable=False)

    @work(thread=True, exclusive=True, group="look", exit_on_error=False)
    def _look(self, config: OpenConfig, undoable: bool) -> None:
        try:
            found = config.looked_again(self.settings, undoable)
        except Problem:
            # Said once; until the file changes again the last good text is shown.
            self.post_message(self.Read(config.overlooked(), config, _(UNREADABLE)))
            raise
        if found.source is not config.source:
            note = _("edited") if undoable else _("changed elsewhere, read again")
            self.post_message(self.Read(found, config, note))
        elif found is not config:
            note = "" if self.note == _(UNREADABLE) else self.note  # it is as it was again
            self.post_message(self.Read(found, config, note))

    @on(Read)
    def _show_read(self, event: Read) -> None:
        if event.base is None and self.busy:
            self._meanwhile = event  # the edits are those of the config before it
            return
        if event.base is None:
            self.post_message(self.Opened(config=str(event.config.path)))
        elif self.busy or event.base is not self.config:
            return  # an edit of ours is or was quicker; the next look sees the rest
        self.config = event.config
        self.draw(event.note)
        if event.base is None:
            self.opened()

    # Editing

    def edit(
        self,
        make: Callable[[OpenConfig], OpenConfig],
        note: str = "",
        field: str = "",
        fix: Fix | None = None,
    ) -> None:
        """Change the config (see `Change`) and save it; the answer is `Saved` or `Refused`.

        While another edit is on its way, which may take a moment on a network disk, it
        waits for that one.
        """
        if self.config is not None:
            self._changes.append(Change(make, note or _("saved"), field, fix))
            if len(self._changes) == 1:
                self._save(self.config, self._changes[0])

    @work(thread=True, group="edit", exit_on_error=False)
    def _save(self, config: OpenConfig, change: Change) -> None:
        note = change.note
        try:
            changed = change.make(config)
            if changed.joined(config):
                note = _("{note}, with what was edited elsewhere").format(note=note)
            self.post_message(self.Saved(changed, note))
        except Problem as problem:
            self.post_message(self.Refused(problem))
        except Exception as error:
            self.post_message(self.Refused(as_problem(error)))

    @on(Saved)
    def _show_saved(self, event: Saved) -> None:
        self.config = event.config
        self.saved(self._changes.popleft())
        self.draw(event.note)
        self._go_on()

    @on(Refused)
    def _show_refusal(self, event: Refused) -> None:
        self.refused(self._changes.popleft(), event.problem)
        self._go_on()
        self.look()

    def _go_on(self) -> None:
        """Make the next edit; after the last one, show what was opened meanwhile."""
        if self._changes and self.config is not None:
            self._save(self.config, self._changes[0])
        elif self._meanwhile is not None:
            event, self._meanwhile = self._meanwhile, None
            self._show_read(event)

    def action_undo(self) -> None:
        """Take the last edit back."""
        self.edit(lambda config: config.undone(), _("undone, saved"))

    def action_redo(self) -> None:
        """Make the edit again that was undone last."""
        self.edit(lambda config: config.redone(), _("done again, saved"))

    def action_use_data(self) -> None:
        """Train on the dataset that is open in the Data pane."""
        last = self.workspace.last()
        data, shape = last.dataset, last.shape or None
        self.edit(lambda config: config.pointed_at(data, shape))

    def action_write(self) -> None:
        """Write the file again that was deleted under the editor."""
        self.edit(lambda config: config.written_again(), _("written again"))

    def action_editor(self) -> None:
        """Edit the file in the user's own editor; what was done there can be undone here."""
        if self.config is None or self.busy:
            return
        try:
            open_editor(self.app, self.config.path, self.line())
        except Problem as problem:
            self.trouble(problem)
        self._look(self.config, undoable=True)

    def may_edit(self, action: str) -> bool | None:
        """Whether an action of this class means something now (None: not at the moment)."""
        config = self.config
        if config is None:
            return False
        possible = {  # what is on its way may be undone, too
            "undo": self.busy or bool(config.past),
            "redo": self.busy or bool(config.future),
            "write": config.gone,
        }
        return True if possible.get(action, True) else None
