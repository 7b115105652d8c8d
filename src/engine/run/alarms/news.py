"""What happened to the runs of a workspace that its user has not been told of yet.

How far each run's events have been told is kept in the workspace, so that an
alarm raised at night is told in the morning, and each only once.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Sequence
from typing import Protocol

import msgspec

from engine import files
from engine.errors import Problem
from engine.i18n import _, ngettext, sentences
from engine.run import reasons, state
from engine.run.alarms import reading, table
from engine.run.folder import RunFolder
from engine.run.state import Alarm, Cause, Event, Word
from engine.workspace import Workspace

_FILE = "told.json"
_ENDS: frozenset[Word] = frozenset(("finished", "failed"))
"""Ends that need telling: who stopped a run knows that it stopped."""


class Told(msgspec.Struct):
    """How much of one run has been told."""

    read: int = 0
    """Bytes of its events."""
    lost: bool = False


class Happening(Protocol):
    """One thing that happened, to a run or to something else."""

    @property
    def time(self) -> float:
        """When, in seconds since the epoch."""
        ...

    @property
    def good(self) -> bool:
        """Whether there is nothing to worry about."""
        ...

    def problem(self) -> Problem:
        """In words."""
        ...


class Notice(msgspec.Struct, frozen=True):
    """One thing that happened to a run."""

    run: str
    time: float
    alarm: Alarm | None = None
    state: Word | None = None
    cause: Cause | None = None
    moved: tuple[str, str] | None = None
    """Where its folder lay, and where it lies."""

    @property
    def good(self) -> bool:
        """Whether there is nothing to worry about."""
        return self.state == "finished" or self.moved is not None

    def problem(self) -> Problem:
        """In words, as everything that needs the user is shown."""
        if self.alarm is not None:
            reason, todo = table.say(self.alarm)
            return Problem(f"! {self.run}: {reason}", "", todo)
        if self.moved is not None:
            before, now = self.moved
            return Problem(
                _("{run}: its folder was moved to {path}").format(run=self.run, path=now),
                _("It goes on there; until its end a link stands in {path}.").format(path=before),
            )
        assert self.state is not None
        reason, todo = reasons.say(self.cause)
        return Problem(f"{self.run}: {state.spoken(self.state)}", reason, todo)


class News:
    """Finds what is new; each look reads only what was written since the last one."""

    def __init__(self, workspace: Workspace) -> None:
        self._path = workspace.state / _FILE
        self._told: dict[str, Told] | None = None

    def look(self, runs: Iterable[RunFolder]) -> list[Notice]:
        """What happened since the last look, or since the last window was open; oldest first."""
        first = self._told is None
        told = self._stored() if self._told is None else self._told
        before = msgspec.json.encode(told)
        found: list[Notice] = []
        seen = {}
        for run in runs:
            with contextlib.suppress(Problem):  # its folder is broken: that is told elsewhere
                one = told.get(str(run.path)) or self._beginning(run, first, told)
                found += _news(run, one)
                seen[str(run.path)] = one
        self._told = seen
        if msgspec.json.encode(seen) != before:
            with contextlib.suppress(OSError, Problem):  # told again, then, by the next window
                files.write_json(self._path, seen)
        return sorted(found, key=lambda notice: notice.time)

    def _stored(self) -> dict[str, Told]:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=dict[str, Told])
        except (OSError, msgspec.MsgspecError):
            return {}

    def _beginning(self, run: RunFolder, first: bool, told: dict[str, Told]) -> Told:
        """What counts as told of a run that is new here.

        Of one that was moved, what was told of it in its old place; of an old one that
        has ended, all.
        """
        moves = [event.path for event in run.events() if event.event == "moved"]
        if known := [told[path] for path in moves if path in told]:
            return msgspec.structs.replace(known[-1])
        if first and not self._path.exists() and not run.state.living:
            return Told(reading.length(run.path), lost=True)
        return Told()


def as_problem(notices: Sequence[Happening], away: bool) -> Problem:
    """Several at once in words; `away`: they happened while no window was open."""
    if len(notices) == 1 and not away:
        return notices[0].problem()
    problems = [
        (time.strftime("%m-%d %H:%M", time.localtime(one.time)), one.problem()) for one in notices
    ]
    short = [f"{when}  {sentences(one.what, one.why)}" for when, one in problems]
    whole = [f"{when}  {one}" for when, one in problems]
    title = ngettext(
        "Since you were last here, {count} thing happened",
        "Since you were last here, {count} things happened",
        len(notices),
    )
    more = _("F7 shows what to do.") if any(one.todo for _when, one in problems) else ""
    return Problem(title.format(count=len(short)), "\n".join(short[-3:]), more, "\n".join(whole))


def _news(run: RunFolder, told: Told) -> list[Notice]:
    events, told.read = reading.read(run.path, told.read)
    found = [notice for notice in (_notice(run, event) for event in events) if notice]
    over = {event.alarm.code for event in events if event.event == "alarm-over" and event.alarm}
    found = [one for one in found if one.alarm is None or one.alarm.code not in over]
    now = run.state
    if now.state == "lost" and not told.lost and run.record is not None:
        found.append(Notice(run.name, time.time(), state="lost", cause=now.cause))
    told.lost = now.state == "lost"
    return found


def _notice(run: RunFolder, event: Event) -> Notice | None:
    if event.event == "alarm" and event.alarm is not None:
        return Notice(run.name, event.time, alarm=event.alarm)
    if event.event == "state" and event.state in _ENDS:
        return Notice(run.name, event.time, state=event.state, cause=event.cause)
    if event.event == "moved":
        return Notice(run.name, event.time, moved=(event.path, str(run.path)))
    return None
