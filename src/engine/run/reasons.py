"""Why a run ended, in one sentence and a remedy: read from the end of its log.

XTuner's own ``.log`` holds no traceback, so what counts is the raw output. A
traceback of torchrun comes last there, but says nothing: the cause stands
above it, its lines marked ``[rank0]:``. What is looked for stands in `rules`.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Container
from pathlib import Path
from typing import NamedTuple

from engine.i18n import _
from engine.run import failures
from engine.run.ends import SPOKEN
from engine.run.rules import LOST, RULES
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

# torchrun ends the ranks that are left with SIGTERM; NCCL's watchdog and a C++ library that
# lost its partner abort.
_CONSEQUENCES = (signal.SIGTERM, signal.SIGABRT)
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
    """The cause of an end with exit `status` (minus N for signal N), from the log's end.

    Where several ranks failed, it is that of the first that failed by itself:
    lost connections and time-outs come last, as another rank's end makes them.
    The value ``rank`` names it.
    """
    raised = _raised(text)
    if status is not None and status < 0:
        named = _match(
            [line for one in raised if "Interrupt" not in one.error for line in _said(one)]
        )
        return named if named is not None and status == -signal.SIGABRT else _signal(-status)
    ended = failures.exits(text)
    several = len(failures.ranks(raised, ended)) > 1
    last = failures.bare(text).splitlines()[-_LAST_LINES:]
    lost: Cause | None = None
    for rank, ones in _by_rank(raised).items():
        cause = _match([line for one in ones for line in _said(one)])
        if cause is not None and cause.code in LOST:
            lost = lost or _of(rank, cause, several)
            continue
        return _of(rank, cause or _match(last, but=LOST) or _unknown(ones[-1].error), several)
    if (loose := _match(last, but=LOST)) is not None:
        return loose
    dead = [one for one in ended if one.code < 0]
    for one in dead:
        if -one.code not in _CONSEQUENCES:
            return _of(one.rank, _killed(one), several)
    if (hangs := failures.behind(text)) is not None:
        return Cause("nccl-behind", {"rank": str(hangs)})
    aborted = [_of(one.rank, _killed(one), several) for one in dead if one.code == -signal.SIGABRT]
    return lost or _match(last) or (aborted[0] if aborted else _unsaid(text, status))


def _raised(text: str) -> list[failures.Raised]:
    """The tracebacks of the ranks, not torchrun's own.

    Before a rank has joined the others torch does not mark its lines: the one that torchrun
    saw fail has written them, where that is one.
    """
    raised = [one for one in failures.tracebacks(text) if not _LAUNCHER.search(one.error)]
    failed = [one.rank for one in failures.exits(text) if one.code > 0]
    if len(failed) == 1 and all(one.rank is None for one in raised):
        return [one._replace(rank=failed[0]) for one in raised]
    return raised


def _by_rank(raised: list[failures.Raised]) -> dict[int | None, list[failures.Raised]]:
    """The tracebacks of each rank, the rank that failed first at the front."""
    found: dict[int | None, list[failures.Raised]] = {}
    for one in raised:
        found.setdefault(one.rank, []).append(one)
    return found


def _said(one: failures.Raised) -> list[str]:
    """The message of an error, line by line."""
    return [one.error, *one.more]


def _of(rank: int | None, cause: Cause, several: bool) -> Cause:
    """`cause`, with its rank where there are `several` to tell apart."""
    if rank is None or not several:
        return cause
    return Cause(cause.code, {**cause.values, "rank": str(rank)})


def _unknown(error: str) -> Cause:
    if error.startswith("KeyboardInterrupt"):
        return Cause("interrupted")
    return Cause("exception", {"error": one_line(error)[:300]})


def _killed(end: failures.Exit) -> Cause:
    if end.code == -signal.SIGKILL:
        return Cause("worker-killed", {"pid": str(end.pid)})
    return _signal(-end.code)


def _unsaid(text: str, status: int | None) -> Cause:
    """The cause where no error is named."""
    launcher = re.search(r"SignalException: Process \d+ got signal: (\d+)", text)
    if launcher:
        return _signal(int(launcher[1]))
    if status is not None and status > 128:  # how a shell and srun tell of a signal
        return _signal(status - 128)
    return Cause("status", {"status": str(status)})


def traceback(text: str, cause: Cause) -> list[str]:
    """The traceback of the rank that `cause` names; [] when it names none, or none is there."""
    rank = cause.values.get("rank")
    found = [one for one in _raised(text) if rank == str(one.rank)]
    return found[-1].lines if found else []


def say(cause: Cause | None) -> Words:
    """`cause` in the language in use; empty words for none."""
    if cause is None:
        return Words("", "")
    rule = _BY_CODE.get(cause.code)
    if rule is None:
        return Words(cause.code, "")
    reason = fill(rule.reason, cause.values)
    if rank := cause.values.get("rank"):
        reason = _("Rank {rank}: {reason}").format(rank=rank, reason=reason)
    return Words(reason, fill(rule.todo, cause.values))


def fill(sentence: str, values: dict[str, str]) -> str:
    """`sentence` of a table in the language in use, with `values`; "" stays empty."""
    return _(sentence).format_map(_Values(values)) if sentence else ""


class _Values(dict[str, str]):
    """The values of a sentence; one that is not known is a question mark."""

    def __missing__(self, name: str) -> str:
        return "?"


def _match(lines: list[str], but: Container[str] = ()) -> Cause | None:
    for rule in RULES:
        if rule.code in but:
            continue
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
