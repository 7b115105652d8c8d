"""The app's end of a chat: models in slots, answers as they come."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from engine.chat import fit, sources, templates
from engine.chat.sources import ModelSpec
from engine.errors import Problem
from engine.i18n import _
from engine.settings import Settings
from engine.worker.client import WorkerClient

__all__ = ["Answer", "ChatSession", "Loaded", "ModelSpec", "Sampling", "Token"]

WORKER = "engine.chat.worker"


class Sampling(msgspec.Struct, frozen=True):
    """How an answer is drawn. Temperature 0 is greedy, and the other values but
    `repetition` (1.0: none) and `max_new_tokens` then do not count; `top_k` 0
    means all tokens; `seed` None draws anew each time."""

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    max_new_tokens: int = 512
    seed: int | None = 0
    repetition: float = 1.0


class Loaded(msgspec.Struct, frozen=True):
    """What was loaded: names, device and the seconds it took; `context` in tokens."""

    template: str
    system: str
    dtype: str
    device: str
    seconds: float
    context: int | None


class Token(msgspec.Struct, frozen=True):
    """A piece of the answer, some tokens long."""

    text: str


class Answer(msgspec.Struct, frozen=True):
    """The whole answer. Times in seconds; `tokens_per_s` counts from the first token on.

    `ended` says why: "end" (of itself), "word" (a stop word), "length"
    (max_new_tokens), "stopped" (by a person). `prompt` is what the model was
    given, its special tokens included.
    """

    text: str
    tokens: int
    first_token_s: float
    tokens_per_s: float
    ended: str
    prompt: str
    prompt_tokens: int


class ChatSession:
    """A process with models in slots ("A", "B", …).

    Blocking: in the app, call it from a thread; `stop` may come from another.
    """

    def __init__(self, settings: Settings) -> None:
        self._worker = WorkerClient(WORKER, settings)

    def load(self, slot: str, spec: ModelSpec) -> Loaded:
        """Load a model into `slot`. Raises `Problem` for a wrong path, `Failed` when it cannot."""
        sources.check(spec)
        needs = fit.require(spec)
        result = self._worker.result(
            "load",
            slot=slot,
            model=str(Path(spec.model).resolve()),
            adapter=None if spec.adapter is None else str(Path(spec.adapter).resolve()),
            dtype=spec.dtype,
            device=spec.device,
            template=spec.template,
            system=spec.system,
            trust=_trust(spec),
            bytes=needs.needs,
        )
        return msgspec.convert(result, Loaded)

    def generate(
        self, slot: str, messages: Sequence[Mapping[str, str]], sampling: Sampling
    ) -> Iterator[Token | Answer]:
        """The answer to a conversation: its pieces, then the whole.

        `messages` are ``{"role", "content"}`` as elsewhere; without a system
        message the one of the training config stands in front.
        """
        _validate(sampling)
        request = {"messages": list(messages), "sampling": msgspec.to_builtins(sampling)}
        over = False
        try:
            for event in self._worker.ask("generate", slot=slot, **request):
                over = event["event"] == "done"
                yield msgspec.convert(event, Answer) if over else Token(event["text"])
        finally:
            if not over:  # whoever read it has gone: nobody needs the rest
                self.stop()

    def stop(self) -> None:
        """End the answer in progress; it comes as an `Answer` with what there is."""
        self._worker.cancel()

    @property
    def dead(self) -> bool:
        """Whether the process has ended, and every model with it."""
        return self._worker.pid is None

    def unload(self, slot: str) -> None:
        """Free the memory of a slot."""
        self._worker.result("unload", slot=slot)

    def close(self) -> None:
        """End the process."""
        self._worker.close()

    def __enter__(self) -> ChatSession:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()


def _trust(spec: ModelSpec) -> bool:
    """Whether the model may run code that it brings: only if it must and somebody allowed it."""
    model = Path(spec.model)
    if "auto_map" not in sources.config(model):
        return False
    training = templates.for_model(model, Path(spec.adapter) if spec.adapter else None)
    if spec.trust or (training is not None and training.trusted):
        return True
    raise Problem(
        _("{model} brings Python code of its own").format(model=spec.model),
        _("It would run with your rights, and no training config says that you trust it."),
        _("If you do, say --trust-remote-code."),
    )


def _validate(sampling: Sampling) -> None:
    right = (
        sampling.temperature >= 0
        and 0 < sampling.top_p <= 1
        and sampling.top_k >= 0
        and sampling.max_new_tokens > 0
        and sampling.repetition > 0
    )
    if not right:
        raise Problem(
            _("These sampling settings cannot be"),
            _(
                "temperature and top_k are 0 or more, top_p is above 0 and at most 1, "
                "max_new_tokens and repetition are above 0."
            ),
        )
