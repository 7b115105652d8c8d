"""How far a run is, read from what XTuner itself writes.

Every start makes a folder ``<YYYYmmdd_HHMMSS>/vis_data/scalars.json`` of JSON
lines. They are appended to while we read: a line without its end is left for
the next look. A value may be a bare NaN. After a resume the steps that were
lost come again, and the new ones count. Which start is newer our hook notes
(``starts``): the names would say so only if no clock were ever set back, as
every autumn's is.
"""

from __future__ import annotations

import json
import math
import re
import threading
from array import array
from collections.abc import Container, Iterator
from pathlib import Path
from statistics import median

import msgspec

from engine.run import history_cache, state
from engine.run.points import FIELDS, History, Point
from engine.run.state import Facts

_START = re.compile(r"\d{8}_\d{6}")
_STEP = re.compile(rb"Iter\(train\) *\[ *(\d+)/(\d+)\]")
_RECENT = 20
"""Points that the pace is taken from."""
_PIECE = 1 << 18
"""Bytes that are parsed at a stretch: in between, the screen has its turn."""
_first_reading = threading.Lock()
"""Two threads of a window look at the same runs: the one parses what is long, the other then
finds it in the cache."""


_decoder = msgspec.json.Decoder(Point)


class Progress(msgspec.Struct, frozen=True):
    """Where a run stands. None: not known (yet), or not finite."""

    step: int
    steps: int | None
    """Steps in all; one step is one micro-batch."""
    loss: float | None
    lr: float | None
    grad_norm: float | None
    step_time: float | None
    """Seconds a step: the median of the last points, so that a pause does not count."""
    eta: float | None
    """Seconds to the last step."""
    tokens_per_s: float | None
    """Without padding, over all processes; runs that we started only."""
    memory: int | None
    """Peak GPU memory by torch's count, bytes."""
    history: History


class Follower:
    """Reads what is new since the last look; cheap enough to ask several times a second.

    Args:
        folder: the run's.
        but: names of starts (``YYYYmmdd_HHMMSS``) whose points are left out.
    """

    def __init__(self, folder: Path, but: Container[str] = ()) -> None:
        self.folder = folder
        self.history = History()
        self._but = but
        self._offsets: dict[Path, int] = {}
        self._kept: int | None = None  # points in the cache; None before the first look
        self._steps: int | None = None

    def update(self) -> Progress:
        """Read on, and return where the run stands."""
        if self._kept is None:
            with _first_reading:
                self._offsets = {} if self._but else history_cache.load(self.folder, self.history)
                self._kept = len(self.history)
                self._read_on()
        else:
            self._read_on()
        return self._progress()

    def _read_on(self) -> None:
        for scalars in self._files():
            self._read(scalars)
        if len(self.history) > max(history_cache.LEAST, (self._kept or 0) * 1.2):
            self._kept = len(self.history)
            if not self._but and state.is_ours(self.folder):  # in nobody else's folder
                history_cache.save(self.folder, self.history, self._offsets)

    def _files(self) -> list[Path]:
        """The scalars of every start, in order of time."""
        wanted = (start for start in starts(self.folder) if start.name not in self._but)
        return [start / "vis_data" / "scalars.json" for start in wanted]

    def _read(self, path: Path) -> None:
        offset = self._offsets.get(path, 0)
        try:
            size = path.stat().st_size
            if size == offset:
                return
            offset = offset if size > offset else 0  # cut short, and written anew
            with path.open("rb") as file:
                file.seek(offset)
                data = file.read()
        except OSError:
            return
        end = data.rfind(b"\n") + 1
        self._offsets[path] = offset + end
        named = self.history.named
        for piece in _pieces(data[:end]):
            named.update(
                name for name in FIELDS if name not in named and f'"{name}"'.encode() in piece
            )
            self.history.add(_points(piece))

    def steps(self) -> int | None:
        """Steps in all: from our hook's note, else from the last step line of XTuner's log."""
        facts = read_facts(self.folder)
        if facts is not None:
            self._steps = facts.steps
        elif self._steps is None and self._offsets:
            read = [file for file in self._files() if file in self._offsets]
            found = _last_step(read[-1].parent.parent) if read else None
            self._steps = None if found is None else found[1]
        return self._steps

    def _progress(self) -> Progress:
        history = self.history
        step = self._step()
        steps = self.steps()
        pace = _pace(history)
        memory = _last(history["memory"])
        return Progress(
            step=step,
            steps=steps,
            loss=_last(history["loss"]),
            lr=_last(history["lr"]),
            grad_norm=_last(history["grad_norm"]),
            step_time=pace,
            eta=None if pace is None or steps is None else max(0, steps - step) * pace,
            tokens_per_s=_tokens_per_second(history),
            memory=None if memory is None else int(memory * 1024**2),
            history=history,
        )

    def _step(self) -> int:
        """The last step: the last point's, unless a new start has gone back and logged none yet."""
        last = self.history.step[-1] if self.history else 0
        files = self._files()
        if not files or self._offsets.get(files[-1]):
            return last
        facts = read_facts(self.folder)
        return last if facts is None else min(last, facts.first)


def read(folder: Path) -> Progress:
    """Where the run in `folder` stands, read once from the start."""
    return Follower(folder).update()


def starts(folder: Path) -> list[Path]:
    """The folders of the run's starts, the first one first.

    By our hook's note; before them those that it does not name, by their own names.
    """
    try:
        found = [entry for entry in folder.iterdir() if _START.fullmatch(entry.name)]
    except OSError:
        return []
    try:
        noted = (folder / state.STARTS).read_text(encoding="utf-8", errors="replace").split()
    except OSError:
        noted = []
    places = {name: place for place, name in enumerate(noted, 1)}
    return sorted(found, key=lambda entry: (places.get(entry.name, 0), entry.name))


def read_facts(folder: Path) -> Facts | None:
    """What our hook noted; None for a run without it, or before its first step."""
    try:
        return msgspec.json.decode((folder / state.FACTS).read_bytes(), type=Facts)
    except (OSError, msgspec.MsgspecError):
        return None


def _pieces(data: bytes) -> Iterator[bytes]:
    """Whole lines of `data`, some at a time."""
    start = 0
    while start < len(data):
        stop = data.find(b"\n", start + _PIECE) + 1 or len(data)
        yield data[start:stop]
        start = stop


def _points(lines: bytes) -> list[Point]:
    """The points in `lines`; what is none is left out."""
    try:
        return _decoder.decode_lines(lines)
    except msgspec.MsgspecError:
        found = map(_parse, lines.split(b"\n"))
        return [line for line in found if line is not None]


def _parse(raw: bytes) -> Point | None:
    try:
        return _decoder.decode(raw)
    except msgspec.MsgspecError:
        pass
    # NaN and Infinity are no JSON, but Python writes and reads them.
    try:
        values = json.loads(raw)
        numbers = {name: float(values[name]) for name in FIELDS if name in values}
        return Point(step=int(values["step"]), **numbers)
    except (ValueError, TypeError, KeyError):
        return None


def _last_step(start: Path) -> tuple[int, int] | None:
    """(step, steps) of the last step line in XTuner's own log of one start."""
    try:
        with (start / f"{start.name}.log").open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - 65536))
            found = _STEP.findall(file.read())
    except OSError:
        return None
    return (int(found[-1][0]), int(found[-1][1])) if found else None


def _last(values: array[float]) -> float | None:
    return values[-1] if values and math.isfinite(values[-1]) else None


def _pace(history: History) -> float | None:
    # Below 0: the trainer's clock was set back in the middle of a step.
    times = [value for value in history["time"][-_RECENT:] if 0 <= value < math.inf]
    return median(times) if times else None


def _tokens_per_second(history: History) -> float | None:
    """Tokens between the recent points by the time of the steps between them."""
    tokens, times, steps = history["tokens"], history["time"], history.step
    seen = seconds = 0.0
    for at in range(max(1, len(steps) - _RECENT), len(steps)):
        new = tokens[at] - tokens[at - 1]
        spent = times[at] * (steps[at] - steps[at - 1])
        if new >= 0 and spent > 0:
            seen += new
            seconds += spent
    return seen / seconds if seconds else None
