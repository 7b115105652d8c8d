"""``tunedeck resume``: go on from a checkpoint, with what differs said first."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from engine.cli import queue_options, run_lines
from engine.cli.gpu_option import gpu_ids
from engine.cli.output import Output
from engine.cli.run_verbs import attend
from engine.i18n import _

if TYPE_CHECKING:
    from engine.joined.resuming import Resumption
    from engine.run.folder import RunFolder


def add(
    verbs: argparse._SubParsersAction[argparse.ArgumentParser], common: argparse.ArgumentParser
) -> None:
    """Add the verb's parser."""
    resume = verbs.add_parser("resume", parents=[common], help=_("go on from a checkpoint"))
    # --set takes all that follows it: `_resume` looks there for a name that stands nowhere else.
    resume.add_argument("name", metavar="RUN", nargs="?", help=_("a run's name or folder"))
    resume.add_argument(
        "--checkpoint",
        metavar="PATH",
        type=Path,
        help=_("where to go on (default: the newest whole one)"),
    )
    resume.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        dest="values",
        metavar="KEY=VALUE",
        help=_("change a setting of the config (may be repeated)"),
    )
    resume.add_argument(
        "--gpus",
        type=gpu_ids,
        metavar="0,1",
        help=_("which GPUs, or 'cpu' (default: those of the last start)"),
    )
    resume.add_argument(
        "--dry-run", action="store_true", help=_("say what would differ; start nothing")
    )
    resume.add_argument(
        "--attach", action="store_true", help=_("show the log; Ctrl-C leaves, the run goes on")
    )
    resume.add_argument(
        "--now", action="store_true", help=_("start a queued run without waiting any more")
    )
    queue_options.add(resume)
    resume.set_defaults(run=_resume, wrong=resume.error)


def _resume(args: argparse.Namespace, out: Output) -> int:
    from engine.joined import resuming, run_configs
    from engine.run import control, nodes, state
    from engine.run.listing import open_run

    workspace = out.workspace()
    run = open_run(workspace, _name(args))
    checkpoint = _checkpoint(run, args.checkpoint)
    config = run_configs.changed(run, args.values).text if args.values else None
    found = resuming.resume_differences(run, config, checkpoint=checkpoint, gpus=args.gpus)
    if args.dry_run:
        out.result(found, lambda: _lines(found))
        return 1 if resuming.in_the_way(found) else 0
    for line in _lines(found):
        out.say(line)
    resuming.refuse(found)
    run = control.resume(
        run,
        out.settings,
        checkpoint=found.checkpoint,
        config=config,
        gpus=args.gpus,
        wait=queue_options.wait(args, workspace),
        now=args.now,
    )
    now = run.state
    word = _("{run} goes on.") if now.living else _("{run} has ended.")
    document = {"run": run.name, "state": now.state} | {
        name: getattr(found, name) for name in ("checkpoint", "step", "differences", "notes")
    }
    record = state.read_record(run.path)
    typed = nodes.lines(record, run.path) if record is not None else []
    document |= {"lines": typed} if typed else {}
    out.result(document, lambda: [word.format(run=run.name), *run_lines.others(typed)])
    if args.attach:
        return attend(run, out)
    return 1 if now.state == "failed" else 0


def _name(args: argparse.Namespace) -> str:
    """The run's name; one that stands behind the settings is taken out of them."""
    if args.name is None:
        # Without '=' the last one is no setting. The first one is what --set was written for.
        if len(args.values) < 2 or "=" in args.values[-1]:
            args.wrong("the following arguments are required: RUN")  # as argparse says it
        args.name = args.values.pop()
    name: str = args.name
    return name


def _lines(found: Resumption) -> Iterator[str]:
    from engine.config.known.resuming import spoken

    steps = "?" if found.steps is None else found.steps
    if found.checkpoint is None:
        yield _("{run} never left the queue: it starts from nothing").format(run=found.run)
    else:
        yield _("{run} goes on after step {step} of {steps}, from {checkpoint}").format(
            run=found.run, step=found.step, steps=steps, checkpoint=found.checkpoint.name
        )
    for one in found.differences:
        change = f"{one.before or '–'} → {one.after or '–'}" if one.before or one.after else ""
        said = spoken(one.effect) + (f": {one.text}" if one.text else "")
        mark = "✗" if one.effect == "refused" else "·"
        yield "  ".join(part for part in (mark, one.name, change, said) if part)
    yield from found.notes


def _checkpoint(run: RunFolder, given: Path | None) -> Path | None:
    """A checkpoint as a person names it: a path, or the name it has in the run's folder."""
    if given is None or given.exists() or given.is_absolute():
        return given
    inside = run.path / given
    return inside if inside.exists() else given
