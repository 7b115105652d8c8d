"""The app's end of a chat: models in slots, answers as they come."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from engine.chat import fit, sources, templates
from engine.chat.answer import Answer, Chance, Loaded, Parity, Prompt, Sampling, Token
from engine.chat.endpoint import Endpoint
from engine.chat.served import Said, Served
from engine.chat.sources import ModelSpec
from engine.errors import Problem
from engine.i18n import _
from engine.machine import gpu
from engine.machine.devices import GpuId
from engine.settings import Settings
from engine.worker.client import WorkerClient

__all__ = [
    "Answer",
    "Chance",
    "ChatSession",
    "Loaded",
    "ModelSpec",
    "Parity",
    "Prompt",
    "Sampling",
    "Token",
]

WORKER = "engine.chat.worker"


class ChatSession:
    """Models in slots ("A", "B", …): in one process of ours, or served: elsewhere, or by an
    engine of the user's that the session starts and ends.

    Load all models of a comparison before the first question: an adapter that
    is alone on its base is put into the weights then, which a second one on
    the same base would undo by loading them again.

    Blocking: in the app, call it from a thread; `stop` may come from another.

    Args:
        settings: names the training interpreter.
        busy: GPUs (as the driver counts) on which a training of ours runs;
            none of them is taken unless a spec names it and says `share`.
    """

    def __init__(self, settings: Settings, busy: Collection[GpuId] = ()) -> None:
        self.busy = frozenset(busy)
        self._settings = settings
        self._worker = WorkerClient(WORKER, settings)
        self._placed: dict[str, tuple[ModelSpec, fit.Fit]] = {}
        """What is loaded in our process, and where."""
        self._served = Served(settings)
        self._answering: Endpoint | None = None

    def load(self, slot: str, spec: ModelSpec, said: Said | None = None) -> Loaded:
        """Load a model into `slot`. Raises `Problem` for a wrong path, `Failed` when it cannot.

        `said` is told what an engine writes while it starts.
        """
        if sources.is_endpoint(spec.model):
            self.unload(slot)
            return self._served.load(slot, spec, self.busy)
        sources.check(spec)
        trust = _trust(spec)
        if spec.engine:
            self.unload(slot)
            spec = msgspec.structs.replace(spec, trust=trust)
            return self._served.load(slot, spec, self.busy, said)
        self._served.unload(slot)
        needs = self._fit(spec)
        if self.dead:  # it is started now, and torch is to number the GPUs as `fit` does
            self._worker.extra = gpu.shown(gpu.for_one_process(gpu.read().gpus, self.busy))
        self._placed.pop(slot, None)  # what cannot be loaded leaves the slot empty
        result = self._worker.result(
            "load",
            slot=slot,
            model=str(Path(spec.model).resolve()),
            adapter=None if spec.adapter is None else str(Path(spec.adapter).resolve()),
            dtype=spec.dtype,
            device=needs.device,
            bits=spec.bits,
            template=spec.template,
            system=spec.system,
            trust=trust,
            merge=spec.merge,
            bytes=needs.needs,
        )
        self._placed[slot] = spec, needs
        return msgspec.convert(result, Loaded)

    def _fit(self, spec: ModelSpec) -> fit.Fit:
        """Where it goes. On weights that are there already an adapter needs next to nothing."""
        if self.dead:
            self._placed.clear()
        for other, place in self._placed.values():
            if sources.same_base(spec, other):
                return place
        return fit.require(spec, self.busy)

    def generate(
        self,
        slot: str,
        messages: Sequence[Mapping[str, str]],
        sampling: Sampling,
        begun: Callable[[], None] | None = None,
    ) -> Iterator[Token | Answer]:
        """The answer to a conversation: its pieces, then the whole.

        `messages` are ``{"role", "content"}`` as elsewhere; without a system
        message the one of the training config stands in front. `begun` is
        called as soon as the model has work, which leaves time for other things.
        """
        begun = begun or (lambda: None)
        sampling.check()
        self._answering = self._served.get(slot)
        if self._answering is not None:
            begun()
            yield from self._answering.generate(messages, sampling)
            return
        request = {"messages": list(messages), "sampling": msgspec.to_builtins(sampling)}
        over = False
        try:
            for event in self._worker.ask("generate", slot=slot, **request):
                if event["event"] == "begun":
                    begun()
                    continue
                over = event["event"] == "done"
                yield msgspec.convert(event, Answer) if over else Token(event["text"])
        finally:
            if not over:  # whoever read it has gone: nobody needs the rest
                self.stop()

    def prompt(
        self, slot: str, messages: Sequence[Mapping[str, str]], max_new_tokens: int = 512
    ) -> Prompt | None:
        """What the model is given for `messages`, token by token; None where a server hides it."""
        if self._served.get(slot) is not None:
            return None
        found = self._worker.result(
            "prompt", slot=slot, messages=list(messages), wanted=max_new_tokens
        )
        return msgspec.convert(found, Prompt)

    def stop(self) -> None:
        """End the answer in progress; it comes as an `Answer` with what there is.

        An engine that is being started ends, too.
        """
        self._served.halt()
        answering = self._answering
        if answering is not None:
            answering.stop()
        else:
            self._worker.cancel()

    @property
    def dead(self) -> bool:
        """Whether the process has ended, and every local model with it."""
        return self._worker.pid is None

    def holds(self, slot: str) -> bool:
        """Whether the model in `slot` is there to be asked."""
        return self._served.holds(slot) or (slot in self._placed and not self.dead)

    @property
    def occupied(self) -> bool:
        """Whether it takes memory of this machine."""
        return self._served.ours or (bool(self._placed) and not self.dead)

    def unload(self, slot: str) -> None:
        """Free the memory of a slot."""
        self._served.unload(slot)
        self._placed.pop(slot, None)
        if not self.dead:
            self._worker.result("unload", slot=slot)

    def close(self) -> None:
        """End the process, and the engines."""
        self._served.close()
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
        _("Read that code before you allow it."),
        ways=("trust-remote-code",),
    )
