"""What the config pane says: titles, hints, help. No widget knows these sentences."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from rich.text import Text

from engine.config.field_table import BY_NAME, Known
from engine.i18n import _, ngettext
from engine.text import clean, one_line
from engine.workspace import Workspace

if TYPE_CHECKING:
    from engine.config.preflight import Report
    from engine.config.source import Field
    from engine.errors import Problem
    from tui.panes.config.opened import OpenConfig


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
        name = one_line(workspace.relative(Path(data)))
        return _("It will be pointed at the dataset that is open: {name}").format(name=name)
    return _("No dataset is open (F2): the new config keeps the data of the one it is copied from.")


def first_hint(workspace: Workspace) -> str:
    """The next step while no config is open."""
    data = workspace.last().data
    if data:
        name = one_line(Path(data).name)
        return _("n  new config from the catalogue, for {name}").format(name=name)
    return _("n  new config from the catalogue")


def hint(report: Report | None, data: str) -> str:
    """The next step while the form is shown.

    Args:
        report: what preflight found in the config as it is now, if it has looked.
        data: the dataset that is open and that the config does not train on.
    """
    if data:
        name = one_line(Path(data).name)
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
    return Text("✗ " + one_line("  ".join(problem.lines()), marks=False))


def changes(config: OpenConfig) -> list[Text | str]:
    """Settings that differ from the origin, then the same as lines of the file."""
    if config.origin is None:
        return [_("This config does not say which one it was copied from.")]
    lines: list[Text | str] = []
    for name, was in config.was.items():
        now = one_line(config.source.code(name))
        lines.append(Text.assemble((one_line(name), "bold"), f"  {one_line(was) or '–'} → {now}"))
    lines.append("")
    colours = {"+": "green", "-": "red", "@": "cyan"}
    diff = config.source.diff(config.origin, config.path.name, config.origin_name)
    return lines + [Text(clean(line), style=colours.get(line[:1], "")) for line in diff]


def field_help(field: Field, was: str | None, short: bool, draft: str | None) -> Text:
    """Meaning, range, where it is set, what it was.

    Args:
        field: the setting.
        was: its code in the config's origin, when it was changed.
        short: for a panel of two lines.
        draft: a value that was typed and not taken.
    """
    meaning = one_line(field.help) or _("A setting of this config; Tunedeck does not know it.")
    facts = [one_line(fact) for fact in _facts(field, was, draft)]
    if short:
        return Text.assemble(meaning, "  ", (" · ".join(facts), "dim"))
    name = (one_line(field.name) + "\n", "bold")
    return Text.assemble(name, meaning, "\n\n", ("\n".join(facts), "dim"))


def _facts(field: Field, was: str | None, draft: str | None) -> Iterator[str]:
    if draft is not None:
        yield _("Typed, not taken: {text}").format(text=draft)
    known = BY_NAME.get(field.name)
    usual = _usual(known) if known else ""
    if usual:
        yield _("Usual: {values}").format(values=usual)
    if was is not None:
        yield _("Was {value}").format(value=was or _("not set"))
    effective = _effective(field)
    if effective:
        yield _("In effect: {value}").format(value=effective)
    yield _("Line {line}").format(line=field.line)
    if not field.literal:
        yield _("An expression, edited as code")


def _usual(known: Known) -> str:
    if known.choices:
        return ", ".join(known.choices)
    if known.low is None or known.high is None:
        return ""
    return f"{known.low:g} … {known.high:g}"


def _effective(field: Field) -> str:
    """The value where a later line or a name makes it another than is written."""
    if not field.literal:
        return ""
    try:
        written = ast.literal_eval(field.code)
    except (ValueError, SyntaxError):
        return repr(field.value)
    return "" if written == field.value else repr(field.value)
