"""How bad a line of a training log is, told from its text."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Literal

Level = Literal["", "info", "warning", "error"]

# What torchrun, and Slurm's srun --label, put before each line.
_RANK = r"(?:\[[a-z]*\d+\]:(?: |(?! ))| {0,4}\d{1,4}: )?"
RANK = re.compile(r"\[[a-z]*(\d+)\]: ?| {0,4}(\d{1,4}): ")
HEAD = re.compile(
    rf"{_RANK}(?:\S+ \S+ - \S+ - (?P<mmengine>[A-Z]+) - "
    r"|\[[^\]]*\] (?:\S+ )?\[(?P<deepspeed>[A-Z]+)\] )"
)
"""Date, logger and level before the message, as mmengine and DeepSpeed write them."""
_BARE = re.compile(
    rf"{_RANK}(?:(?P<error>Traceback \(most recent|E\d{{4}} |\[[EF]\d{{3,4}} "
    r"|(?:ERROR|CRITICAL|FATAL)\b"
    r"|[\w.]*(?:Error|Exception|Interrupt)(?::|$)|Killed\b|Segmentation fault\b)"
    r"|(?P<warning>W\d{4} |\[W\d{3,4} |WARNING\b|[\w.]*Warning: |[^\s:]+:\d+: [\w.]*Warning: )"
    r"|(?P<info>I\d{4} |\[I\d{3,4} |(?:INFO|DEBUG)\b))"
)
_NAMES: dict[str, Level] = {
    "DEBUG": "info",
    "INFO": "info",
    "WARNING": "warning",
    "WARN": "warning",
    "ERROR": "error",
    "CRITICAL": "error",
    "FATAL": "error",
}
# A traceback is a block: what stands in it is indented, and its last line,
# the exception, is told by its own words.
TRACEBACK = re.compile(rf"{_RANK}Traceback \(most recent")
INNER = re.compile(rf"{_RANK}(?:\s|$)")
_LONGEST_BLOCK = 200
_LAST = re.compile(rf"{_RANK}Last error:$")
"""Above the line in which NCCL says what went wrong, which bears no mark of its own."""
_BETWEEN = 8
"""Lines of other ranks that may come between these two."""


def level(line: str) -> Level:
    """The level that `line` names itself; "" if it names none."""
    if head := HEAD.match(line):
        return _NAMES.get(head["mmengine"] or head["deepspeed"], "")
    found = _BARE.match(line)
    if not found:
        return ""
    return "error" if found["error"] else "warning" if found["warning"] else "info"


def level_at(index: int, line: Callable[[int], str], first: int = 0) -> Level:
    """The level of line `index`, where the indented lines of a traceback are errors too.

    Args:
        index: which line.
        line: gives the text of a line.
        first: the earliest line there is.
    """
    text = line(index)
    mark = _mark(text)
    inner = INNER.match(text) is not None
    found = "" if inner else level(text)
    if found or _LAST.match(text):
        return found or "error"
    for before in range(index - 1, max(first, index - _LONGEST_BLOCK) - 1, -1):
        above = line(before)
        if _mark(above) != mark:  # another rank's line between ours
            if not inner and index - before > _BETWEEN:
                break
        elif not inner:
            return "error" if _LAST.match(above) else ""
        elif not INNER.match(above):
            return "error" if TRACEBACK.match(above) else ""
    return ""


def _mark(line: str) -> str:
    """What names the rank before `line`; "" where nothing does."""
    found = RANK.match(line)
    return found[0].rstrip() if found else ""
