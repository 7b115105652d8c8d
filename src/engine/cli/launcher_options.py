"""The options of ``tunedeck train`` that say who starts the trainer, and on how many machines."""

from __future__ import annotations

import argparse

import msgspec

from engine.errors import Problem
from engine.i18n import _
from engine.settings import Settings, Slurm


def add(train: argparse.ArgumentParser) -> None:
    """Add the options."""
    train.add_argument(
        "--launcher",
        choices=["local", "nodes", "slurm"],
        default="local",
        help=_("who starts it: this machine, you on several nodes, or Slurm (default: local)"),
    )
    train.add_argument("--nodes", type=int, default=1, metavar="N", help=_("on how many machines"))
    train.add_argument(
        "--partition", metavar="P", help=_("Slurm's partition (default: the settings')")
    )
    train.add_argument("--time", metavar="HH:MM:SS", help=_("Slurm's time limit"))
    train.add_argument(
        "--gpus-per-node", type=int, metavar="N", help=_("how many GPUs Slurm is to give")
    )


def slurm(args: argparse.Namespace, settings: Settings) -> Slurm | None:
    """The settings of Slurm with what the command line says instead; None for other launchers."""
    wished = {"partition": args.partition, "time": args.time, "gpus": args.gpus_per_node}
    asked = {name: value for name, value in wished.items() if value is not None}
    if args.launcher == "slurm":
        return msgspec.structs.replace(settings.slurm, **asked)
    if asked:
        raise Problem(
            _("Only Slurm takes a partition, a time limit or GPUs per node"),
            _("The launcher is {name}.").format(name=args.launcher),
            _("Add --launcher slurm."),
        )
    return None
