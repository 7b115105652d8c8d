"""The options that say what a run waits for before it starts."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from engine.errors import Problem
from engine.i18n import _
from engine.workspace import Workspace

if TYPE_CHECKING:
    from engine.run.state import Wait


def add(parser: argparse.ArgumentParser) -> None:
    """Add them to the parser of a verb that starts a run."""
    group = parser.add_argument_group(_("the queue"))
    group.add_argument("--after", metavar="RUN", help=_("start when that run has finished"))
    group.add_argument(
        "--even-if-it-fails",
        action="store_true",
        help=_("with --after: start however that run ends"),
    )
    group.add_argument(
        "--when-free",
        action="store_true",
        help=_("start when nobody holds memory on the GPUs"),
    )


def wait(args: argparse.Namespace, workspace: Workspace) -> Wait | None:
    """What was asked for; None: start at once. Raises `Problem` for a run that is not there."""
    from engine.run.listing import open_run
    from engine.run.state import Wait

    if args.even_if_it_fails and not args.after:
        raise Problem(
            _("--even-if-it-fails needs a run"),
            _("It says how the run given with --after may end."),
            _("Add --after RUN."),
        )
    if not args.after and not args.when_free:
        return None
    return Wait(
        after=str(open_run(workspace, args.after).path) if args.after else "",
        needs="end" if args.even_if_it_fails else "success",
        free=args.when_free,
    )
