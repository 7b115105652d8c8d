"""A conversation with one model or several, which may branch: nothing that was said is lost.

Each question is a node that follows another one. To edit a question, or to go
back and ask something else, makes a sibling; the old branch stays. Asking
again adds another answer to the same node, and the newest one counts.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from engine.chat.answer import Answer
from engine.text import whole

ROOT = -1
"""What the first questions follow."""


class Reply(msgspec.Struct, frozen=True, omit_defaults=True):
    """One answer, as far as it is kept (times in seconds)."""

    text: str
    tokens: int = 0
    first_token_s: float = 0.0
    tokens_per_s: float = 0.0
    ended: str = ""
    dropped: int = 0

    @classmethod
    def of(cls, answer: Answer) -> Reply:
        """What is kept of `answer`."""
        return cls(**{name: getattr(answer, name) for name in cls.__struct_fields__})


class Node(msgspec.Struct):
    """A question, what it follows, and the answers of each slot, oldest first."""

    id: int
    follows: int
    question: str
    replies: dict[str, list[Reply]] = {}

    def reply(self, slot: str) -> Reply | None:
        """The answer of `slot` that counts."""
        found = self.replies.get(slot)
        return found[-1] if found else None


class Conversation:
    """Questions and answers as a tree, and the branch that is open.

    `system` None leaves the system text to the models. `models` says in words
    what sits in each slot.
    """

    def __init__(self, system: str | None = None, models: dict[str, str] | None = None) -> None:
        self.system = system
        self.models = dict(models or {})
        self.nodes: list[Node] = []
        self.at = ROOT
        """The id of the last question of the open branch."""

    @property
    def branch(self) -> list[Node]:
        """The open branch, from its first question to its last."""
        found = []
        at = self.at
        while at != ROOT:
            found.append(self.nodes[at])
            at = self.nodes[at].follows
        return found[::-1]

    @property
    def last(self) -> Node | None:
        """The last question of the open branch."""
        return None if self.at == ROOT else self.nodes[self.at]

    def ask(self, question: str) -> Node:
        """Go on in the open branch."""
        node = Node(len(self.nodes), self.at, whole(question), {})
        self.nodes.append(node)
        self.at = node.id
        return node

    def undo(self) -> Node | None:
        """Go back to before the last question; its branch stays. Returns what was left."""
        node = self.last
        if node is not None:
            self.at = node.follows
        return node

    def edit(self, question: str) -> Node:
        """Ask `question` in place of the last one, on a branch of its own."""
        self.undo()
        return self.ask(question)

    def answered(self, node: Node, slot: str, reply: Reply) -> None:
        """Keep an answer."""
        node.replies.setdefault(slot, []).append(reply)

    def siblings(self) -> list[Node]:
        """The questions that stand in the last one's place, itself too, oldest first."""
        last = self.last
        if last is None:
            return []
        return [node for node in self.nodes if node.follows == last.follows]

    def turn_to(self, step: int) -> bool:
        """Open the branch `step` further among the `siblings`, to its newest end."""
        siblings = self.siblings()
        if len(siblings) < 2:
            return False
        at = siblings.index(self.nodes[self.at])
        self.at = self._newest_end(siblings[(at + step) % len(siblings)]).id
        return True

    def messages(self, slot: str) -> list[dict[str, str]]:
        """The open branch as `slot` has to be asked: its own answers between the questions.

        A question that the slot never answered (it came later, or failed) is left out,
        but for the last one.
        """
        talk = [] if self.system is None else [{"role": "system", "content": self.system}]
        for node in self.branch:
            reply = node.reply(slot)
            if reply is not None and node.id != self.at:
                talk.append({"role": "user", "content": node.question})
                talk.append({"role": "assistant", "content": reply.text})
        last = self.last
        if last is not None:
            talk.append({"role": "user", "content": last.question})
        return talk

    def questions(self) -> Iterator[str]:
        """Every question, newest first, each once: what the arrow key brings back."""
        return iter(dict.fromkeys(node.question for node in reversed(self.nodes)))

    def _newest_end(self, node: Node) -> Node:
        """Down from `node` along the newest follower of each."""
        while True:
            after = [one for one in self.nodes if one.follows == node.id]
            if not after:
                return node
            node = after[-1]
