"""Adding, removing and renaming in a config's bytes, in the style that stands there."""

from __future__ import annotations

import ast
import re

from engine.config.text.document import Document, Member, is_dict_call
from engine.config.text.values import is_name, render

_COMMA = re.compile(rb"\s*,")
_REST = re.compile(rb"[ \t]*(#[^\r\n]*)?")


def newline(document: Document) -> bytes:
    """The line ending of the file."""
    first = document.data.find(b"\n")
    return b"\r\n" if first > 0 and document.data[first - 1 : first] == b"\r" else b"\n"


def with_member(document: Document, owner: ast.expr, key: str, code: str) -> bytes | None:
    """The bytes with ``key=code`` added to the dict `owner`; None when it cannot hold it."""
    if is_dict_call(owner) and is_name(key):
        return _inserted(document, owner, f"{key}={code}")
    if isinstance(owner, ast.Dict):
        return _inserted(document, owner, f"{render(key)}: {code}")
    return None


def _inserted(document: Document, owner: ast.expr, member: str) -> bytes:
    """The bytes with `member` as the last one of `owner`, on a line of its own if others are."""
    data = document.data
    start, end = document.span(owner)
    spans = _inside(document, owner)
    if not spans:
        return data[: end - 1] + member.encode() + data[end - 1 :]
    first, last = spans[0][0], spans[-1][1]
    comma = _COMMA.match(data, last)
    after = comma.end() if comma else last
    line_start = data.rfind(b"\n", 0, spans[-1][0]) + 1
    indent = _indent(data, line_start)
    if b"\n" not in data[start:first]:
        joint = b" " if comma else b", "
        return data[:after] + joint + member.encode() + data[after:]
    rest = _REST.match(data, after)
    assert rest is not None
    added = newline(document) + indent + member.encode()
    if comma:
        return data[: rest.end()] + added + b"," + data[rest.end() :]
    return data[:last] + b"," + data[last : rest.end()] + added + data[rest.end() :]


def _inside(document: Document, owner: ast.expr) -> list[tuple[int, int]]:
    """The spans of all that stands in a call or a dict, in order: ``*args`` and ``**more`` too."""
    found = []
    if isinstance(owner, ast.Call):
        found = [document.span(one) for one in owner.args]
        for one in owner.keywords:
            found.append(document.member_span(Member(one.value, one)))
    elif isinstance(owner, ast.Dict):
        for key, value in zip(owner.keys, owner.values, strict=True):
            found.append(document.member_span(Member(value, key)))
    return sorted(found)


def _indent(data: bytes, line_start: int) -> bytes:
    found = re.compile(rb"[ \t]*").match(data, line_start)
    assert found is not None
    return found[0]


def without_member(document: Document, owner: ast.expr, key: str) -> bytes:
    """The bytes without the member `key` of `owner`, and without its line if it fills it."""
    data = document.data
    start, end = document.member_span(document.children(owner)[key])
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


def renamed_member(document: Document, owner: ast.expr, key: str, name: str) -> bytes:
    """The bytes with the member `key` of `owner` called `name`."""
    member = document.children(owner)[key]
    start, end = document.label_span(member)
    new = name
    if isinstance(member.label, ast.expr):
        new = render(name, document.data[start:end].decode())
    return document.data[:start] + new.encode() + document.data[end:]


def renamed_variable(document: Document, old: str, new: str) -> bytes:
    """The bytes with every top-level assignment to `old` made to `new`."""
    data = document.data
    for one in reversed(document.assignments):
        if one.name == old:
            start, end = document.span(one.target)
            data = data[:start] + new.encode() + data[end:]
    return data


def with_statement(document: Document, statement: str) -> bytes:
    """The bytes with `statement` as their last line."""
    data = document.data
    if data and not data.endswith(b"\n"):
        data += newline(document)
    return data + statement.encode() + newline(document)


def without_statement(document: Document, statement: ast.stmt) -> bytes:
    """The bytes without `statement`, and without its line (or lines) where it is alone there."""
    data = document.data
    start, end = document.span(statement)
    if isinstance(statement, ast.Assign | ast.AnnAssign | ast.AugAssign) and statement.value:
        end = max(end, document.span(statement.value)[1])
    following = re.compile(rb"[ \t]*;[ \t]*(?=[^\s#])").match(data, end)
    if following:
        return data[:start] + data[following.end() :]
    line_start = data.rfind(b"\n", 0, start) + 1
    leading = data[line_start:start].rstrip()
    if leading.endswith(b";"):
        return data[: line_start + len(leading) - 1] + data[end:]
    line_end = data.find(b"\n", end)
    return data[:line_start] + (data[line_end + 1 :] if line_end >= 0 else b"")


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
