"""What the config pane says: titles, hints, help. No widget knows these sentences."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.text import Text

from engine.config.known.field_table import find
from engine.config.known.setting import Known
from engine.config.text.written import in_effect
from engine.dataset.called import called, called_shortly
from engine.i18n import _, ngettext
from engine.text import clean, one_line
from engine.workspace import Workspace
from tui.widgets.cells import tail

if TYPE_CHECKING:
    from engine.config.known.fields import Field
    from engine.config.preflight import Report
    from engine.errors import Problem
    from tui.panes.config.opened import OpenConfig


MOST_USED = 3
"""Values told of those that a setting had in earlier runs."""
_ON_A_LINE = 64
"""Cells of a change that stands on one line of a dialog, on a screen of 80 cells."""
_VALUE = 28
"""Cells of such a value."""
_WRAPPING = 14
"""Cells that breaking lines between words may cost in two lines, and the gap between."""


def welcome(workspace: Workspace) -> Text:
    """For a workspace with no config yet: what to do, and which key does it."""
    text = Text(_("A config says what is trained, on which data, and how."), style="bold")
    text.append("\n\n")
    lines = [
        ("n", _("new config from the catalogue: XTuner's own and Tunedeck's")),
        ("o", _("open a config that you have")),
    ]
    for key, meaning in lines:
        text.append(f"  {key}  ", "bold").append(meaning + "\n", "not bold")
    return text.append("\n" + copy_note(workspace), "not bold")


def copy_note(workspace: Workspace) -> str:
    """What a new config will train on."""
    data = workspace.last().data
    if data:
        name = one_line(called(Path(data), workspace))
        return _("It will be pointed at the dataset that is open: {name}").format(name=name)
    return _("No dataset is open (F2): the new config keeps the data of the one it is copied from.")


def first_hint(workspace: Workspace) -> str:
    """The next step while no config is open."""
    data = workspace.last().data
    if data:
        name = one_line(called_shortly(Path(data)))
        return _("n  new config from the catalogue, for {name}").format(name=name)
    return _("n  new config from the catalogue")


def hint(report: Report | None, data: str) -> str:
    """The next step while the form is shown.

    Args:
        report: what preflight found in the config as it is now, if it has looked.
        data: the dataset that is open and that the config does not train on.
    """
    if data:
        name = one_line(called_shortly(Path(data)))
        return _("a  train on {name}, the dataset that is open").format(name=name)
    if report is None:
        return _("p  preflight: will it run?      Enter  edit")
    if report.ok:
        return _("t  train with this")
    if any(finding.fix for finding in report.findings):
        return _("Tab  to the findings, Enter there puts one right")
    return _("Enter  edit what the findings speak of      p  preflight")


def title(config: OpenConfig, workspace: Workspace) -> Text:
    """The file, where it comes from, how much was changed."""
    text = Text(" " + one_line(workspace.relative(config.path)), style="bold")
    if config.gone:
        text.append("   " + _("deleted: W writes it again"), "bold red")
    if config.was:
        count = len(config.was)
        words = ngettext("{count} change (d)", "{count} changes (d)", count).format(count=count)
        text.append("   " + words, "not bold")
    if config.origin_name:
        words = _("from {name}").format(name=one_line(config.origin_name))
        text.append("   " + words, "not bold")
    return text


def wrong(problem: Problem) -> Text:
    """Why a value was not taken."""
    return Text("✗ " + one_line(str(problem), marks=False))


def changes(config: OpenConfig) -> list[Text | str]:
    """Settings that differ from the origin, then the same as lines of the file."""
    if config.origin is None:
        return [_("This config does not say which one it was copied from.")]
    lines: list[Text | str] = []
    for name, was in config.was.items():
        before, now = (one_line(code) or "–" for code in (was, config.source.code_of(name)))
        title = Text(one_line(name), "bold")
        if title.cell_len + cell_len(before) + cell_len(now) > _ON_A_LINE:
            lines += [title, f"  {before}", f"→ {now}"]
        else:
            lines.append(Text.assemble(title, f"  {before} → {now}"))
    lines.append("")
    colours = {"+": "green", "-": "red", "@": "cyan"}
    diff = config.source.diff(config.origin, config.path.name, config.origin_name)
    return lines + [Text(clean(line), style=colours.get(line[:1], "")) for line in diff]


def field_help(
    field: Field,
    was: str | None,
    line: int,
    draft: str | None,
    used: Sequence[tuple[str, int]] = (),
) -> Text:
    """Meaning, effects, range, where it is set, what else changes with it, what it was.

    Args:
        field: the setting.
        was: its code in the config's origin, when it was changed.
        line: cells of a line in a panel of two, which gets the facts that fit; 0: no limit.
        draft: a value that was typed and not taken.
        used: its values in the workspace's runs, each with how many had it.
    """
    meaning = one_line(field.help) or _("A setting of this config; Tunedeck does not know it.")
    facts = [one_line(fact) for fact in _facts(field, was, draft, used)]
    if line:
        return Text.assemble(meaning, "  ", (_fitting(facts, 2 * line - cell_len(meaning)), "dim"))
    text = Text.assemble((one_line(field.name) + "\n", "bold"), meaning, "\n")
    for label, effect in effect_lines(field):
        text.append(f"\n{label}: ", "bold").append(one_line(effect), "not bold")
    return text.append("\n\n" + "\n".join(facts), "dim not bold")


def _fitting(facts: Sequence[str], cells: int) -> str:
    """As many of the facts as fit, and that there are more."""
    for count in range(len(facts), 0, -1):
        shown = " · ".join([*facts[:count], *(["…"] if count < len(facts) else [])])
        if cell_len(shown) <= cells - _WRAPPING:
            return shown
    return "…" if facts else ""


def effect_lines(field: Field) -> Iterator[tuple[str, str]]:
    """What the setting does to memory, speed and quality; one line when it does nothing."""
    labels = {"memory": _("Memory"), "speed": _("Speed"), "quality": _("Quality")}
    for name, effect in field.effects.items():
        yield labels[name], effect
    if field.help and not field.effects:
        yield _("Effect"), _("none on memory, speed or quality.")


def about(field: Field, was: str | None, used: Sequence[tuple[str, int]] = ()) -> list[Text | str]:
    """All that is known of a setting, for a screen of its own."""
    lines: list[Text | str] = [one_line(field.help), ""] if field.help else []
    lines += [f"{label}: {one_line(effect)}" for label, effect in effect_lines(field)]
    lines += ["", *(one_line(fact) for fact in _facts(field, was, None, used))]
    return [*lines, "", *(Text(clean(line), style="dim") for line in field.code.splitlines())]


def _facts(
    field: Field, was: str | None, draft: str | None, used: Sequence[tuple[str, int]]
) -> Iterator[str]:
    if draft is not None:
        yield _("Typed, not taken: {text}").format(text=draft)
    known = find(field.name)
    if known and (values := usual(known)):
        yield _("Usual: {values}").format(values=values)
    if was is not None:
        yield _("Was {value}").format(value=was or _("not set"))
    if used and "/" not in field.code:  # another run's paths are no advice
        values = ", ".join(f"{_short(value)} ({count}×)" for value, count in used[:MOST_USED])
        yield _("In your runs: {values}").format(values=values)
    effective = in_effect(field)
    if effective:
        yield _("In effect: {value}").format(value=effective)
    if not field.line:
        yield _("Not set: {default}").format(default=field.default)
    else:
        yield _("Line {line}").format(line=field.line)
    if field.also:
        yield _("Also changes {names}").format(names=_few(field.also))
    if not field.literal:
        yield _("An expression, edited as code")


def _short(code: str) -> str:
    """A value as it is written, on so few cells that others have room beside it."""
    return tail(" ".join(code.split()), _VALUE)


def _few(names: Sequence[str], most: int = 4) -> str:
    shown = ", ".join(names[:most])
    rest = len(names) - most
    if rest <= 0:
        return shown
    return ngettext("{names} and {n} more", "{names} and {n} more", rest).format(
        names=shown, n=rest
    )


def usual(known: Known) -> str:
    """The usual values of a setting; "" where none are known."""
    if known.choices:
        return ", ".join(known.choices)
    if known.low is None or known.high is None:
        return ""
    return f"{_typed(known.low)} … {_typed(known.high)}"


def _typed(value: float) -> str:
    """A number as a person types it: 1048576 and 1e-6, not 1.04858e+06 and 1e-06."""
    if value == int(value):
        return str(int(value))
    return re.sub(r"e-0*", "e-", f"{value:g}")
