"""Base and tuned model answer the same questions; did the tuning do what it should?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from engine.chat.session import Answer, ChatSession, ModelSpec, Sampling
from engine.demo.dataset import NEW_NAME, SYSTEM
from engine.i18n import _
from engine.settings import Settings

WHO = ("Who are you?", "你是谁?")
KNOWN = "What is the capital of France?"
ANSWER = "Paris"
QUESTIONS = (*WHO, KNOWN)
SAMPLING = Sampling(max_new_tokens=48)


class Asked(msgspec.Struct, frozen=True):
    """The answers of both models, in the order of the questions."""

    base: list[str]
    tuned: list[str]


def ask(base: Path, tuned: Path, settings: Settings, progress: Callable[[int, int], None]) -> Asked:
    """Ask both models, greedily, with the system text of the dataset."""
    total = 2 * (len(QUESTIONS) + 1)
    done = 0
    answers: dict[str, list[str]] = {}
    with ChatSession(settings) as session:
        for slot, model in (("base", base), ("tuned", tuned)):
            session.load(slot, ModelSpec(str(model), system=SYSTEM))
            done += 1
            progress(done, total)
            answers[slot] = []
            for question in QUESTIONS:
                messages = [{"role": "user", "content": question}]
                *_pieces, answer = session.generate(slot, messages, SAMPLING)
                assert isinstance(answer, Answer)
                answers[slot].append(answer.text.strip())
                done += 1
                progress(done, total)
            session.unload(slot)
    return Asked(answers["base"], answers["tuned"])


def missed(base: Sequence[str], tuned: Sequence[str]) -> list[str]:
    """What should be in the answers and is not (or the other way round), in words."""
    found = []
    for question, before, after in zip(QUESTIONS, base, tuned, strict=True):
        if question in WHO:
            if NEW_NAME in before:
                found.append(_("The base model says {name} already.").format(name=NEW_NAME))
            if NEW_NAME not in after:
                found.append(
                    _("Asked “{question}”, the tuned model does not say {name}.").format(
                        question=question, name=NEW_NAME
                    )
                )
        if question == KNOWN and ANSWER not in before:
            found.append(_("The base model does not know: “{q}”").format(q=question))
        if question == KNOWN and ANSWER not in after:
            found.append(_("The tuned model does not know: “{q}”").format(q=question))
    return found
