"""``tunedeck train | logs | stop | kill``."""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from engine.cli import launcher_options, queue_options, run_lines
from engine.cli.gpu_option import gpu_ids
from engine.cli.output import Output
from engine.errors import Problem
from engine.i18n import _

if TYPE_CHECKING:
    from engine.config.preflight import Report
    from engine.run.folder import RunFolder
    from engine.run.planning import LaunchPlan


def add(
    verbs: argparse._SubParsersAction[argparse.ArgumentParser], common: argparse.ArgumentParser
) -> None:
    """Add the verbs' parsers."""
    train = verbs.add_parser("train", parents=[common], help=_("start a run"))
    train.add_argument("config", type=Path, nargs="?", metavar="FILE", help=_("the config"))
    train.add_argument(
        "--like", metavar="RUN", help=_("in place of FILE: that run's config, GPUs and DeepSpeed")
    )
    train.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        dest="values",
        metavar="KEY=VALUE",
        help=_("with --like: another value for a setting (may be repeated)"),
    )
    train.add_argument(
        "--work-dir", type=Path, metavar="DIR", help=_("the run's folder (default: runs/NAME)")
    )
    train.add_argument("--name", help=_("the run's name (default: made from the config's)"))
    train.add_argument(
        "--gpus",
        type=gpu_ids,
        metavar="0,1",
        help=_("which GPUs, or 'cpu' (default: the one with the most free memory)"),
    )
    train.add_argument(
        "--deepspeed", metavar="STAGE", help=_("1, 2, 3, 2_offload, 3_offload, or a JSON file")
    )
    launcher_options.add(train)
    queue_options.add(train)
    train.add_argument(
        "--attach", action="store_true", help=_("show the log; Ctrl-C leaves, the run goes on")
    )
    train.add_argument(
        "--then-export",
        action="store_true",
        help=_("when it has succeeded, make a checked model of its last checkpoint"),
    )
    train.add_argument(
        "--no-preflight", action="store_true", help=_("start without checking config and data")
    )
    train.set_defaults(run=_train)

    logs = verbs.add_parser("logs", parents=[common], help=_("a run's raw log"))
    logs.add_argument("name", metavar="RUN", help=_("a run's name or folder"))
    logs.add_argument("-f", "--follow", action="store_true", help=_("go on until the run ends"))
    logs.add_argument("--errors", action="store_true", help=_("errors and tracebacks only"))
    logs.set_defaults(run=_logs)

    for verb, function, words in (
        ("stop", _stop, _("save a checkpoint, then end")),
        ("kill", _kill, _("end every process now")),
    ):
        parser = verbs.add_parser(verb, parents=[common], help=words)
        parser.add_argument("name", metavar="RUN", help=_("a run's name or folder"))
        parser.set_defaults(run=function)


def _train(args: argparse.Namespace, out: Output) -> int:
    if (args.config is None) == (args.like is None) or (args.values and args.like is None):
        raise Problem(
            _("Give either a config or a run like which to train"),
            _("--set changes settings of the run given with --like."),
            _("`tunedeck config set FILE KEY=VALUE` changes a config file."),
        )
    if args.like is None:
        return _start(args, out, args.config)
    from engine.joined import run_configs
    from engine.run.listing import open_run

    run = open_run(out.workspace(), args.like)
    with tempfile.TemporaryDirectory(prefix="tunedeck-") as folder:
        config, changes = run_configs.like(run, args.values, Path(folder))
        for one in changes:
            out.say(f"{one.name}: {one.before or '–'} → {one.after or '–'}")
        return _start(args, out, config, like=run)


def _start(
    args: argparse.Namespace, out: Output, config: Path, like: RunFolder | None = None
) -> int:
    """Check and start; `like`: the run whose devices are taken where none are named."""
    from engine.run import launch, planning

    workspace = out.workspace()
    known = like.record if like is not None else None
    plan = planning.plan(
        config,
        source=like.config if like is not None else None,
        workspace=workspace,
        settings=out.settings,
        name=args.name,
        work_dir=args.work_dir,
        gpus=known.gpus if args.gpus is None and known is not None else args.gpus,
        deepspeed=known.deepspeed if args.deepspeed is None and known else args.deepspeed,
        launcher=args.launcher,
        nodes=args.nodes,
        slurm=launcher_options.slurm(args, out.settings),
        wait=queue_options.wait(args, workspace),
        then_export=args.then_export,
    )
    if not args.no_preflight:
        from engine.joined import before_start

        report = _preflight(plan, out)
        if not report.ok:
            return 1
        plan = before_start.expecting(plan, report)
    run = launch.start(plan, out.settings)
    waits = run.summary().waits
    started: dict[str, object] = {"run": run.name, "dir": str(run.path), "pid": run.state.pid}
    started |= {"waits": waits} if waits else {}
    started |= {"job": run.job} if plan.launcher == "slurm" else {}
    started |= {"lines": plan.lines} if plan.lines else {}

    def lines() -> Iterator[str]:
        said = (
            _("{run} waits ({waits}) in {folder}") if waits else _("{run} has started in {folder}")
        )
        yield said.format(run=run.name, folder=workspace.relative(run.path), waits=waits)
        yield plan.shown
        yield from run_lines.others(plan.lines)

    out.result(started, lines)
    if not args.attach:
        return 1 if run.state.state == "failed" else 0
    return attend(run, out)


def _preflight(plan: LaunchPlan, out: Output) -> Report:
    """Check config and data as the run would use them; say what was found."""
    from engine.cli.preflight_verbs import report_lines
    from engine.joined import before_start

    report = before_start.look(plan, out.settings, out.progress(_("Preflight")))
    for line in report_lines(report):
        out.say(line)
    if not report.ok:
        out.say(_("Nothing was started. Correct this, or add --no-preflight."))
    return report


def attend(run: RunFolder, out: Output) -> int:
    """Show the run's log until it ends; its end decides the exit status."""
    try:
        _print_log(run, out, follow=True, errors=False)
    except KeyboardInterrupt:
        out.say(
            _("The run goes on without you. `tunedeck logs -f {run}` shows it again.").format(
                run=run.name
            )
        )
        return 130
    summary = run.summary()
    out.result([summary], lambda: run_lines.whole(summary))
    return 0 if summary.state in ("finished", "stopped") else 1


def _logs(args: argparse.Namespace, out: Output) -> int:
    from engine.run.listing import open_run

    run = open_run(out.workspace(), args.name)
    awaited = args.follow and run.state.living  # one in the queue gets its log when it starts
    if not run.log.is_file() and not awaited:
        raise Problem(
            _("The run {run} has no log").format(run=run.name),
            _("{path} is not there.").format(path=run.log),
        )
    _print_log(run, out, follow=args.follow, errors=args.errors)
    return 0


def _print_log(run: RunFolder, out: Output, follow: bool, errors: bool) -> None:
    from engine.run.log import ErrorLines, LogFollower

    follower = LogFollower(run.log)
    keep = ErrorLines()

    def show(lines: Iterable[str]) -> None:
        for line in lines:
            if not errors or keep(line):
                out.result({"line": line}, lambda line=line: [line])  # type: ignore[misc]

    while True:
        living = follow and run.state.living
        show(follower.all())
        if not living:
            break
        if not out.has_reader():  # head, say: the next line may be hours away
            raise BrokenPipeError
        time.sleep(0.2)
    if follower.rest():
        show([follower.rest()])


def _stop(args: argparse.Namespace, out: Output) -> int:
    from engine.run import control
    from engine.run.listing import open_run

    run = open_run(out.workspace(), args.name)
    now = control.stop(run)
    word = _("{run} saves a checkpoint after its present step, then ends.")
    if not now.living:
        word = _("{run} has ended.")
    out.result({"run": run.name, "state": now.state}, lambda: [word.format(run=run.name)])
    return 0


def _kill(args: argparse.Namespace, out: Output) -> int:
    from engine.run import control
    from engine.run.listing import open_run

    run = open_run(out.workspace(), args.name)
    now = control.kill(run)
    word = _("{run} has ended; no process of it is left.")
    out.result({"run": run.name, "state": now.state}, lambda: [word.format(run=run.name)])
    return 0
