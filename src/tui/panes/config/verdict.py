"""The panel at the bottom: preflight, what it found, and what the run will take."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.text import Text
from textual import events, on, work
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.message import Message
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from engine.errors import Problem
from engine.i18n import N_, _
from engine.settings import Settings
from engine.workspace import Workspace
from tui.panes.base import as_problem
from tui.panes.config import verdict_words
from tui.panes.config.rows import worst
from tui.widgets.gauge import bar
from tui.widgets.strips import Line

if TYPE_CHECKING:
    from engine.config.checks.findings import Finding, Fix
    from engine.config.preflight import Report
    from tui.panes.config.opened import OpenConfig


class Findings(OptionList):
    """One line a finding; Enter takes its fix, or goes to the setting that it speaks of."""

    BINDINGS = [
        Binding("j", "cursor_down", N_("down"), show=False, id="findings.down"),
        Binding("k", "cursor_up", N_("up"), show=False, id="findings.up"),
    ]


class Verdict(Vertical):
    """Two lines of summary and the list of findings. Runs preflight, changes nothing itself."""

    class Changed(Message):
        """Preflight began or ended; `problem` when it could not be done."""

        def __init__(self, problem: Problem | None = None) -> None:
            super().__init__()
            self.problem = problem

    class At(Message):
        """The cursor is on this finding now."""

        def __init__(self, finding: Finding) -> None:
            super().__init__()
            self.finding = finding

    class FixWanted(Message):
        """Enter was pressed on a finding that has a fix."""

        def __init__(self, fix: Fix) -> None:
            super().__init__()
            self.fix = fix

    class FieldWanted(Message):
        """Enter was pressed on a finding that is about a setting."""

        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

    class _Stage(Message):
        def __init__(self, done: int, total: int) -> None:
            super().__init__()
            self.done, self.total = done, total

    class _Found(Message):
        def __init__(self, finding: Finding) -> None:
            super().__init__()
            self.finding = finding

    class _Ended(Message):
        def __init__(self, config: OpenConfig, result: Report | Problem) -> None:
            super().__init__()
            self.config, self.result = config, result

    def __init__(self, workspace: Workspace, settings: Settings) -> None:
        super().__init__()
        self.workspace, self.settings = workspace, settings
        self._looked_at: OpenConfig | None = None  # by the look under way
        self._next: OpenConfig | None = None  # to look at afterwards
        self._report: Report | None = None
        self._path: Path | None = None
        self._checked = ""  # the text that the report is about
        self._findings: list[Finding] = []
        self._early: list[Finding] = []  # of the look under way

    def compose(self) -> ComposeResult:
        """The summary, the facts (with the memory's parts, where there is room), the findings."""
        yield Line(id="verdict-summary")
        yield Line(id="verdict-facts")
        yield Line(id="verdict-parts")
        yield Findings(id="verdict-findings", markup=False)

    # What the pane asks

    @property
    def checking(self) -> bool:
        """Whether preflight looks at the config that is open, or will in a moment."""
        return self._of_this(self._looked_at) or self._of_this(self._next)

    @property
    def finding(self) -> Finding | None:
        """The finding under the cursor, while the list has the focus."""
        at = self.query_one(Findings).highlighted
        if not self._focused or at is None or at >= len(self._findings):
            return None
        return self._findings[at]

    @property
    def read(self) -> bool:
        """Whether the list of findings has the focus and something in it."""
        return bool(self._findings) and self._focused

    @property
    def _focused(self) -> bool:
        """Whether keys go to the list now; `has_focus` is told to it a moment later."""
        return self.screen.focused is self.query_one(Findings)

    @property
    def levels(self) -> dict[str, str]:
        """The worst level found for each setting that findings speak of."""
        levels: dict[str, str] = {}
        for finding in self._findings:
            if finding.field:
                levels[finding.field] = worst(levels.get(finding.field, ""), finding.level)
        return levels

    def report_on(self, text: str) -> Report | None:
        """What preflight found in the config `text`, if it has looked at exactly that."""
        return self._report if self._checked == text else None

    def about(self, path: Path) -> None:
        """Speak of the config at `path`; what was found in another one is forgotten."""
        if path != self._path:
            self._path = path
            self._report, self._checked, self._findings, self._early = None, "", [], []

    def show(self, text: str) -> None:
        """Show what is known of a config whose text is `text` now."""
        facts, more = (self.query_one(f"#verdict-{name}", Line) for name in ("facts", "parts"))
        found = self._report.findings if self._report else []
        self._list(self._early if self.checking and self._early else found)
        known, parts = verdict_words.facts(self._report) if self._report else ("", "")
        more.display = bool(parts) and self.screen.has_class("-high")
        if not more.display:
            known = verdict_words.SEPARATOR.join(filter(None, (known, parts)))
        facts.display = bool(known)
        facts.say(" " + known)
        more.say(" " + parts)
        if self._report is not None:
            self._say(verdict_words.summary(self._report, stale=self._checked != text))
        else:
            words = _("not checked yet: p looks at paths, data, steps, memory, disk")
            self._say(Text(" " + words, style="dim"))

    def _of_this(self, config: OpenConfig | None) -> bool:
        """Whether `config` is the one that is open, whatever its text."""
        return config is not None and config.path == self._path

    def _list(self, found: Sequence[Finding]) -> None:
        findings = self.query_one(Findings)
        at = findings.highlighted or 0
        self._findings = list(found)
        findings.clear_options()
        findings.add_options(Option(verdict_words.line(one)) for one in found)
        findings.display = bool(found)
        if found:
            findings.highlighted = min(at, len(found) - 1)

    def _say(self, summary: Text) -> None:
        if not self.checking:
            self.query_one("#verdict-summary", Line).say(summary)

    # Preflight

    def check(self, config: OpenConfig) -> None:
        """Look at `config`, after the look under way unless that is at just this text."""
        if not self.checking:
            self._progress(0, 1)
        if self._looked_at is None:
            self._looked_at, self._early = config, []
            self._check(config)
        else:
            self._next = config
        self.post_message(self.Changed())

    @work(thread=True, group="preflight", exit_on_error=False)
    def _check(self, config: OpenConfig) -> None:
        from engine.config.preflight import preflight
        from engine.joined.own_runs import OwnRuns
        from engine.joined.rows import Rows

        def progress(done: int, total: int) -> None:
            self.post_message(self._Stage(done, total))

        def found(finding: Finding) -> None:
            self.post_message(self._Found(finding))

        result: Report | Problem
        try:
            result = preflight(
                config.path,
                settings=self.settings,
                progress=progress,
                found=found,
                data=Rows(self.settings, self.workspace.cache),
                past=OwnRuns(self.workspace),
            )
        except Problem as problem:
            result = problem
        except Exception as error:
            result = as_problem(error)
        self.post_message(self._Ended(config, result))

    @on(_Found)
    def _show_found(self, event: _Found) -> None:
        """What is cheap to see comes first, while the tokens are still being counted."""
        if self._of_this(self._looked_at):
            self._early.append(event.finding)
            self._list(self._early)

    @on(_Stage)
    def _show_stage(self, event: _Stage) -> None:
        if self._of_this(self._looked_at):
            self._progress(event.done, event.total)

    def _progress(self, done: int, total: int) -> None:
        line = self.query_one("#verdict-summary", Line)
        line.say(f" {_('preflight')} {bar(done, total, 8)}")

    @on(_Ended)
    def _show_end(self, event: _Ended) -> None:
        looked_at, later = event.config, self._next
        self._looked_at = self._next = None
        problem = None
        if self._of_this(looked_at):  # else another config is open by now
            if isinstance(event.result, Problem):
                problem, self._report, self._checked = event.result, None, ""
            else:
                self._report, self._checked = event.result, looked_at.source.text
        self.post_message(self.Changed(problem))
        if later is not None and self._of_this(later):
            seen = later.path == looked_at.path and later.source.text == looked_at.source.text
            if not seen:
                self.check(later)

    # The list

    @on(OptionList.OptionHighlighted)
    def _moved(self, event: OptionList.OptionHighlighted) -> None:
        event.stop()
        self._tell()

    def on_descendant_focus(self, _event: events.DescendantFocus) -> None:
        """The findings are read now."""
        self._tell()

    def _tell(self) -> None:
        finding = self.finding
        if finding is not None:
            self.post_message(self.At(finding))

    @on(OptionList.OptionSelected)
    def _chosen(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        finding = self.finding
        if finding is not None and finding.fix is not None:
            self.post_message(self.FixWanted(finding.fix))
        elif finding is not None and finding.field:
            self.post_message(self.FieldWanted(finding.field))
