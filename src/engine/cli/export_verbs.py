"""``tunedeck convert | merge | verify``."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from engine.cli.output import Output
from engine.i18n import _

if TYPE_CHECKING:
    from engine.export.verify import Verified


def add(
    verbs: argparse._SubParsersAction[argparse.ArgumentParser], common: argparse.ArgumentParser
) -> None:
    """Add the verbs' parsers."""
    convert = verbs.add_parser(
        "convert",
        parents=[common],
        help=_("checkpoint to adapter, without the base model; or to a model"),
    )
    convert.add_argument(
        "checkpoint", metavar="CHECKPOINT", type=Path, help=_(".pth file or DeepSpeed folder")
    )
    convert.add_argument(
        "out",
        metavar="OUT",
        type=Path,
        nargs="?",
        help=_("the folder to make (default: beside the checkpoint)"),
    )
    convert.add_argument(
        "--config", metavar="C", type=Path, help=_("the run's config, if the checkpoint lacks it")
    )
    convert.add_argument(
        "--base",
        metavar="MODEL",
        type=Path,
        help=_("full fine-tuning: the model it began with, if it moved"),
    )
    convert.add_argument("--dtype", choices=("fp32", "fp16", "bf16"), help=_("default: as trained"))
    convert.add_argument("--force", action="store_true", help=_("replace OUT if it exists"))
    convert.set_defaults(run=_convert)

    merge = verbs.add_parser(
        "merge", parents=[common], help=_("adapter or checkpoint onto the base model")
    )
    merge.add_argument("base", metavar="BASE", type=Path, help=_("the base model's folder"))
    merge.add_argument(
        "adapter", metavar="ADAPTER", type=Path, help=_("adapter folder or checkpoint")
    )
    merge.add_argument("out", metavar="OUT", type=Path, help=_("the folder of the merged model"))
    merge.add_argument(
        "--dtype",
        choices=("auto", "bf16", "fp16", "fp32"),
        default="auto",
        help=_("default: auto, the base's"),
    )
    merge.add_argument(
        "--device", default="auto", metavar="auto|cpu|cuda:N", help=_("where to compute")
    )
    merge.add_argument("--force", action="store_true", help=_("replace OUT if it exists"))
    merge.set_defaults(run=_merge)

    verify = verbs.add_parser(
        "verify", parents=[common], help=_("does the merged model answer as the adapter does?")
    )
    verify.add_argument("base", metavar="BASE", type=Path, help=_("the base model's folder"))
    verify.add_argument(
        "adapter", metavar="ADAPTER", type=Path, help=_("adapter folder or checkpoint")
    )
    verify.add_argument("merged", metavar="MERGED", type=Path, help=_("the merged model's folder"))
    verify.add_argument(
        "--prompt", metavar="TEXT", action="append", help=_("ask this (may be repeated)")
    )
    verify.add_argument(
        "--data",
        metavar="FILE",
        type=Path,
        help=_("ask this file's first questions too (default: the config's)"),
    )
    verify.set_defaults(run=_verify)


def _convert(args: argparse.Namespace, out: Output) -> int:
    from engine.export.convert import convert
    from engine.text import duration, size

    made = convert(
        args.checkpoint,
        args.out,
        config=args.config,
        base=args.base,
        dtype=args.dtype,
        force=args.force,
        progress=out.progress(_("Converting")),
    )
    out.result(
        made._asdict(),
        lambda: [
            _("{path}: {keys} tensors, {size}, in {time}").format(
                path=made.adapter,
                keys=made.keys,
                size=size(made.bytes),
                time=duration(made.seconds),
            )
        ],
    )
    return 0


def _merge(args: argparse.Namespace, out: Output) -> int:
    from engine.export.merge import merge
    from engine.text import duration, size

    made = merge(
        args.base,
        args.adapter,
        args.out,
        dtype=args.dtype,
        device=args.device,
        settings=out.settings,
        force=args.force,
        progress=out.progress(_("Merging")),
    )
    out.result(
        made,
        lambda: [
            _("{path}: {size} in {dtype}, in {time}, with {peak} of memory").format(
                path=made.out,
                size=size(made.bytes),
                dtype=made.dtype,
                time=duration(made.seconds),
                peak=size(made.peak_bytes),
            )
        ],
    )
    return 0


def _verify(args: argparse.Namespace, out: Output) -> int:
    from engine.export.verify import config_text, verify
    from engine.joined import dataset_questions

    rows = (
        dataset_questions.of_file(args.data)
        if args.data
        else dataset_questions.of_config(config_text(args.adapter), Path.cwd())
    )
    found = verify(
        args.base,
        args.adapter,
        args.merged,
        settings=out.settings,
        prompts=args.prompt,
        rows=rows,
        progress=out.progress(_("Comparing")),
    )
    out.result(found, lambda: _verified(found))
    return 0 if found.agree else 1


def _verified(found: Verified) -> Iterator[str]:
    from engine.text import one_line

    for row in found.prompts:
        yield f"? {one_line(row.prompt)}"
        if row.adapter == row.merged:
            yield f"  = {one_line(row.merged)}"
        else:
            yield _("  adapter: {text}").format(text=one_line(row.adapter))
            yield _("  merged:  {text}").format(text=one_line(row.merged))
    yield _("Largest logit difference {diff:.4g}; rounding to {dtype} explains {room:.4g}.").format(
        diff=found.max_logit_diff, dtype=found.dtype, room=found.tolerance
    )
    if found.why:
        yield found.why
    if found.coarse:
        yield _("`tunedeck merge` takes another type with --dtype.")
    if not found.learned:
        yield _("The adapter changes next to nothing ({effect:.4g}): did training work?").format(
            effect=found.adapter_effect
        )
    yield _("They agree.") if found.agree else _("They differ: do not use this merged model.")
