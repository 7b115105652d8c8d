"""From a conversation to token ids, as XTuner built them in training. Inside the worker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from engine.assignments import Reference
from engine.chat import templates
from engine.errors import Failed, Problem
from engine.i18n import _

Message = Mapping[str, str]
"""``{"role": "system" | "user" | "assistant", "content": "…"}``."""


class Prompter:
    """Builds prompts for one model.

    Args:
        tokenizer: the model's.
        template: one of XTuner's templates (its dict), or None for the
            tokenizer's own chat template.
    """

    def __init__(self, tokenizer: Any, template: Mapping[str, Any] | None) -> None:
        self.tokenizer = tokenizer
        self.template = template

    @property
    def stop_words(self) -> list[str]:
        """Words that end an answer, beside the end token."""
        words = list((self.template or {}).get("STOP_WORDS") or [])
        suffix = (self.template or {}).get("SUFFIX")
        return [*words, suffix] if suffix and suffix not in words else words

    def ids(self, messages: Sequence[Message]) -> list[int]:
        """The token ids up to where the answer begins."""
        if self.template is None:
            try:
                text = self.tokenizer.apply_chat_template(
                    list(messages), tokenize=False, add_generation_prompt=True
                )
            except Exception as error:  # a template is a program: it may refuse, or be wrong
                raise Failed(
                    _("This model's own chat template cannot be used"),
                    f"{type(error).__name__}: {error}",
                    _("Correct the chat_template in its tokenizer's files."),
                    ways=("template",),
                ) from error
            return list(self.tokenizer.encode(text, add_special_tokens=False))
        return self._by_xtuner(self.template, *_turns(messages))

    def _by_xtuner(
        self, template: Mapping[str, Any], system: str, turns: list[tuple[str, str]]
    ) -> list[int]:
        """What XTuner's own chat builds; after an answer, what its training put there."""
        head = template.get("SYSTEM", "{system}\n").format(system=system) if system else ""
        begin = self._begin()
        after_answer = [] if template.get("SUFFIX_AS_EOS") else self._token("eos_token_id")
        ids: list[int] = []
        for number, (question, answer) in enumerate(turns, start=1):
            if number == 1 or after_answer:
                ids += begin
            text = template["INSTRUCTION"].format(input=question, round=number)
            ids += self._plain(head + text if number == 1 else text)
            if number < len(turns):
                ids += self._plain(answer + (template.get("SUFFIX") or "")) + after_answer
                ids += self._plain(template.get("SEP") or "")
        return ids

    def _plain(self, text: str) -> list[int]:
        return list(self.tokenizer.encode(text, add_special_tokens=False)) if text else []

    def _token(self, name: str) -> list[int]:
        value = getattr(self.tokenizer, name)
        return [] if value is None else [value]

    def _begin(self) -> list[int]:
        """The begin token, where the tokenizer itself puts one in front of a text.

        XTuner's chat asks the tokenizer in the same way. (Its training puts
        the token there always; a model whose tokenizer does not was never
        asked like that.)
        """
        begin = self._token("bos_token_id")
        return begin if begin and self.tokenizer.encode("")[:1] == begin else []


def _turns(messages: Sequence[Message]) -> tuple[str, list[tuple[str, str]]]:
    """The system text and the (question, answer) pairs; the last answer is open ("")."""
    system = ""
    turns: list[tuple[str, str]] = []
    for message in messages:
        role, content = message["role"], message["content"]
        if role == "system" and not turns:
            system = content
        elif role == "user":
            turns.append((content, ""))
        elif role == "assistant" and turns and not turns[-1][1]:
            turns[-1] = (turns[-1][0], content)
        else:
            raise Problem(_("A conversation cannot go on with the role {role}").format(role=role))
    if not turns or messages[-1]["role"] != "user":
        raise Problem(_("A conversation must end with a question"))
    return system, turns


def resolve(
    wanted: str, training: templates.Training | None, tokenizer: Any
) -> tuple[str, Mapping[str, Any] | None]:
    """The template to use and its name.

    `wanted` (a name of XTuner's, or "tokenizer") wins; then what the model was
    trained with; then the tokenizer's chat template; then XTuner's "default".
    """
    known, _systems = templates.of_xtuner()
    if not wanted and training is not None and training.template is not None:
        if isinstance(training.template, dict):
            return _("of its config"), training.template
        wanted = training.template
    if not wanted:
        wanted = templates.TOKENIZER if tokenizer.chat_template else "default"
    if wanted == templates.TOKENIZER:
        if not tokenizer.chat_template:
            raise Problem(
                _("This model's tokenizer has no chat template"),
                todo=_("Put a chat_template into its tokenizer's files."),
                ways=("template",),
            )
        return wanted, None
    if wanted not in known:
        raise Problem(
            _("XTuner has no prompt template called {name}").format(name=wanted),
            todo=_("Choose one of: {names}.").format(
                names=", ".join([templates.TOKENIZER, *known])
            ),
        )
    return wanted, known[wanted]


def system(wanted: str | None, training: templates.Training | None) -> str:
    """The system text: `wanted` unless it is None, else the training config's."""
    if wanted is not None:
        return wanted
    value = training.system if training is not None else None
    if isinstance(value, Reference):
        return templates.of_xtuner()[1].get(value.key, "")
    return value or ""
