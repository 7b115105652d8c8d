"""What is asked of a model, and what comes back: the same for every kind of model."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from engine.errors import Problem
from engine.i18n import _

Message = Mapping[str, str]
"""``{"role": "system" | "user" | "assistant", "content": "…"}``."""


class Sampling(msgspec.Struct, frozen=True):
    """How an answer is drawn. Temperature 0 is greedy, and the other values but
    `repetition` (1.0: none) and `max_new_tokens` then do not count; `top_k` 0
    means all tokens; `seed` None draws anew each time. `chances` asks for the
    probability of each token, with so many of the likeliest beside it."""

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    max_new_tokens: int = 512
    seed: int | None = 0
    repetition: float = 1.0
    chances: int = 0

    def check(self) -> None:
        """Raise `Problem` for values that cannot be."""
        right = (
            self.temperature >= 0
            and 0 < self.top_p <= 1
            and self.top_k >= 0
            and self.max_new_tokens > 0
            and self.repetition > 0
            and 0 <= self.chances <= 20
        )
        if not right:
            raise Problem(
                _("These sampling settings cannot be"),
                _(
                    "temperature and top_k are 0 or more, top_p is above 0 and at most 1, "
                    "max_new_tokens and repetition are above 0."
                ),
            )


class Parity(msgspec.Struct, frozen=True):
    """Whether XTuner's template and the tokenizer's own make the same prompt.

    Both were given the same short conversation; `trained` and `tokenizer` are
    what came of it, special tokens included. A template that forbids such a
    conversation (no system message, say) says so in `why`.
    """

    agree: bool
    trained: str
    tokenizer: str
    why: str = ""


class Loaded(msgspec.Struct, frozen=True):
    """What was loaded: names, device and the seconds it took; `context` in tokens.

    `shared`: the slots whose weights it shares. `parity` is None where there
    are no two templates to compare.
    """

    template: str
    system: str
    dtype: str
    device: str
    seconds: float
    context: int | None
    shared: list[str] = []
    parity: Parity | None = None


class Token(msgspec.Struct, frozen=True):
    """A piece of the answer, some tokens long."""

    text: str


class Chance(msgspec.Struct, frozen=True):
    """One token of an answer: its probability before temperature and the like (0 to 1),
    and the likeliest tokens at its place with theirs."""

    token: str
    p: float
    others: list[tuple[str, float]]


class Prompt(msgspec.Struct, frozen=True):
    """What a model is given for a conversation: token by token.

    `dropped`: how many of the oldest messages did not fit into its context.
    """

    text: str
    ids: list[int]
    tokens: list[str]
    dropped: int = 0


class Answer(msgspec.Struct, frozen=True):
    """The whole answer. Times in seconds; `tokens_per_s` counts from the first token on.

    `ended` says why: "end" (of itself), "word" (a stop word), "length"
    (max_new_tokens), "stopped" (by a person). `prompt` is what the model was
    given, its special tokens included ("" where a server does not tell).
    `dropped`: the oldest messages that were left out to make it fit.
    """

    text: str
    tokens: int
    first_token_s: float
    tokens_per_s: float
    ended: str
    prompt: str
    prompt_tokens: int
    dropped: int = 0
    chances: list[Chance] = []
