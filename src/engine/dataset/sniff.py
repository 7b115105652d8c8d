"""Tell a file's format from its first bytes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

from engine.dataset.scan import ArrayScanner, LinesScanner, Scanner
from engine.errors import Problem
from engine.i18n import N_, _

HEAD = 1 << 16
BOM = b"\xef\xbb\xbf"
_SPACE = b" \t\r\n"
_OTHERS = {
    b"\x1f\x8b": N_("It is compressed (gzip)."),
    b"\x28\xb5\x2f\xfd": N_("It is compressed (zstd)."),
    b"PK\x03\x04": N_("It is a zip file."),
    b"PAR1": N_("It is a Parquet file."),
    b"ARROW1": N_("It is an Arrow file."),
    b"\xff\xfe": N_("It is written in UTF-16."),
    b"\xfe\xff": N_("It is written in UTF-16."),
}


class Found(NamedTuple):
    """A format's name, the scanner for it, and the offset of the first byte it wants."""

    format: str
    scanner: Scanner
    start: int


def sniff(path: Path, head: bytes) -> Found:
    """The format of the file that begins with `head` (`HEAD` bytes of it).

    Raises `Problem` when it is none that can be read.
    """
    what = _("Cannot read {path}").format(path=path)
    todo = _("Give a JSON array or JSON Lines file in UTF-8.")
    for magic, why in _OTHERS.items():
        if head.startswith(magic):
            raise Problem(what, _(why), todo)
    start = len(BOM) if head.startswith(BOM) else 0
    text = head[start:].lstrip(_SPACE)
    begin = len(head) - len(text)
    if not text:
        if len(head) < HEAD:
            raise Problem(what, _("The file is empty."), todo)
        raise Problem(what, _("It begins with nothing but spaces."), todo)
    lines = path.suffix.lower() in (".jsonl", ".ndjson")
    if text.startswith(b"[") and not (lines and _array_lines(text)):
        return Found("json", ArrayScanner(begin), begin)
    if not text.startswith(b"{") and not lines:
        line = head.count(b"\n", 0, begin) + 1
        why = _("Line {line}, column {column}: neither [ nor {{ stands there.").format(
            line=line, column=begin - max(head.rfind(b"\n", 0, begin) + 1, start) + 1
        )
        raise Problem(what, why, todo)
    if text.startswith(b"{") and _one_object(text):
        raise Problem(
            what,
            _("It holds one object that goes over several lines, not rows."),
            _("Give an array of objects, or one object on each line."),
        )
    return Found("jsonl", LinesScanner(start), start)


def _array_lines(text: bytes) -> bool:
    """Whether `text`, which begins with ``[``, has more lines behind a whole array."""
    line, _newline, rest = text.partition(b"\n")
    try:
        json.loads(line)
    except ValueError:
        return False
    return bool(rest.strip(_SPACE))


def _one_object(text: bytes) -> bool:
    """Whether `text`, which begins with ``{``, is an object spread over lines."""
    lines = text.split(b"\n", 2)
    if len(lines) < 2 or not lines[1].strip(_SPACE):
        return False
    try:
        json.loads(lines[0])
        return False
    except ValueError:
        pass
    # A broken first row of JSON Lines is followed by another row, not by a name.
    return lines[1].lstrip(_SPACE)[:1] not in (b"{", b"[")
