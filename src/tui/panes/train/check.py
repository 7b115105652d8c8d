"""The preflight in a few words; the Config pane shows all of it, with its fixes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.text import Text

from engine.errors import Problem
from engine.i18n import _, ngettext
from engine.machine.gpu import Gpu
from engine.run.planning import LaunchPlan
from engine.settings import Settings
from engine.text import duration, one_line
from tui.panes.base import say_everywhere
from tui.panes.train.launch_words import memory_line

if TYPE_CHECKING:
    from engine.config.checks.findings import Finding
    from engine.config.preflight import Report

_SHOWN = 2
"""Findings that are named."""
_LEVELS = {"error": ("✗ ", "red"), "warning": ("! ", "yellow")}
"""The mark and the colour of what is grave; what is not has none."""


@dataclass(frozen=True)
class Check:
    """What the preflight said; or what kept it from saying anything."""

    report: Report | None = None
    trouble: Problem | None = None

    @property
    def errors(self) -> int:
        """How many findings would end the run."""
        if self.report is None:
            return 1
        return sum(finding.level == "error" for finding in self.report.findings)


def check(plan: LaunchPlan, settings: Settings) -> Check:
    """Run the preflight for `plan`. Takes seconds."""
    from engine.joined import before_start

    return Check(before_start.look(plan, settings))


def check_words(found: Check, gpus: Sequence[Gpu] = ()) -> Text:
    """One line of verdict, what it needs of `gpus`, then the worst findings."""
    if found.report is None:
        why = "" if found.trouble is None else str(found.trouble)
        words = _("preflight could not look: {why}").format(why=one_line(why))
        return Text.assemble(("! " + words, "yellow"))
    report = found.report
    text = Text()
    warnings = sum(finding.level == "warning" for finding in report.findings)
    if found.errors:
        words = ngettext("{count} error", "{count} errors", found.errors)
        text.append("✗ " + words.format(count=found.errors), "red")
    else:
        text.append("✓ " + _("nothing stands in its way"), "green")
    if warnings:
        words = ngettext("{count} warning", "{count} warnings", warnings)
        text.append("  ! " + words.format(count=warnings), "yellow")
    if report.samples and report.steps:
        facts = _("{samples} samples → {steps} steps")
        text.append("   " + facts.format(samples=report.samples, steps=report.steps))
    if report.seconds is not None:
        time, run = duration(report.seconds), one_line(report.seconds_like or "")
        text.append("   " + _("≈ {time}, as {run} went").format(time=time, run=run))
    if report.estimate is not None and gpus:
        text.append("\n  ").append_text(memory_line(report.estimate.gpu_bytes, gpus))
    grave = [one for one in _worst_first(report) if one.level != "info"]
    for finding in grave[:_SHOWN]:
        text.append("\n  " + one_line(finding.what, marks=False))
    return text


def findings(found: Check) -> list[Text]:
    """All that was found, each with why it matters and what to do; [] for nothing."""
    if found.report is None:
        lines = [] if found.trouble is None else found.trouble.lines()
        return [Text(one_line(line, marks=False)) for line in lines]
    said: list[Text] = []
    for one in _worst_first(found.report):
        mark, style = _LEVELS.get(one.level, ("", ""))
        what = Text.assemble((mark, style), (one_line(one.what, marks=False), "bold"))
        told = (one.why, one.told(say_everywhere).todo)
        rest = (one_line(part, marks=False) for part in told if part)
        said += [what, *map(Text, rest), Text()]
    return said[:-1]


def _worst_first(report: Report) -> list[Finding]:
    order = [*_LEVELS, "info"]
    return sorted(report.findings, key=lambda one: order.index(one.level))
