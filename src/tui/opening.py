"""The app from its start on a folder to the words that it leaves on the terminal."""

from __future__ import annotations

import contextlib
import difflib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from engine import i18n, settings, settings_file, unforeseen
from engine.cli.main import VERBS
from engine.errors import Problem
from engine.i18n import _
from engine.text import one_line
from engine.workspace import Workspace
from tui.app import Tunedeck
from tui.overlays import RESTART


def run(arguments: Sequence[str], language: str = "") -> int:
    """Open the app on the folder in `arguments` (default: this one); return its exit status.

    In `language` instead of the one of the settings, if one is given.
    """
    i18n.use("")
    try:
        chosen = settings.load()
        i18n.use(language or chosen.language)
        settings_file.require_language(language)
        _require_folder(arguments)
        workspace = Workspace(Path(arguments[0])) if arguments else Workspace.here()
        _require_terminal()
        os.chdir(workspace.root)  # where relative paths in configs start from
    except Exception as error:  # a folder that cannot be asked for, or entered
        problem = unforeseen.as_problem(error, _("`tunedeck doctor` looks at what is here"))
        for line in problem.lines():
            sys.stderr.write(one_line(line) + "\n")
        return problem.status
    while True:
        app = Tunedeck(workspace, chosen)
        app.run(mouse=chosen.mouse)
        if app.return_code != RESTART:
            break
        chosen = settings.load()
    with contextlib.suppress(OSError):  # the terminal may be gone, and the runs' disk
        words = app.parting_words()
        if words:
            sys.stderr.write(words + "\n")
            sys.stderr.flush()
    return app.return_code or 0


def _require_folder(arguments: Sequence[str]) -> None:
    """Raise `Problem` for a verb that is misspelt, and for more than a folder."""
    if arguments and not os.path.lexists(arguments[0]):
        near = difflib.get_close_matches(arguments[0], VERBS, n=1)
        if near:
            raise Problem(
                _("There is no verb {name}").format(name=arguments[0]),
                _("Did you mean {name}?").format(name=near[0]),
                _("`tunedeck --help` lists the verbs."),
            )
    if len(arguments) > 1:
        raise Problem(_("Too many arguments"), "", _("Use: tunedeck [FOLDER]"))


def _require_terminal() -> None:
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise Problem(
            _("The app needs a terminal"),
            _("Standard input or output is not one."),
            _("Use the verbs (tunedeck --help), which do the same without a screen."),
        )
    if os.environ.get("TERM", "dumb") in ("dumb", ""):
        raise Problem(
            _("The app cannot draw on this terminal"),
            "TERM=" + os.environ.get("TERM", ""),
            _("Use another terminal, or the verbs (tunedeck --help)."),
        )
