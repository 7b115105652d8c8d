"""Conversations as files: JSON Lines to go on with, Markdown to read.

The first line of a transcript says which models sit in the slots; then each
question and each answer is one line, appended as it comes, so that a crash
loses at most the answer that was being given. A torn last line is passed over.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from engine import files
from engine.chat.conversation import ROOT, Conversation, Node, Reply
from engine.errors import Problem
from engine.i18n import _

FORMAT = "tunedeck-chat-1"


class _Head(msgspec.Struct, tag="chat", tag_field="line"):
    format: str
    models: dict[str, str]
    system: str | None = None
    created: float = 0.0


class _Question(msgspec.Struct, tag="question", tag_field="line"):
    id: int
    follows: int
    question: str


class _Reply(msgspec.Struct, tag="answer", tag_field="line"):
    id: int
    slot: str
    reply: Reply


_Line = _Head | _Question | _Reply
_line: msgspec.json.Decoder[_Line] = msgspec.json.Decoder(_Line)


class Transcript:
    """The file that a conversation is written into while it goes on.

    Nothing is written before the first question.

    Args:
        folder: where it goes under a name of its own.
        path: the file, where somebody named one; it is gone on with if it is there.
    """

    def __init__(self, folder: Path, path: Path | None = None) -> None:
        self._folder = folder
        self.path = path
        self._begun = path is not None and path.exists()

    def question(self, talk: Conversation, node: Node) -> None:
        """Append a question."""
        if not self._begun:
            files.private_folder(self._folder)
            self.path = self.path or _new(self._folder)
            self._begun = True
            self._append(_Head(FORMAT, talk.models, talk.system, time.time()))
        self._append(_Question(node.id, node.follows, node.question))

    def reply(self, node: Node, slot: str, reply: Reply) -> None:
        """Append an answer."""
        if self._begun:
            self._append(_Reply(node.id, slot, reply))

    def _append(self, line: Any) -> None:
        assert self.path is not None
        files.append_json(self.path, line)


def resume(path: Path) -> tuple[Conversation, Transcript]:
    """A conversation read again, and its file, to go on with both."""
    return read(path), Transcript(path.parent, path)


def read(path: Path) -> Conversation:
    """The conversation in `path`; raises `Problem` when it is none."""
    what = _("Cannot read the conversation in {path}").format(path=path)
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise Problem(what, error.strerror or str(error)) from error
    found = [_decoded(line) for line in lines]
    head = found[0] if found else None
    if not isinstance(head, _Head) or head.format != FORMAT:
        raise Problem(
            what,
            _("It does not begin as our transcripts do."),
            _("Choose a .jsonl file that the Chat pane wrote."),
        )
    talk = Conversation(head.system, head.models)
    for line in found[1:]:
        if isinstance(line, _Question) and line.id == len(talk.nodes) and line.follows < line.id:
            talk.nodes.append(Node(line.id, max(line.follows, ROOT), line.question, {}))
            talk.at = line.id
        elif isinstance(line, _Reply) and 0 <= line.id < len(talk.nodes):
            talk.answered(talk.nodes[line.id], line.slot, line.reply)
    return talk


def listed(folder: Path) -> list[Path]:
    """The transcripts in `folder`, newest first."""
    return sorted(folder.glob("*.jsonl"), reverse=True)


def markdown(talk: Conversation) -> str:
    """The open branch, to read."""
    return "\n".join(_markdown(talk)) + "\n"


def _markdown(talk: Conversation) -> Iterator[str]:
    for slot, model in sorted(talk.models.items()):
        yield f"- {slot}: {model}"
    if talk.system:
        yield f"\n> {talk.system}"
    for node in talk.branch:
        yield f"\n## {node.question}"
        for slot in sorted(node.replies):
            reply = node.reply(slot)
            if reply is not None:
                yield f"\n**{slot}**\n\n{reply.text}"


def _decoded(line: bytes) -> _Line | None:
    try:
        return _line.decode(line)
    except msgspec.MsgspecError:
        return None


def _new(folder: Path) -> Path:
    """A name that no transcript has yet."""
    stem = time.strftime("%Y%m%d-%H%M%S")
    names = [f"{stem}.jsonl", *(f"{stem}-{number}.jsonl" for number in range(2, 100))]
    return next(folder / name for name in names if not (folder / name).exists())
