"""The verb ``chat``: ask models from the command line, or talk with them in the plain terminal."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.cli import chat_options, flags
from engine.cli.interrupt import on_interrupt
from engine.cli.output import Output
from engine.i18n import _

if TYPE_CHECKING:
    from engine.chat.conversation import Conversation, Node
    from engine.chat.session import Answer, ChatSession, Loaded, ModelSpec, Sampling
    from engine.chat.transcripts import Transcript


def add(
    verbs: argparse._SubParsersAction[argparse.ArgumentParser], common: argparse.ArgumentParser
) -> None:
    """Add this module's verb."""
    chat = verbs.add_parser("chat", parents=[common], help=_("talk with a model"))
    chat_options.add(chat)
    chat.set_defaults(run=_chat)


def _chat(args: argparse.Namespace, out: Output) -> int:
    from engine.chat import sets
    from engine.chat.session import ChatSession
    from engine.cli import chat_set
    from engine.joined.candidates import busy_gpus

    # What is wrong with the order is said before a model is loaded for minutes.
    chat_options.check(args, out.settings)
    sampling = chat_options.sampling(args)
    items = sets.read(args.set) if args.set is not None else []
    workspace = out.workspace()
    specs = chat_options.specs(args, workspace)
    written = _written(args.transcript)
    with ChatSession(out.settings, busy_gpus(workspace)) as session:
        slots = _load(session, specs, out)
        if args.set is not None:
            return chat_set.ask(args, session, slots, items, sampling, out)
        talk, transcript = written or _new(args.transcript, args.system, slots)
        asking = _Talk(session, slots, sampling, out, talk, transcript)
        return asking.prompts(args.prompt) if args.prompt or out.json else asking.converse()


def _written(path: Path | None) -> tuple[Conversation, Transcript] | None:
    """The conversation in `path`, and the file, to go on with both; None where there is none."""
    from engine.chat import transcripts

    return transcripts.resume(path) if path is not None and transcripts.begun(path) else None


def _new(
    path: Path | None, system: str | None, slots: dict[str, ModelSpec]
) -> tuple[Conversation, Transcript | None]:
    """A conversation that begins, and the file it goes into, where one is wanted."""
    from engine.chat import transcripts
    from engine.chat.conversation import Conversation

    talk = Conversation(system, {slot: _name(spec) for slot, spec in slots.items()})
    return talk, None if path is None else transcripts.Transcript(path.parent, path)


def _load(session: ChatSession, specs: list[ModelSpec], out: Output) -> dict[str, ModelSpec]:
    """Load each model into a slot; whether it fits is said before."""
    import msgspec

    from engine.chat import fit, sources

    system: str | None = None
    slots: dict[str, ModelSpec] = {}
    for number, spec in enumerate(specs):
        slot = chr(ord("A") + number)
        if not sources.is_endpoint(spec.model):
            words = fit.read(spec, session.busy).words
            out.say(_("Loading {model}: {fit}").format(model=_name(spec), fit=words))
        if spec.engine:
            out.say(_("Starting {engine}; this takes a while …").format(engine=spec.engine))
        if spec.system is None and system is not None:
            # Compared models are asked alike: with the system text of the first.
            spec = msgspec.structs.replace(spec, system=system)
        loaded = session.load(slot, spec, lambda line: out.say(f"  {line}"))
        system = loaded.system if system is None else system
        out.say(f"  {_place(loaded)}")
        slots[slot] = spec
    return slots


def _place(loaded: Loaded) -> str:
    from engine import text

    if not loaded.dtype:
        return _("{name} is there, in {time}").format(
            name=loaded.device, time=text.duration(loaded.seconds)
        )
    return _("{dtype} on {device}, template {template}, in {time}").format(
        dtype=loaded.dtype,
        device=loaded.device,
        template=loaded.template,
        time=text.duration(loaded.seconds),
    )


def _name(spec: ModelSpec) -> str:
    return f"{spec.model} + {spec.adapter}" if spec.adapter else spec.model


class _Talk:
    """A conversation with one model or several, on stdout, and in a file where one is wanted."""

    def __init__(
        self,
        session: ChatSession,
        slots: dict[str, ModelSpec],
        sampling: Sampling,
        out: Output,
        talk: Conversation,
        transcript: Transcript | None = None,
    ) -> None:
        self.session = session
        self.slots = slots
        self.sampling = sampling
        self.out = out
        self.talk = talk
        self.transcript = transcript

    def prompts(self, prompts: list[str]) -> int:
        """Ask each prompt by itself; the answers of all models. Without any: lines of stdin."""
        import msgspec

        found: list[dict[str, Any]] = []
        try:
            for prompt in prompts or [line.strip() for line in sys.stdin if line.strip()]:
                if not self.out.json:
                    self._write(f"> {prompt}\n")
                node = self._question(prompt, alone=True)
                for slot, spec in self.slots.items():
                    answer = self._ask(slot, node)
                    row: dict[str, Any] = {
                        "model": spec.model,
                        "adapter": spec.adapter,
                        "prompt": prompt,
                    }
                    row |= {"answer": answer.text, "tokens": answer.tokens, "ended": answer.ended}
                    row["first_token_s"] = answer.first_token_s
                    row["tokens_per_s"] = answer.tokens_per_s
                    if self.sampling.chances:
                        row["chances"] = msgspec.to_builtins(answer.chances)
                    found.append(row)
        finally:  # what was answered before something went wrong is told as well
            if self.out.json:
                self.out.result(found, list)
        return self._over()

    def converse(self) -> int:
        """Questions from the terminal, until /quit or the end of input."""
        terminal = sys.stdin.isatty()
        if terminal:
            import readline  # noqa: F401 (input() then edits lines and remembers them)

            self.out.say(_("/quit ends, /clear begins anew, Ctrl-C stops an answer."))
        alone = False
        while True:
            try:
                question = input("> " if terminal else "").strip()
            except EOFError:
                return self._over()
            except UnicodeDecodeError:
                self.out.say(_("That was not UTF-8; please type it again."))
                continue
            if question == "/quit":
                return self._over()
            if question == "/clear":
                alone = True
            elif question:
                self._turn(question, alone)
                alone = False

    def _turn(self, question: str, alone: bool) -> None:
        from engine.errors import Problem
        from engine.text import clean

        node = self._question(question, alone)
        for slot, spec in self.slots.items():
            try:
                answer = self._ask(slot, node)
            except Problem as problem:
                if self.session.dead and not spec.served:
                    raise
                self.out.say(clean(str(flags.told(problem))))
                continue
            if answer.ended == "stopped":
                return

    def _question(self, question: str, alone: bool) -> Node:
        """Put it into the conversation; `alone`, it follows nothing that was said before."""
        from engine.chat.conversation import ROOT

        if alone:
            self.talk.at = ROOT
        node = self.talk.ask(question)
        if self.transcript is not None:
            with self._talking_on():
                self.transcript.question(self.talk, node)
        return node

    @contextmanager
    def _talking_on(self) -> Iterator[None]:
        """What cannot be written down now is told, and keeps nobody from talking."""
        from engine.errors import Problem

        try:
            yield
        except Problem as problem:
            self.out.say(str(flags.told(problem)))

    def _over(self) -> int:
        """The exit status. Raises `Problem` when the conversation could not be written down."""
        if self.transcript is not None:
            self.transcript.write()
        return 0

    def _ask(self, slot: str, node: Node) -> Answer:
        from engine.chat.conversation import Reply
        from engine.chat.session import Token

        if len(self.slots) > 1 and not self.out.json:
            self._write(f"{slot}  {_name(self.slots[slot])}\n")
        with on_interrupt(self.session.stop):
            for event in self.session.generate(slot, self.talk.messages(slot), self.sampling):
                if not isinstance(event, Token):
                    self._finish(event)
                    reply = Reply.of(event)
                    self.talk.answered(node, slot, reply)
                    if self.transcript is not None:
                        with self._talking_on():
                            self.transcript.reply(node, slot, reply)
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
