"""Which alarms a run has now: read from its events, which only grow."""

from __future__ import annotations

from pathlib import Path

import msgspec

from engine.run import state
from engine.run.alarms import table
from engine.run.state import Alarm, Event


class Reader:
    """Reads what is new in a run's events; cheap enough to ask several times a second."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._offset = 0
        self._raised: dict[str, Alarm] = {}

    def raised(self) -> list[Alarm]:
        """The alarms of the newest start that are not over, in the order they were raised."""
        for event in self._new():
            if event.event == "start":
                self._raised.clear()
            elif event.alarm is not None and event.event == "alarm":
                self._raised[event.alarm.code] = event.alarm
            elif event.alarm is not None:
                self._raised.pop(event.alarm.code, None)
        return list(self._raised.values())

    def standing(self, living: bool) -> list[Alarm]:
        """Those of `raised` that count for a run that lives, or that has ended."""
        return [alarm for alarm in self.raised() if living or table.row(alarm).lasting]

    def _new(self) -> list[Event]:
        if length(self._folder) < self._offset:  # another file: what was read does not count
            self._offset = 0
            self._raised.clear()
        events, self._offset = read(self._folder, self._offset)
        return events


def length(folder: Path) -> int:
    """Bytes of the events of the run in `folder`."""
    try:
        return (folder / state.EVENTS).stat().st_size
    except OSError:
        return 0


def read(folder: Path, offset: int) -> tuple[list[Event], int]:
    """The events from byte `offset` on, and where the next ones will begin.

    A torn last line waits for its end.
    """
    if length(folder) <= offset:
        return [], offset
    try:
        with (folder / state.EVENTS).open("rb") as file:
            file.seek(offset)
            data = file.read()
    except OSError:
        return [], offset
    end = data.rfind(b"\n") + 1
    events = (_event(line) for line in data[:end].split(b"\n") if line)
    return [event for event in events if event is not None], offset + end


def _event(line: bytes) -> Event | None:
    try:
        return msgspec.json.decode(line, type=Event)
    except msgspec.MsgspecError:
        return None
