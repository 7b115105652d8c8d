"""``tunedeck convert | merge | verify``."""

from __future__ import annotations

import argparse
from pathlib import Path

from engine.cli.output import Output
from engine.i18n import _

Subparsers = "argparse._SubParsersAction[argparse.ArgumentParser]"


def add(
    verbs: argparse._SubParsersAction[argparse.ArgumentParser], common: argparse.ArgumentParser
) -> None:
    """Add the verbs' parsers."""
    convert = verbs.add_parser(
        "convert", parents=[common], help=_("checkpoint to adapter, without the base model")
    )
    convert.add_argument("checkpoint", type=Path, help=_(".pth file or DeepSpeed folder"))
    convert.add_argument(
        "out", type=Path, nargs="?", help=_("the adapter's folder (default: beside the checkpoint)")
    )
    convert.add_argument(
        "--config", type=Path, help=_("the run's config, if the checkpoint lacks it")
    )
    convert.add_argument("--dtype", choices=("fp32", "fp16", "bf16"), help=_("default: as trained"))
    convert.add_argument("--force", action="store_true", help=_("replace OUT if it exists"))
    convert.set_defaults(run=_convert)


def _convert(args: argparse.Namespace, out: Output) -> int:
    from engine.export.convert import convert
    from engine.text import duration, size

    made = convert(
        args.checkpoint,
        args.out,
        config=args.config,
        dtype=args.dtype,
        force=args.force,
        progress=out.progress(_("Converting")),
    )
    out.result(
        made,
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
