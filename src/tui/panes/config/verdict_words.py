"""What preflight found, in words: a line a finding, a summary, the facts of the run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from engine.i18n import N_, _, ngettext, sentences
from engine.text import duration, one_line, size
from tui.panes.config.field_table import LEVEL_MARKS

if TYPE_CHECKING:
    from engine.config.checks.findings import Finding
    from engine.config.preflight import Report

PARTS = {
    "weights": N_("weights"),
    "adapter": N_("adapter"),
    "gradients": N_("gradients"),
    "optimizer": N_("optimizer"),
    "logits": N_("logits"),
    "activations": N_("activations"),
    "attention": N_("attention"),
    "buffers": N_("buffers"),
    "correction": N_("own runs"),
    "overhead": N_("overhead"),
}
SEPARATOR = "  ·  "
STYLES = {"error": "red", "warning": "yellow", "info": ""}


def summary(report: Report, stale: bool) -> Text:
    """Whether it will run, and how many findings there are.

    Args:
        report: what preflight found.
        stale: whether the config was changed since.
    """
    levels = [finding.level for finding in report.findings]
    errors, warnings = levels.count("error"), levels.count("warning")
    parts = Text(" ")
    if report.ok:
        parts.append("✓ " + _("this config will run"), "green")
    else:
        words = ngettext("{count} error", "{count} errors", errors).format(count=errors)
        parts.append("✗ " + words, "red")
    if warnings:
        words = ngettext("{count} warning", "{count} warnings", warnings).format(count=warnings)
        parts.append("   ").append("! " + words, "yellow")
    if stale:
        parts.append("   " + _("(as it was before the last edit: p checks again)"), "dim")
    return parts


def facts(report: Report) -> tuple[str, str]:
    """Samples, steps, memory, time and disk, as far as they are known; and the memory's parts."""
    known = []
    if report.samples is not None and report.steps is not None:
        samples = ngettext("{n:,} sample", "{n:,} samples", report.samples)
        steps = ngettext("{n:,} step", "{n:,} steps", report.steps)
        known.append(f"{samples.format(n=report.samples)} → {steps.format(n=report.steps)}")
    if report.estimate is not None:
        peak, free = size(report.estimate.allocated_bytes), size(report.estimate.gpu_bytes)
        known.append(_("GPU ≈ {peak}, needs {free} free").format(peak=peak, free=free))
    if report.seconds is not None:
        time, run = duration(report.seconds), one_line(report.seconds_like or "")
        known.append(_("≈ {time}, as {run} went").format(time=time, run=run))
    if report.disk_bytes is not None:
        known.append(_("disk {size}").format(size=size(report.disk_bytes)))
    parts = ""
    if report.estimate is not None:
        biggest = sorted(report.estimate.parts.items(), key=lambda part: -part[1])
        named = [f"{_(PARTS.get(name, name))} {size(count)}" for name, count in biggest if count]
        parts = _("on the GPU: {parts}").format(parts=", ".join(named))
    return SEPARATOR.join(known), parts


def line(finding: Finding) -> Text:
    """A finding on one line: its level, what it is, and what Enter does or why it is."""
    text = Text(no_wrap=True, overflow="ellipsis")
    text.append(LEVEL_MARKS.get(finding.level, " ") + " ", STYLES.get(finding.level, ""))
    text.append(one_line(finding.what, marks=False))
    fix = fix_words(finding)
    if fix:
        text.append(f"  [{fix}]", "bold")
    elif finding.why:
        text.append("  " + one_line(finding.why, marks=False), "dim")
    return text


def fix_words(finding: Finding) -> str:
    """What Enter does about `finding`; empty when there is no fix."""
    fix = finding.fix
    if fix is None:
        return ""
    field = one_line(fix.field)
    if fix.rename:
        return _("Enter: rename {field} to {name}").format(field=field, name=one_line(fix.rename))
    return _("Enter: {field} = {value}").format(field=field, value=one_line(str(fix.value)))


def finding_help(finding: Finding, short: bool) -> Text:
    """Why it matters and what to do, for the help panel."""
    rest = [one_line(finding.why, marks=False), one_line(finding.todo, marks=False)]
    fix = fix_words(finding)
    if short:
        said = "  ".join(filter(None, (sentences(*rest), fix)))
        return Text(said or one_line(finding.what, marks=False))
    text = Text(one_line(finding.what, marks=False), style="bold")
    return text.append("".join(f"\n\n{part}" for part in (*rest, fix) if part), "not bold")


def finding_hint(finding: Finding) -> str:
    """The next step while the cursor is on `finding`."""
    if finding.fix is not None:
        return _("Enter  put this right, save, and look again")
    if finding.field:
        return _("Enter  to the setting that this is about")
    return _("Tab  back to the settings")
