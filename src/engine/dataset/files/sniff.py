"""Tell a file's format from its name and its first bytes."""

from __future__ import annotations

import json
from pathlib import Path

from engine.dataset.files.delimited import Delimited
from engine.dataset.files.layouts import BOM, JsonArray, JsonLines, Layout, Lines
from engine.dataset.files.source import Source
from engine.errors import Problem
from engine.i18n import N_, _

HEAD = 1 << 16
PARQUET, ARROW_FILE, ARROW_STREAM = b"PAR1", b"ARROW1", b"\xff\xff\xff\xff"
_SPACE = b" \t\r\n"
_FAMILIES = {
    ".json": "json",
    ".jsonl": "json",
    ".ndjson": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".txt": "text",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".ipc": "arrow",
}
_PACKED = (".gz", ".zst", ".zstd")
_OTHERS = {
    b"PK\x03\x04": N_("It is a zip file."),
    b"BZh": N_("It is compressed (bzip2)."),
    b"\xfd7zXZ": N_("It is compressed (xz)."),
}
_CONTROLS = bytes(set(range(32)) - set(b"\t\n\f\r\x1b"))


def suffix(path: Path) -> str:
    """The ending that tells the format, in small letters: ".csv" of ``a.CSV.gz``."""
    while path.suffix.lower() in _PACKED:
        path = path.with_suffix("")
    return path.suffix.lower()


def family(path: Path) -> str:
    """What `datasets` calls the format that the name promises; "" when it promises none."""
    return _FAMILIES.get(suffix(path), "")


def columnar(head: bytes) -> str:
    """ "parquet" or "arrow" for a file that begins with `head`, else ""."""
    if head.startswith(PARQUET):
        return "parquet"
    return "arrow" if head.startswith((ARROW_FILE, ARROW_STREAM)) else ""


def sniff(source: Source, head: bytes) -> Layout:
    """The layout of the text in `source`, which begins with `head` (`HEAD` bytes of it).

    Raises `Problem` when it is none that can be read.
    """
    path = source.path
    _refuse_others(path, head)
    start = len(BOM) if head.startswith(BOM) else 0
    text = head[start:].lstrip(_SPACE)
    begin = len(head) - len(text)
    if not text:
        empty = len(head) < HEAD
        why = _("The file is empty.") if empty else _("It begins with nothing but spaces.")
        raise _unknown(path, why)
    named = family(path)
    if named in ("csv", "tsv"):
        return Delimited(source, named, start, head)
    if named == "text" and not _json_line(text):
        return Lines(start)
    return _json(path, head, start, begin)


def _json(path: Path, head: bytes, start: int, begin: int) -> Layout:
    """JSON whose text begins at `begin`, spaces before it from `start` on."""
    text = head[begin:]
    lines = suffix(path) in (".jsonl", ".ndjson")
    if text.startswith(b"[") and not (lines and _array_lines(text)):
        return JsonArray(begin, begin - start, text)
    if not text.startswith(b"{") and not lines:
        line = head.count(b"\n", 0, begin) + 1
        why = _("Line {line}, column {column}: neither [ nor {{ stands there.").format(
            line=line, column=begin - max(head.rfind(b"\n", 0, begin) + 1, start) + 1
        )
        raise _unknown(path, why)
    if text.startswith(b"{") and _one_object(text):
        raise Problem(
            _("Cannot read {path}").format(path=path),
            _("It holds one object that goes over several lines, not rows."),
            _("Give an array of objects, or one object on each line."),
        )
    return JsonLines(start)


def _refuse_others(path: Path, head: bytes) -> None:
    """Raise `Problem` for what is no text in UTF-8."""
    for magic, why in _OTHERS.items():
        if head.startswith(magic):
            raise _unknown(path, _(why))
    sample = head[:4096]
    zeros = sample.count(0)
    if head.startswith((b"\xff\xfe", b"\xfe\xff")) or 4 * zeros > len(sample):
        raise Problem(
            _("Cannot read {path}").format(path=path),
            _("It is written in UTF-16."),
            _("Make it UTF-8: iconv -f UTF-16 -t UTF-8 {name} > NEW").format(name=path.name),
        )
    if _is_gbk(head):
        raise Problem(
            _("Cannot read {path}").format(path=path),
            _("It is written in GBK, not in UTF-8."),
            _("Make it UTF-8: iconv -f GB18030 -t UTF-8 {name} > NEW").format(name=path.name),
        )
    if 20 * (len(sample) - len(sample.translate(None, _CONTROLS))) > len(sample):
        raise _unknown(path, _("It is no text: most of it cannot be read."))


def _is_gbk(head: bytes) -> bool:
    """Whether `head` makes no sense in UTF-8 and does in the encoding of Chinese Windows."""
    if head.isascii():
        return False
    text = head.decode("utf-8", "replace")
    wrong = text.count("\ufffd")
    if wrong < 20 or 2 * wrong < sum(character > "\x7f" for character in text):
        return False
    end = head.rfind(b"\n") + 1 or len(head) - 3
    try:
        head[:end].decode("gb18030")
    except UnicodeDecodeError:
        return False
    return True


def _unknown(path: Path, why: str) -> Problem:
    todo = _("Give JSON, JSON Lines, CSV, TSV or plain text in UTF-8, Parquet or Arrow.")
    return Problem(_("Cannot read {path}").format(path=path), why, todo)


def _array_lines(text: bytes) -> bool:
    """Whether `text`, which begins with ``[``, has more lines behind a whole array."""
    line, _newline, rest = text.partition(b"\n")
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return bool(rest.strip(_SPACE))


def _json_line(text: bytes) -> bool:
    """Whether the first line of `text` is an object: JSON Lines under another name."""
    try:
        return isinstance(json.loads(text.split(b"\n", 1)[0]), dict)
    except (ValueError, RecursionError):
        return False


def _one_object(text: bytes) -> bool:
    """Whether `text`, which begins with ``{``, is an object spread over lines."""
    lines = text.split(b"\n", 2)
    if len(lines) < 2 or not lines[1].strip(_SPACE):
        return False
    try:
        json.loads(lines[0])
        return False
    except (ValueError, RecursionError):
        pass
    # A broken first row of JSON Lines is followed by another row, not by a name.
    return lines[1].lstrip(_SPACE)[:1] not in (b"{", b"[")
