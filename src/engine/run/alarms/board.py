"""Which alarms are raised now: each is written down and told once, and once more when over."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from pathlib import Path

from engine import files, i18n, settings
from engine.errors import Problem
from engine.i18n import _
from engine.run import reasons, state
from engine.run.alarms import table
from engine.run.alarms.hook import SECONDS, Hook, Message, Outcome
from engine.run.progress import Progress
from engine.run.state import Alarm, Event, RunState

LEAVE = 2 * SECONDS
"""Seconds at most that the hook's last calls are waited for after the end."""


class Board:
    """Takes what is found, writes what has changed into the events, calls the user's command.

    Args:
        folder: the run's.
        at: says how far the run is.
        note: takes what is worth a line in the supervisor's own log.
    """

    def __init__(
        self, folder: Path, at: Callable[[], Progress], note: Callable[[str], object]
    ) -> None:
        self._folder, self._at, self._note = folder, at, note
        self._on: dict[str, Alarm] = {}
        self._muted: set[str] = set()
        self._unwritten: list[Event] = []
        self._hook = Hook()
        self.state = RunState("starting", time.time())
        """The run's, as the supervisor last said."""

    def settle(self, found: dict[str, Alarm | None]) -> None:
        """Raise what is new in `found` (by code), and end what holds no more."""
        for code, alarm in found.items():
            if alarm is not None and code not in self._on:
                self._on[code] = alarm
                if code in self._chosen().off:
                    self._muted.add(code)
                else:
                    self._tell("alarm", alarm)
            elif alarm is None and code in self._on:
                over = self._on.pop(code)
                if code in self._muted:
                    self._muted.remove(code)
                else:
                    self._tell("alarm-over", over)

    def ended(self) -> None:
        """Tell of the run's end."""
        cause, word = self.state.cause, self.state.state
        reason, todo = reasons.say(cause)
        if not reason:
            reason = _("It has ended ({state}) after {step} steps.").format(
                state=state.spoken(word), step=self._at().step
            )
        code, values = ("", {}) if cause is None else (cause.code, cause.values)
        self._call(word, reason, todo, code, values)

    def poll(self) -> None:
        """Go on with what takes time: the user's command, and a disk that was full."""
        self._after(self._hook.poll())
        self._write()

    def leave(self) -> None:
        """Wait for the command's last calls, but not for ever."""
        until = time.monotonic() + LEAVE
        while self._hook.busy and time.monotonic() < until:
            self.poll()
            time.sleep(0.05)

    def pids(self) -> set[int]:
        """The processes of the command: they are not the run's."""
        return self._hook.pids()

    def _tell(self, kind: state.AlarmEvent, alarm: Alarm) -> None:
        self._unwritten.append(Event(time.time(), kind, alarm=alarm))
        self._write()
        if alarm.code != "hook":
            reason, todo = table.say(alarm)
            self._call(kind, reason, todo, alarm.code, alarm.values)

    def _write(self) -> None:
        while self._unwritten:
            try:
                files.append_json(self._folder / state.EVENTS, self._unwritten[0])
            except OSError:
                return  # a full disk, of which one of them may tell: the next time
            del self._unwritten[0]

    def _call(self, event: str, text: str, todo: str, code: str, values: dict[str, str]) -> None:
        command = self._chosen().hook
        if not command:
            return
        at, record = self._at(), state.read_record(self._folder)
        folder = self._folder.resolve()  # where it is now
        message = Message(
            event=event,
            run=record.run if record is not None else folder.name,
            dir=str(folder),
            host=platform.node(),
            time=time.time(),
            state=self.state.state,
            text=text,
            todo=todo,
            code=code,
            values=values,
            step=at.step,
            steps=at.steps,
            loss=at.loss,
        )
        self._hook.call(command, message)

    def _after(self, outcome: Outcome | None) -> None:
        if outcome is None:
            return
        alarm = None
        if not outcome.ok:
            said = outcome.output.rpartition("\n")[2][:300] or "-"
            alarm = Alarm("hook", {"status": outcome.ending, "output": said})
            self._note(f"hook: {outcome.ending}: {outcome.output}")
        self.settle({"hook": alarm})

    def _chosen(self) -> settings.Alarms:
        """The settings as they are now: one may set a hook while the run runs."""
        try:
            chosen = settings.load()
        except Problem as problem:
            self._note(str(problem))
            return settings.Alarms()
        i18n.use(chosen.language)
        return chosen.alarms
