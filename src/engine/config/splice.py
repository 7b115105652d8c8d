"""Adding, removing and renaming in a config's bytes, in the style that stands there."""

from __future__ import annotations

import re
from collections.abc import Sequence

import libcst as cst

from engine.config.document import Document, is_dict_call
from engine.config.values import is_name, render

_COMMA = re.compile(rb"\s*,")
_REST = re.compile(rb"[ \t]*(#[^\r\n]*)?")


def newline(document: Document) -> bytes:
    """The line ending of the file."""
    first = document.data.find(b"\n")
    return b"\r\n" if first > 0 and document.data[first - 1 : first] == b"\r" else b"\n"


def with_member(document: Document, owner: cst.BaseExpression, key: str, code: str) -> bytes | None:
    """The bytes with ``key=code`` added to the dict `owner`; None when it cannot hold it."""
    if is_dict_call(owner) and is_name(key):
        assert isinstance(owner, cst.Call)
        return _inserted(document, owner, owner.args, f"{key}={code}")
    if isinstance(owner, cst.Dict):
        return _inserted(document, owner, owner.elements, f"{render(key)}: {code}")
    return None


def _inserted(
    document: Document,
    owner: cst.BaseExpression,
    members: Sequence[cst.CSTNode],
    member: str,
) -> bytes:
    data = document.data
    start, end = document.span(owner)
    if not members:
        return data[: end - 1] + member.encode() + data[end - 1 :]
    first, last = document.span(members[0])[0], document.span(members[-1])[1]
    comma = _COMMA.match(data, last)
    after = comma.end() if comma else last
    line_start = data.rfind(b"\n", 0, document.span(members[-1])[0]) + 1
    indent = _indent(data, line_start)
    if b"\n" not in data[start:first]:
        joint = b" " if comma else b", "
        return data[:after] + joint + member.encode() + data[after:]
    rest = _REST.match(data, after)
    assert rest is not None
    if comma:
        added = newline(document) + indent + member.encode() + b","
        return data[: rest.end()] + added + data[rest.end() :]
    added = newline(document) + indent + member.encode()
    return data[:last] + b"," + data[last : rest.end()] + added + data[rest.end() :]


def _indent(data: bytes, line_start: int) -> bytes:
    found = re.compile(rb"[ \t]*").match(data, line_start)
    assert found is not None
    return found[0]


def without_member(document: Document, owner: cst.BaseExpression, key: str) -> bytes:
    """The bytes without the member `key` of `owner`, and without its line if it fills it."""
    data = document.data
    start, end = document.span(document.children(owner)[key])
    comma = _COMMA.match(data, end)
    after = comma.end() if comma else end
    line_start = data.rfind(b"\n", 0, start) + 1
    rest = _REST.match(data, after)
    assert rest is not None
    line_end = data.find(b"\n", rest.end())
    alone = not data[line_start:start].strip() and not data[rest.end() : line_end].strip(b"\r")
    if alone and line_end >= 0:
        return data[:line_start] + data[line_end + 1 :]
    before = data[:start].rstrip()
    if before.endswith(b","):
        kept_comma = b"" if not comma else b","
        return before[:-1] + kept_comma + data[after:]
    return data[:start] + data[after:].lstrip(b" ")


def renamed_member(document: Document, owner: cst.BaseExpression, key: str, name: str) -> bytes:
    """The bytes with the member `key` of `owner` called `name`."""
    member = document.children(owner)[key]
    label = member.keyword if isinstance(member, cst.Arg) else getattr(member, "key", None)
    assert label is not None
    start, end = document.span(label)
    new = name if isinstance(label, cst.Name) else render(name, document.code(label))
    return document.data[:start] + new.encode() + document.data[end:]


def renamed_variable(document: Document, old: str, new: str) -> bytes:
    """The bytes with every top-level assignment to `old` made to `new`."""
    spans = []
    for one in document.assignments:
        if one.name == old:
            start = document.span(one.statement)[0]
            spans.append((start, start + len(old.encode())))
    data = document.data
    for start, end in reversed(spans):
        data = data[:start] + new.encode() + data[end:]
    return data


def with_statement(document: Document, statement: str) -> bytes:
    """The bytes with `statement` as their last line."""
    data = document.data
    if data and not data.endswith(b"\n"):
        data += newline(document)
    return data + statement.encode() + newline(document)


def without_statement(document: Document, statement: cst.SimpleStatementLine) -> bytes:
    """The bytes without the line (or lines) of `statement`."""
    start, end = document.span(statement)
    line_end = document.data.find(b"\n", end)
    return document.data[:start] + (document.data[line_end + 1 :] if line_end >= 0 else b"")


def with_import(document: Document, statement: str) -> bytes:
    """The bytes with an import after the last one (or at the top)."""
    last = document.last_import()
    line = statement.encode() + newline(document)
    if last is None:
        return line + document.data
    end = document.data.find(b"\n", document.span(last)[1])
    if end < 0:
        return document.data + newline(document) + line
    return document.data[: end + 1] + line + document.data[end + 1 :]
