"""The words of ``tunedeck chat``: which models, how they are loaded, how they answer."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.errors import Problem
from engine.i18n import _
from engine.workspace import Workspace

if TYPE_CHECKING:
    from engine.chat.answer import Sampling
    from engine.chat.sources import ModelSpec
    from engine.settings import Settings


class _OntoLast(argparse.Action):
    """An adapter belongs to the model that was named last: MODEL, or the --against before it."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option: str | None = None,
    ) -> None:
        onto = len(namespace.against)
        adapters = dict(getattr(namespace, self.dest))
        if onto in adapters:
            parser.error(_("--adapter stands twice for the same model"))
        setattr(namespace, self.dest, adapters | {onto: values})


def add(chat: argparse.ArgumentParser) -> None:
    """Add the options."""
    chat.add_argument(
        "model",
        metavar="MODEL",
        help=_("a model's folder, a checkpoint, an adapter, or a server's address"),
    )
    chat.add_argument(
        "--adapter",
        metavar="A",
        action=_OntoLast,
        default={},
        help=_("an adapter or checkpoint, loaded onto the MODEL named before it"),
    )
    chat.add_argument(
        "--against",
        metavar="MODEL",
        action="append",
        default=[],
        help=_("ask this model, too (may be repeated)"),
    )
    _add_questions(chat)
    _add_loading(chat)
    _add_sampling(chat)


def _add_questions(chat: argparse.ArgumentParser) -> None:
    asked = chat.add_mutually_exclusive_group()
    asked.add_argument(
        "--prompt",
        metavar="TEXT",
        action="append",
        default=[],
        help=_("ask this and end (may be repeated); without it: a conversation"),
    )
    asked.add_argument(
        "--set",
        metavar="FILE",
        type=Path,
        help=_("ask every question of FILE (JSON, JSON Lines, CSV, TSV, or one a line)"),
    )
    chat.add_argument(
        "-o", "--out", metavar="FILE", type=Path, help=_("with --set: a .json, .csv or .md file")
    )
    chat.add_argument("--force", action="store_true", help=_("replace the file of -o"))
    chat.add_argument(
        "--transcript",
        metavar="FILE",
        type=Path,
        help=_("write the talk into FILE (JSON Lines), or go on with the one in it"),
    )
    chat.add_argument("--system", metavar="S", help=_("the system text (default: as trained)"))


def _add_loading(chat: argparse.ArgumentParser) -> None:
    chat.add_argument(
        "--template",
        metavar="T",
        default="",
        help=_("one of XTuner's prompt templates, or 'tokenizer' (default: as trained)"),
    )
    chat.add_argument(
        "--dtype",
        choices=("auto", "bf16", "fp16", "fp32"),
        default="auto",
        help=_("default: auto, float32 on a CPU, else the model's own"),
    )
    chat.add_argument(
        "--bits", type=int, choices=(4, 8), default=0, help=_("load quantized (GPU only)")
    )
    chat.add_argument(
        "--device", metavar="auto|cpu|cuda:N", default="auto", help=_("where to compute")
    )
    chat.add_argument(
        "--engine",
        metavar="vllm|lmdeploy|sglang",
        default="",
        help=_("start this server for each model, and end it at the end"),
    )
    chat.add_argument(
        "--share-gpu",
        action="store_true",
        help=_("take a GPU even where a run of this workspace trains"),
    )
    chat.add_argument(
        "--no-merge",
        action="store_true",
        help=_("leave an adapter beside the weights (slower; exact in half precision, too)"),
    )
    chat.add_argument(
        "--trust-remote-code",
        action="store_true",
        help=_("let the models run Python code that they bring"),
    )


def _add_sampling(chat: argparse.ArgumentParser) -> None:
    chat.add_argument(
        "--temperature", metavar="T", type=float, default=0.0, help=_("0 (default): greedy")
    )
    chat.add_argument("--top-p", metavar="P", type=float, default=1.0, help=_("1 (default): all"))
    chat.add_argument("--top-k", metavar="K", type=int, default=0, help=_("0 (default): all"))
    chat.add_argument(
        "--repetition-penalty", metavar="R", type=float, default=1.0, help=_("1 (default): none")
    )
    chat.add_argument(
        "--max-new-tokens",
        metavar="N",
        type=int,
        default=512,
        help=_("the length of an answer at most (default: 512)"),
    )
    chat.add_argument(
        "--seed", metavar="S", type=int, default=0, help=_("of the draw, above temperature 0")
    )
    chat.add_argument(
        "--chances",
        metavar="N",
        type=int,
        default=0,
        help=_("with --json: how likely each token was, and the N likeliest at its place"),
    )


def check(args: argparse.Namespace, settings: Settings) -> None:
    """Raise `Problem` for options that do not go together, and for an engine that is not here."""
    from engine import files
    from engine.chat import engines, set_files

    if args.engine:
        engines.named(args.engine, settings)
        engines.check(args.bits)
    if args.out is not None:
        if args.set is None:
            raise Problem(_("-o needs --set"), _("It is where the answers to a set go."))
        set_files.check(args.out)
        files.refuse_existing(args.out, args.force)
    if args.set is not None and args.transcript is not None:
        raise Problem(
            _("--set and --transcript do not go together"),
            _("The questions of a set are no conversation."),
            _("Write the answers with -o FILE."),
        )


def sampling(args: argparse.Namespace) -> Sampling:
    """How answers are drawn. Raises `Problem` for values that cannot be."""
    from engine.chat.answer import Sampling

    made = Sampling(
        temperature=args.temperature,
        top_p=args.top_p,
        top_k=args.top_k,
        max_new_tokens=args.max_new_tokens,
        seed=args.seed,
        repetition=args.repetition_penalty,
        chances=args.chances,
    )
    made.check()
    return made


def specs(args: argparse.Namespace, workspace: Workspace) -> list[ModelSpec]:
    """What to load, checkpoints converted. Raises `Problem` for what is no model."""
    import msgspec

    from engine.chat import sources
    from engine.joined import candidates

    found = []
    for number, model in enumerate([args.model, *args.against]):
        adapter = args.adapter.get(number)
        chosen = (
            candidates.named(model, workspace)
            if adapter is None
            else candidates.adapted(model, adapter, workspace)
        )
        spec = candidates.ready(chosen)
        if not sources.is_endpoint(spec.model):
            sources.check(spec)
        found.append(
            msgspec.structs.replace(
                spec,
                dtype=args.dtype,
                device=args.device,
                bits=args.bits,
                template=args.template,
                system=args.system,
                trust=args.trust_remote_code,
                merge=not args.no_merge,
                share=args.share_gpu,
                engine="" if sources.is_endpoint(spec.model) else args.engine,
            )
        )
    return found
