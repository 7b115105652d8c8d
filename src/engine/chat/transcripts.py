"""Conversations as files: JSON Lines to go on with, Markdown to read.

The first line of a transcript says which models sit in the slots; then each
question and each answer is one line, appended as it comes, so that a crash
loses at most the answer that was being given. A torn line is passed over: behind it
stands the whole one, as soon as there is room.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

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

    Nothing is written before the first question. What cannot be written (a full disk)
    is kept, and written with what comes next.

    Args:
        folder: where it goes under a name of its own.
        path: the file, where somebody named one; it is gone on with if it is there.
    """

    def __init__(self, folder: Path, path: Path | None = None) -> None:
        self._folder = folder
        self.path = path
        self._begun = path is not None and begun(path)
        self._unwritten: list[_Line] = []

    def question(self, talk: Conversation, node: Node) -> None:
        """Append a question. Raises `Problem` when it cannot be written now."""
        if not self._begun:
            self._begun = True
            self._unwritten.append(_Head(FORMAT, talk.models, talk.system, time.time()))
        self._unwritten.append(_Question(node.id, node.follows, node.question))
        self.write()

    def reply(self, node: Node, slot: str, reply: Reply) -> None:
        """Append an answer. Raises `Problem` when it cannot be written now."""
        if self._begun:
            self._unwritten.append(_Reply(node.id, slot, reply))
            self.write()

    def write(self) -> None:
        """Write what could not be written so far. Raises `Problem` when it still cannot be."""
        if self._unwritten:
            with files.in_words(_("The conversation is not being written down")):
                files.private_folder(self._folder)
                self.path = self.path or _new(self._folder)
                while self._unwritten:
                    files.append_json(self.path, self._unwritten[0])
                    del self._unwritten[0]


def begun(path: Path) -> bool:
    """Whether something stands in `path`: a full disk leaves an empty file."""
    return path.exists() and path.stat().st_size > 0


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
    found = [line for line in map(_decoded, lines) if line is not None]
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
