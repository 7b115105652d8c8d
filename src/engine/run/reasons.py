"""Why a run ended, in one sentence and a remedy: read from the end of its log.

XTuner's own ``.log`` holds no traceback, so what counts is the raw output. A
traceback of torchrun comes last there, but says nothing: the cause stands
above it, its lines marked ``[rank0]:``. What is looked for stands in `rules`.
"""

from __future__ import annotations

import re
import signal
from pathlib import Path
from typing import NamedTuple

from engine.i18n import _
from engine.run.log import ERROR, RANK
from engine.run.rules import RULES, SPOKEN
from engine.run.slurm import words
from engine.run.state import Cause
from engine.text import clean, one_line

TAIL = 256 * 1024
"""Bytes of the log that are looked at. torchrun and several ranks write long tracebacks."""
_LAST_LINES = 200
"""Lines in which a rule may match outside of a traceback."""


class Words(NamedTuple):
    """A cause as a person reads it."""

    reason: str
    todo: str


_BY_CODE = {rule.code: rule for rule in RULES} | SPOKEN | words.SPOKEN

# torchrun's own words about a worker's end; never the cause.
_LAUNCHER = re.compile(r"ChildFailedError|SignalException")


def tail(log: Path, start: int = 0) -> str:
    """The end of `log` (but nothing before byte `start`), cleaned, progress bars collapsed."""
    try:
        with log.open("rb") as file:
            end = file.seek(0, 2)
            file.seek(max(start, end - TAIL))
            text = file.read().decode("utf-8", errors="replace")
    except OSError:
        return ""
    lines = (line.rpartition("\r")[2] for line in text.replace("\r\n", "\n").split("\n"))
    return clean("\n".join(lines))


def find(text: str, status: int | None) -> Cause:
    """The cause of an end with exit `status` (minus N for signal N), from the log's end."""
    text = RANK.sub("", text)
    if status is not None and status < 0:
        named = _match([line for line in errors(text) if "Interrupt" not in line])
        return named if named is not None and status == -signal.SIGABRT else _signal(-status)
    ends = [line for line in errors(text) if not _LAUNCHER.search(line)]
    cause = _match(ends) or _match(text.splitlines()[-_LAST_LINES:])
    if cause is not None:
        return cause
    if ends:
        code = "interrupted" if ends[-1].startswith("KeyboardInterrupt") else "exception"
        return Cause(code, {} if code == "interrupted" else {"error": one_line(ends[-1])[:300]})
    launcher = re.search(r"SignalException: Process \d+ got signal: (\d+)", text)
    if launcher:
        return _signal(int(launcher[1]))
    if status is not None and status > 128:  # how a shell and srun tell of a signal
        return _signal(status - 128)
    return Cause("status", {"status": str(status)})


def errors(text: str) -> list[str]:
    """The lines that end a traceback in `text`, in order."""
    found = []
    inside = True  # the text may begin in the middle of one
    for line in text.splitlines():
        if line.startswith("Traceback (most recent call last)"):
            inside = True
        elif inside and line and not line[0].isspace():
            if ERROR.match(line):
                found.append(line)
            inside = False
    return found


def say(cause: Cause | None) -> Words:
    """`cause` in the language in use; empty words for none."""
    if cause is None:
        return Words("", "")
    rule = _BY_CODE.get(cause.code)
    if rule is None:
        return Words(cause.code, "")
    return Words(fill(rule.reason, cause.values), fill(rule.todo, cause.values))


def fill(sentence: str, values: dict[str, str]) -> str:
    """`sentence` of a table in the language in use, with `values`; "" stays empty."""
    return _(sentence).format_map(_Values(values)) if sentence else ""


class _Values(dict[str, str]):
    """The values of a sentence; one that is not known is a question mark."""

    def __missing__(self, name: str) -> str:
        return "?"


def _match(lines: list[str]) -> Cause | None:
    for rule in RULES:
        pattern = re.compile(rule.pattern)
        for line in reversed(lines):
            found = pattern.search(line)
            if found:
                values = {
                    name: one_line(text)[:300] for name, text in found.groupdict().items() if text
                }
                return Cause(rule.code, values)
    return None


def _signal(number: int) -> Cause:
    if number == signal.SIGINT:
        return Cause("interrupted")
    if number in (signal.SIGKILL, signal.SIGSEGV):
        return Cause(f"signal-{number}")
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = str(number)
    return Cause("signal", {"name": name})
