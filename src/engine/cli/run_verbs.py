"""``tunedeck train | runs | logs | stop | kill``."""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from engine import text
from engine.cli import launcher_options
from engine.cli.output import Output
from engine.errors import Problem
from engine.i18n import _

if TYPE_CHECKING:
    from engine.run.folder import RunFolder, RunSummary
    from engine.run.launch import LaunchPlan

MARKS = {
    "queued": "⏸",
    "starting": "◌",
    "training": "◐",
    "stopping": "◑",
    "finished": "✓",
    "failed": "✗",
    "stopped": "■",
    "lost": "?",
}


def add(
    verbs: argparse._SubParsersAction[argparse.ArgumentParser], common: argparse.ArgumentParser
) -> None:
    """Add the verbs' parsers."""
    train = verbs.add_parser("train", parents=[common], help=_("start a run"))
    train.add_argument("config", type=Path, metavar="FILE", help=_("the config"))
    train.add_argument(
        "--work-dir", type=Path, metavar="DIR", help=_("the run's folder (default: runs/NAME)")
    )
    train.add_argument("--name", help=_("the run's name (default: made from the config's)"))
    train.add_argument(
        "--gpus",
        type=gpu_numbers,
        metavar="0,1",
        help=_("which GPUs, or 'cpu' (default: the one with the most free memory)"),
    )
    train.add_argument(
        "--deepspeed", metavar="STAGE", help=_("1, 2, 3, 2_offload, 3_offload, or a JSON file")
    )
    launcher_options.add(train)
    train.add_argument(
        "--attach", action="store_true", help=_("show the log; Ctrl-C leaves, the run goes on")
    )
    train.add_argument(
        "--no-preflight", action="store_true", help=_("start without checking config and data")
    )
    train.set_defaults(run=_train)

    runs = verbs.add_parser("runs", parents=[common], help=_("list runs, or show one"))
    runs.add_argument("name", nargs="?", metavar="RUN", help=_("a run's name or folder"))
    runs.set_defaults(run=_runs)

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


def gpu_numbers(text: str) -> list[int]:
    """GPUs as a person gives them (``0,1``, ``cpu``)."""
    if text in ("cpu", "none", ""):
        return []
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        message = _("numbers with commas between them, as in 0,1 (or cpu)")
        raise argparse.ArgumentTypeError(message) from None


def _train(args: argparse.Namespace, out: Output) -> int:
    from engine.run import launch

    workspace = out.workspace()
    plan = launch.plan(
        args.config,
        workspace=workspace,
        settings=out.settings,
        name=args.name,
        work_dir=args.work_dir,
        gpus=args.gpus,
        deepspeed=args.deepspeed,
        launcher=args.launcher,
        nodes=args.nodes,
        slurm=launcher_options.slurm(args, out.settings),
    )
    if not args.no_preflight and not _preflight(plan, out):
        return 1
    run = launch.start(plan, out.settings)
    started: dict[str, object] = {"run": run.name, "dir": str(run.path), "pid": run.state.pid}
    started |= {"job": run.job} if plan.launcher == "slurm" else {}
    started |= {"lines": plan.lines} if plan.lines else {}

    def lines() -> Iterator[str]:
        yield _("{run} has started in {folder}").format(
            run=run.name, folder=workspace.relative(run.path)
        )
        yield plan.shown
        if plan.lines:
            yield _("Start this on the other nodes:")
            yield from plan.lines[1:]

    out.result(started, lines)
    if not args.attach:
        return 1 if run.state.state == "failed" else 0
    return attend(run, out)


def _preflight(plan: LaunchPlan, out: Output) -> bool:
    """Check config and data as the run would use them; say what was found."""
    from engine.cli.preflight_verbs import report_lines
    from engine.config.preflight import preflight
    from engine.joined import Rows
    from engine.own_runs import OwnRuns

    report = preflight(
        plan.config,
        settings=out.settings,
        gpus=plan.gpus,
        elsewhere=plan.launcher == "slurm",
        deepspeed=plan.deepspeed or None,
        work_dir=plan.dir,
        data=Rows(out.settings, out.workspace().cache),
        past=OwnRuns(out.workspace()),
        progress=out.progress(_("Preflight")),
    )
    for line in report_lines(report):
        out.say(line)
    if not report.ok:
        out.say(_("Nothing was started. Correct this, or add --no-preflight."))
    return report.ok


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
    out.result([summary], lambda: _one(summary))
    return 0 if summary.state in ("finished", "stopped") else 1


def _runs(args: argparse.Namespace, out: Output) -> int:
    from engine.run.folder import list_runs, open_run

    if args.name is not None:
        summary = open_run(out.workspace(), args.name).summary()
        out.result([summary], lambda: _one(summary))
        return 1 if summary.state in ("failed", "lost") else 0
    found = [_summary(run, out) for run in list_runs(out.workspace())]
    summaries = [one for one in found if one is not None]
    out.result(summaries, lambda: map(_short, summaries))
    return 0


def _summary(run: RunFolder, out: Output) -> RunSummary | None:
    """The run in short; a broken folder is told of, and must not hide the others."""
    try:
        return run.summary()
    except Problem as problem:
        out.say(str(problem))
        return None


def _short(summary: RunSummary) -> str:
    from engine.run.state import spoken

    parts = [MARKS[summary.state], summary.run, spoken(summary.state), _steps(summary)]
    parts += [f"loss {summary.loss:.4f}"] if summary.loss is not None else []
    parts += [summary.reason] if summary.reason else []
    parts += [f"! {alarm}" for alarm in summary.alarms]
    return "  ".join(parts)


def _steps(summary: RunSummary) -> str:
    return f"{summary.step}/{summary.steps if summary.steps is not None else '?'}"


def _one(summary: RunSummary) -> Iterator[str]:
    yield _short(summary)
    if summary.todo:
        yield "   " + summary.todo
    yield "   " + summary.dir
    if summary.job:
        yield "   " + _("job {job} of Slurm").format(job=summary.job)
    if summary.host and summary.host != platform.node():
        yield "   " + _("on {host}").format(host=summary.host)
    if summary.started is not None:
        began = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(summary.started))
        took = (summary.ended or time.time()) - summary.started
        yield "   " + _("since {time}, {took}").format(time=began, took=text.duration(took))
    for one in summary.checkpoints:
        loss = "" if one.loss is None else f"loss {one.loss:.4f}"
        half = "" if one.complete else _("half written")
        parts = (one.path.name, text.size(one.bytes), loss, half)
        yield "   " + "  ".join(part for part in parts if part)


def _logs(args: argparse.Namespace, out: Output) -> int:
    from engine.run.folder import open_run

    run = open_run(out.workspace(), args.name)
    if not run.log.is_file():
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
        time.sleep(0.2)
    if follower.rest():
        show([follower.rest()])


def _stop(args: argparse.Namespace, out: Output) -> int:
    from engine.run import control
    from engine.run.folder import open_run

    run = open_run(out.workspace(), args.name)
    now = control.stop(run)
    word = _("{run} saves a checkpoint after its present step, then ends.")
    if not now.living:
        word = _("{run} has ended.")
    out.result({"run": run.name, "state": now.state}, lambda: [word.format(run=run.name)])
    return 0


def _kill(args: argparse.Namespace, out: Output) -> int:
    from engine.run import control
    from engine.run.folder import open_run

    run = open_run(out.workspace(), args.name)
    now = control.kill(run)
    word = _("{run} has ended; no process of it is left.")
    out.result({"run": run.name, "state": now.state}, lambda: [word.format(run=run.name)])
    return 0
