"""Who failed in a log that several processes wrote: tracebacks by rank, torchrun's summary.

When one rank dies, the others lose their connection to it and say so at
length. Their tracebacks are consequences, told apart here by their rank:
torch marks lines with ``[rank1]:``, torchrun with ``[default1]:``, and
``srun --label`` puts the task's number before them.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from engine.run.log import ERROR

_MARKS = re.compile(r"(?: {0,4}(?P<task>\d{1,4}): )?(?:\[[a-z]+(?P<rank>\d+)\]: ?)?")
_HEAD = re.compile(r"(?:Original )?Traceback \(most recent call last\)")
_EXIT = re.compile(
    r"rank\s*: (?P<rank>\d+) \(local_rank: \d+\)\s+"
    r"exitcode\s*: (?P<code>-?\d+) \(pid: (?P<pid>\d+)\)"
)
_ELASTIC = "torch/distributed/elastic"
_MARKED = re.compile(r"^(?: {0,4}\d{1,4}: )?\[rank(\d+)\]:", re.MULTILINE)
_WAITED = re.compile(r"Rank (\d+)\] ?Watchdog caught collective operation timeout")
"""NCCL's watchdog, about a rank that it looks after."""
_MORE = 6
"""Lines after NCCL's error at most; torch may write the stack of C++ behind them."""


class Raised(NamedTuple):
    """One traceback."""

    rank: int | None
    """Who raised it; None where the log does not say."""
    error: str
    """The line that names the error."""
    more: list[str]
    """The other lines of its message (see `goes_on`), without the marks."""
    lines: list[str]
    """All of it, as it stands in the log."""


class Exit(NamedTuple):
    """How a rank ended, as torchrun's summary tells."""

    rank: int
    code: int
    """The exit status; minus the number of a signal."""
    pid: int


_Who = tuple[str | None, int | None]
"""A task and a rank."""


def split(line: str, elastic: bool = False) -> tuple[_Who, str]:
    """The task and the rank that `line` is marked with, and the line without the marks.

    elastic: whether torchrun runs there; a task is then a node. Else it is a rank.
    """
    found = _MARKS.match(line)
    if found is None:
        return (None, None), line
    task, rank = found["task"], found["rank"]
    if rank is None and not elastic:
        rank = task
    return (task, None if rank is None else int(rank)), line[found.end() :]


def bare(text: str) -> str:
    """`text` without the marks."""
    return "\n".join(split(line)[1] for line in text.splitlines())


def tracebacks(text: str) -> list[Raised]:
    """The tracebacks in `text`, in the order of their ends; those of several ranks may mix."""
    elastic = _ELASTIC in text
    found: list[Raised] = []
    open_blocks: dict[_Who, list[str]] = {}
    named: dict[_Who, Raised] = {}
    first = True  # the text may begin in the middle of one
    for line in text.splitlines():
        who, said = split(line, elastic)
        if _HEAD.match(said):
            open_blocks[who] = [line]
            named.pop(who, None)
        elif who in open_blocks or first:
            block = open_blocks.setdefault(who, [])
            block.append(line)
            if said and not said[0].isspace():
                if ERROR.match(said):
                    found.append(Raised(who[1], said, [], block))
                    named[who] = found[-1]
                del open_blocks[who]
        elif (one := named.get(who)) is not None and goes_on(one.error, one.more):
            one.more.append(said)
            one.lines.append(line)
        first = first and not said[:1].strip()
    return found


def goes_on(error: str, more: list[str]) -> bool:
    """Whether the message of `error` has another line after `more`.

    Of NCCL's errors only the last line says what went wrong; others are as well told by
    their first one, and nothing tells where they end.
    """
    over = len(more) > 1 and more[-2].strip() == "Last error:"
    return "NCCL error in:" in error and len(more) < _MORE and not over


def exits(text: str) -> list[Exit]:
    """The ends in torchrun's summaries, that which it saw first at the front."""
    plain = bare(text)
    ends = [Exit(*map(int, found.groups())) for found in _EXIT.finditer(plain)]
    root = plain.find("Root Cause (first observed failure)")
    known = _EXIT.search(plain, root) if root >= 0 else None
    if known is None:
        return ends
    first = Exit(*map(int, known.groups()))
    return [first, *(end for end in ends if end != first)]


def behind(text: str) -> int | None:
    """The rank that all others waited for until NCCL's time-out; None where that is not clear."""
    waited = set(_WAITED.findall(text))
    seen = {*_MARKED.findall(text), *(str(one.rank) for one in exits(text))}
    others = seen - waited
    return int(others.pop()) if waited and len(others) == 1 else None


def ranks(raised: list[Raised], ended: list[Exit]) -> set[int]:
    """The ranks that were told apart."""
    named = {one.rank for one in raised if one.rank is not None}
    return named | {one.rank for one in ended}
