"""The user's own editor over the app, on the line they were looking at."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from textual.app import App, SuspendNotSupported

from engine.errors import Problem
from engine.i18n import _

# Editors that open at a line when told so by ``+LINE``.
_TAKE_A_LINE = frozenset(
    {"vi", "vim", "nvim", "view", "nano", "emacs", "emacsclient", "micro", "kak", "joe", "ed"}
)


def editor_command(path: Path, line: int) -> list[str]:
    """The command that edits `path`: ``$VISUAL``, ``$EDITOR``, else one that is installed."""
    named = os.environ.get("VISUAL") or os.environ.get("EDITOR") or ""
    try:
        command = shlex.split(named)
    except ValueError as error:
        raise Problem(_("$EDITOR cannot be understood"), f"{named}: {error}") from error
    if not command:
        found = next(filter(shutil.which, ("vim", "vi", "nano")), None)
        if found is None:
            raise Problem(
                _("There is no editor"),
                _("$EDITOR is not set, and neither vim, vi nor nano is installed."),
                _("Set EDITOR, then open Tunedeck again."),
            )
        command = [found]
    at = [f"+{line}"] if Path(command[0]).name in _TAKE_A_LINE else []
    return [*command, *at, str(path)]


@contextmanager
def _keys_are_the_editors() -> Iterator[None]:
    """Ctrl-C and Ctrl-\\, which a terminal sends to all in the foreground, do not end the app.

    A handler, for an editor would inherit it that they are ignored.
    """
    keys = (signal.SIGINT, signal.SIGQUIT)
    before = {key: signal.signal(key, lambda _number, _frame: None) for key in keys}
    try:
        yield
    finally:
        for key, handler in before.items():
            signal.signal(key, handler)


def open_editor(app: App[Any], path: Path, line: int = 1) -> int:
    """Edit `path` in the user's editor; return its exit status when it was closed.

    Raises `Problem` when it cannot be started.
    """
    command = editor_command(path, line)
    status: int | OSError
    try:
        with _keys_are_the_editors(), app.suspend():
            # Nothing may be raised in here: the app would not come back to the screen.
            try:
                status = subprocess.run(command, check=False).returncode
            except OSError as error:
                status = error
    except SuspendNotSupported as error:
        raise Problem(
            _("An editor cannot be opened from here"),
            _("This terminal is not one that can be handed over."),
            _("Edit the file in another window; Tunedeck notices."),
        ) from error
    if isinstance(status, OSError):
        raise Problem(
            _("Cannot start the editor {command}").format(command=command[0]),
            status.strerror or str(status),
            _("Set EDITOR to one that is installed."),
        ) from status
    return status
