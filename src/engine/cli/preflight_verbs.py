"""The verb ``preflight``: everything that can be known before a GPU is touched."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from engine.cli import flags
from engine.cli.gpu_option import gpu_ids
from engine.cli.output import Output
from engine.i18n import _

if TYPE_CHECKING:
    from engine.config.checks.count import Counted, Data, Order
    from engine.config.checks.findings import Finding
    from engine.config.preflight import Report

_MARKS = {"error": "✗", "warning": "!", "info": "·"}


def add(
    verbs: argparse._SubParsersAction[argparse.ArgumentParser], common: argparse.ArgumentParser
) -> None:
    """Add this module's verb."""
    flight = verbs.add_parser(
        "preflight", parents=[common], help=_("check everything before a GPU is touched")
    )
    flight.add_argument("file", metavar="FILE", type=Path, help=_("the config"))
    flight.add_argument("--gpus", metavar="0,1", type=gpu_ids, help=_("the GPUs to use"))
    flight.add_argument(
        "--deepspeed", metavar="STAGE", help=_("1, 2, 3, 2_offload, 3_offload, or a JSON file")
    )
    flight.add_argument("--work-dir", metavar="D", type=Path, help=_("where the run writes"))
    flight.add_argument(
        "--quick", action="store_true", help=_("only what needs no tokenizer: a second or two")
    )
    flight.set_defaults(run=_preflight)


def _preflight(args: argparse.Namespace, out: Output) -> int:
    from engine.config.checks import loaded

    with loaded.warm(out.settings) as worker:
        worker.start()  # it imports what it needs while we do
        from engine.config.preflight import preflight
        from engine.joined.own_runs import OwnRuns
        from engine.run import planning

        workspace = out.workspace()
        report = preflight(
            args.file,
            settings=out.settings,
            gpus=args.gpus,
            deepspeed=args.deepspeed,
            work_dir=args.work_dir or planning.folder(workspace, args.file),
            quick=args.quick,
            progress=out.progress(_("Preflight")),
            found=lambda one: _tell(one, out),
            data=_Later(out),
            past=OwnRuns(workspace),
            worker=worker,
        )
    told = [one.told(flags.say) for one in report.findings]
    out.result(replace(report, findings=told), lambda: facts(report))
    return 0 if report.ok else 1


class _Later:
    """`engine.joined.Rows`, imported at the first row: the cheap checks come before."""

    def __init__(self, out: Output) -> None:
        self._out = out

    def _rows(self) -> Data:
        from engine.joined.rows import Rows

        return Rows(self._out.settings, self._out.cache())

    def rows(self, path: Path, shape: str) -> list[Finding]:
        """See `engine.config.checks.count.Data`."""
        return self._rows().rows(path, shape)

    def count(self, order: Order) -> Counted:
        """See `engine.config.checks.count.Data`."""
        return self._rows().count(order)


def _tell(finding: Finding, out: Output) -> None:
    """A finding is shown the moment it is made: what is cheap to see comes first."""
    if not out.json:
        out.lines(finding_lines(finding))


def finding_lines(one: Finding) -> Iterator[str]:
    """A finding for a plain terminal."""
    yield f"{_MARKS[one.level]} {one.what}  [{one.code}]"
    yield from (f"  {line}" for line in (one.why, one.told(flags.say).todo) if line)


def report_lines(report: Report) -> Iterator[str]:
    """A whole report for a plain terminal."""
    for one in report.findings:
        yield from finding_lines(one)
    yield from facts(report)


def facts(report: Report) -> Iterator[str]:
    """What the run will take, and the verdict."""
    from engine import text

    if report.steps is not None:
        yield _("{samples} samples, {steps} steps").format(
            samples=report.samples, steps=report.steps
        )
    if report.estimate is not None:
        parts = ", ".join(
            f"{name} {text.size(size)}" for name, size in report.estimate.parts.items() if size
        )
        yield _("GPU memory about {peak}; {size} should be free ({parts})").format(
            peak=text.size(report.estimate.allocated_bytes),
            size=text.size(report.estimate.gpu_bytes),
            parts=parts,
        )
    if report.disk_bytes is not None:
        yield _("disk {size}").format(size=text.size(report.disk_bytes))
    if report.seconds is not None:
        yield _("about {time}, as {run} went").format(
            time=text.duration(report.seconds), run=text.one_line(report.seconds_like or "")
        )
    yield _("Ready to train.") if report.ok else _("Not ready: see the lines with ✗.")
