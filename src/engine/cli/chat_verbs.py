"""The verb ``chat``: ask models from the command line, or talk with them in the plain terminal."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from engine.cli.output import Output
from engine.i18n import _

if TYPE_CHECKING:
    from engine.chat.session import Answer, ChatSession, ModelSpec, Sampling


def add(
    verbs: argparse._SubParsersAction[argparse.ArgumentParser], common: argparse.ArgumentParser
) -> None:
    """Add this module's verb."""
    chat = verbs.add_parser("chat", parents=[common], help=_("talk with a model"))
    chat.add_argument("model", metavar="MODEL", help=_("a model's folder"))
    chat.add_argument("--adapter", metavar="A", help=_("an adapter's folder, loaded onto MODEL"))
    chat.add_argument(
        "--against",
        metavar="MODEL",
        action="append",
        default=[],
        help=_("ask this model, too (may be repeated)"),
    )
    chat.add_argument(
        "--prompt",
        metavar="TEXT",
        action="append",
        default=[],
        help=_("ask this and end (may be repeated); without it: a conversation"),
    )
    chat.add_argument("--system", metavar="S", help=_("the system text (default: as trained)"))
    chat.add_argument(
        "--template",
        metavar="T",
        default="",
        help=_("one of XTuner's prompt templates, or 'tokenizer' (default: as trained)"),
    )
    chat.add_argument(
        "--temperature", metavar="T", type=float, default=0.0, help=_("0 (default): greedy")
    )
    chat.add_argument("--top-p", metavar="P", type=float, default=1.0)
    chat.add_argument("--top-k", metavar="K", type=int, default=0, help=_("0 (default): all"))
    chat.add_argument("--repetition-penalty", metavar="R", type=float, default=1.0)
    chat.add_argument("--max-new-tokens", metavar="N", type=int, default=512)
    chat.add_argument("--seed", metavar="S", type=int, default=0)
    chat.add_argument("--dtype", choices=("auto", "bf16", "fp16", "fp32"), default="auto")
    chat.add_argument("--device", metavar="auto|cpu|cuda:N", default="auto")
    chat.add_argument(
        "--trust-remote-code",
        action="store_true",
        help=_("let the models run Python code that they bring"),
    )
    chat.set_defaults(run=_chat)


def _chat(args: argparse.Namespace, out: Output) -> int:
    from engine.chat import sources
    from engine.chat.session import ChatSession, ModelSpec, Sampling

    sampling = Sampling(
        temperature=args.temperature,
        top_p=args.top_p,
        top_k=args.top_k,
        max_new_tokens=args.max_new_tokens,
        seed=args.seed,
        repetition=args.repetition_penalty,
    )
    specs = [
        ModelSpec(
            model=model,
            adapter=adapter,
            dtype=args.dtype,
            device=args.device,
            template=args.template,
            system=args.system,
            trust=args.trust_remote_code,
        )
        for model, adapter in [(args.model, args.adapter), *((one, None) for one in args.against)]
    ]
    for spec in specs:
        sources.check(spec)
    with ChatSession(out.settings) as session:
        talk = _Talk(session, _load(session, specs, out), sampling, out)
        return talk.prompts(args.prompt) if args.prompt or out.json else talk.converse()


def _load(session: ChatSession, specs: list[ModelSpec], out: Output) -> dict[str, ModelSpec]:
    """Load each model into a slot; whether it fits is said before."""
    from engine import text
    from engine.chat import fit

    system: str | None = None
    slots = {}
    for number, spec in enumerate(specs):
        slot = chr(ord("A") + number)
        out.say(_("Loading {model}: {fit}").format(model=_name(spec), fit=fit.read(spec).words))
        if spec.system is None and system is not None:
            import msgspec

            # Compared models are asked alike: with the system text of the first.
            spec = msgspec.structs.replace(spec, system=system)
        loaded = session.load(slot, spec)
        system = loaded.system if system is None else system
        out.say(
            _("  {dtype} on {device}, template {template}, in {time}").format(
                dtype=loaded.dtype,
                device=loaded.device,
                template=loaded.template,
                time=text.duration(loaded.seconds),
            )
        )
        slots[slot] = spec
    return slots


def _name(spec: ModelSpec) -> str:
    return f"{spec.model} + {spec.adapter}" if spec.adapter else spec.model


class _Talk:
    """A conversation with one model or several, on stdout."""

    def __init__(
        self, session: ChatSession, slots: dict[str, ModelSpec], sampling: Sampling, out: Output
    ) -> None:
        self.session = session
        self.slots = slots
        self.sampling = sampling
        self.out = out

    def prompts(self, prompts: list[str]) -> int:
        """Ask each prompt by itself; the answers of all models. Without any: lines of stdin."""
        found: list[dict[str, Any]] = []
        for prompt in prompts or [line.strip() for line in sys.stdin if line.strip()]:
            if not self.out.json:
                self._write(f"> {prompt}\n")
            for slot, spec in self.slots.items():
                answer = self._ask(slot, [{"role": "user", "content": prompt}])
                found.append(
                    {"model": spec.model, "adapter": spec.adapter, "prompt": prompt}
                    | {"answer": answer.text, "tokens": answer.tokens}
                    | {"first_token_s": answer.first_token_s, "tokens_per_s": answer.tokens_per_s}
                    | {"ended": answer.ended}
                )
        if self.out.json:
            self.out.result(found, list)
        return 0

    def converse(self) -> int:
        """Questions from the terminal, until /quit or the end of input."""
        terminal = sys.stdin.isatty()
        if terminal:
            import readline  # noqa: F401 (input() then edits lines and remembers them)

            self.out.say(_("/quit ends, /clear begins anew, Ctrl-C stops an answer."))
        histories: dict[str, list[dict[str, str]]] = {slot: [] for slot in self.slots}
        while True:
            try:
                question = input("> " if terminal else "").strip()
            except EOFError:
                return 0
            except UnicodeDecodeError:
                self.out.say(_("That was not UTF-8; please type it again."))
                continue
            if question == "/quit":
                return 0
            if question == "/clear":
                histories = {slot: [] for slot in self.slots}
            elif question:
                self._turn(question, histories)

    def _turn(self, question: str, histories: dict[str, list[dict[str, str]]]) -> None:
        from engine.errors import Problem
        from engine.text import clean

        for slot, history in histories.items():
            asked = [*history, {"role": "user", "content": question}]
            try:
                answer = self._ask(slot, asked)
            except Problem as problem:
                if self.session.dead:
                    raise
                self.out.say(clean(str(problem)))
                continue
            history[:] = [*asked, {"role": "assistant", "content": answer.text}]
            if answer.ended == "stopped":
                return

    def _ask(self, slot: str, messages: list[dict[str, str]]) -> Answer:
        from engine.chat.session import Token

        if len(self.slots) > 1 and not self.out.json:
            self._write(f"{slot}  {_name(self.slots[slot])}\n")
        with _stop_on_interrupt(self.session):
            for event in self.session.generate(slot, messages, self.sampling):
                if not isinstance(event, Token):
                    self._finish(event)
                    return event
                if not self.out.json:
                    self._write(event.text)
        raise AssertionError("an answer always ends")

    def _finish(self, answer: Answer) -> None:
        if self.out.json:
            return
        self._write("\n")
        words = _("{tokens} tokens · first after {first:.2f} s · {speed:.1f} tokens/s").format(
            tokens=answer.tokens, first=answer.first_token_s, speed=answer.tokens_per_s
        )
        if answer.ended in ("length", "stopped"):
            end = _("cut at --max-new-tokens") if answer.ended == "length" else _("stopped")
            words += f" · {end}"
        self.out.say(f"  {words}")

    def _write(self, text: str) -> None:
        from engine.text import clean

        sys.stdout.write(clean(text, keep="\n\t"))
        sys.stdout.flush()


@contextmanager
def _stop_on_interrupt(session: ChatSession) -> Iterator[None]:
    """Ctrl-C ends the answer, not the program; a second one ends the program."""
    before = signal.getsignal(signal.SIGINT)

    def stop(_signal: int, _frame: object) -> None:
        signal.signal(signal.SIGINT, before)
        session.stop()

    signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
