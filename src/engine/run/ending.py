"""Writing the end of a run where no supervisor does."""

from __future__ import annotations

import time
from contextlib import suppress

from engine import files
from engine.run import state
from engine.run.folder import RunFolder
from engine.run.state import Cause, Event, RunState


def stopped(run: RunFolder, cause: Cause, what: str) -> RunState:
    """Write that the run was stopped, unless an end is written; return how it stands then.

    Raises `Failed` when that cannot be written: `what` (a sentence) is what follows from it.
    """
    written = run.written_state()
    if written is None or not written.living:
        return run.state
    ended = written.become("stopped", cause=cause, ended=time.time())
    with files.in_words(what):
        # First the event: who sees the new state finds its event as well.
        event = Event(time.time(), "state", state="stopped", cause=cause)
        files.append_json(run.path / state.EVENTS, event)
        files.write_json(run.path / state.STATE, ended)
    clear_orders(run)
    return ended


def clear_orders(run: RunFolder) -> None:
    """Remove what the run was told and obeys no more: it has ended."""
    for name in (state.STOP, state.KILL):
        with suppress(OSError):  # the next start removes it as well
            (run.path / name).unlink(missing_ok=True)
