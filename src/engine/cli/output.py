"""Where the command line's words go: results to stdout, talk and progress to stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from engine.i18n import _
from engine.text import clean, duration

if TYPE_CHECKING:
    from pathlib import Path

    from engine.settings import Settings
    from engine.workspace import Workspace

Progress = Callable[[int, int], None]
"""``progress(done, total)``; total 0 when it is not known."""


def _json(value: Any) -> str:
    import msgspec

    try:
        text = msgspec.json.encode(value, enc_hook=str).decode()
        text.encode(sys.stdout.encoding or "utf-8")
        return text
    except UnicodeEncodeError:
        # A file's name that is not UTF-8: its bytes as Python writes them, so that none is lost.
        # The same for all that is not ASCII where the output cannot hold it.
        import json

        # NaN and infinity, which are no JSON, are null, as msgspec writes them.
        text = json.dumps(msgspec.to_builtins(value, enc_hook=str))
        return json.dumps(json.loads(text, parse_constant=lambda _name: None))


class Output:
    """One command's output, as text or (``--json``) as one JSON document."""

    def __init__(self, settings: Settings | None = None, json: bool = False) -> None:
        """Without `settings` they are those in force, loaded when a verb asks for them."""
        self._settings = settings
        self.json = json

    @property
    def settings(self) -> Settings:
        """The user's settings. Raises `Problem` when they are wrong."""
        if self._settings is None:
            from engine import settings

            self._settings = settings.load()
        return self._settings

    def workspace(self) -> Workspace:
        """The workspace of the current folder."""
        from engine.workspace import Workspace

        return Workspace.here()

    def cache(self) -> Path | None:
        """Where what is found out of rows is kept: in a workspace in use, else nowhere."""
        workspace = self.workspace()
        return workspace.cache if workspace.state.is_dir() else None

    def result(self, value: Any, human: Callable[[], Iterable[str]]) -> None:
        """Print `value` as JSON when asked for, else the lines that `human` makes."""
        if self.json:
            sys.stdout.write(_json(value) + "\n")
            sys.stdout.flush()
        else:
            self.lines(human())

    def lines(self, lines: Iterable[str]) -> None:
        """Print results for a person as they come."""
        for line in lines:
            sys.stdout.write(clean(line, keep="\n\t") + "\n")
        sys.stdout.flush()

    def has_reader(self) -> bool:
        """Whether somebody still reads the results; a pipe's other end may be closed."""
        import select

        try:
            poll = select.poll()
            poll.register(sys.stdout.fileno(), 0)
            return not poll.poll(0)  # errors are told unasked
        except (OSError, ValueError):  # no file of the system's
            return True

    def say(self, text: str) -> None:
        """Talk: a line on stderr."""
        sys.stderr.write(clean(text) + "\n")
        sys.stderr.flush()

    def progress(self, label: str) -> Progress:
        """A progress line on a terminal, with the time left; silent elsewhere."""
        if not sys.stderr.isatty():
            return lambda done, total: None
        last = 0.0
        began = time.monotonic()

        def show(done: int, total: int) -> None:
            nonlocal last
            now = time.monotonic()
            if now - last < 0.1 and done != total:
                return
            last = now
            share = f"{100 * done // total:3d} %" if total else f"{done:,}"
            took = now - began
            if 0 < done < total and took > 3:
                left = duration(took * (total - done) / done)
                share += "  " + _("{time} left").format(time=left)
            sys.stderr.write(f"\r\x1b[K{clean(label)}  {share}" + ("\n" if done == total else ""))
            sys.stderr.flush()

        return show
