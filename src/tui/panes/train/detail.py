"""The chosen run in full: where it stands, its curve, its GPUs, its log."""

from __future__ import annotations

import getpass
from collections.abc import Sequence
from typing import ClassVar, get_args

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widgets import Input

from engine.i18n import N_, _, ngettext
from engine.text import one_line
from tui.panes.train.curves import METRICS, following, series
from tui.panes.train.observer import Curve, Look, Run
from tui.panes.train.words import figures, gauges, head
from tui.widgets.chart import Chart
from tui.widgets.gauge import GaugeLine
from tui.widgets.log_lines import Only
from tui.widgets.log_view import LogView
from tui.widgets.strips import Line

_KEPT = 200_000
"""Lines of a log that can be scrolled through."""
_GAUGES = 4
_ONLY = {
    "all": N_("all lines"),
    "warnings": N_("warnings and errors only"),
    "errors": N_("errors only"),
}


class FindLine(Input):
    """Where the text to find in the log is typed; Escape ends the search."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "end_search", N_("End the search"), show=False, id="find.end")
    ]

    def action_end_search(self) -> None:
        """Give up; the owner knows by the empty text."""
        self.value = ""
        self.post_message(self.Submitted(self, ""))


class RunLog(LogView, inherit_bindings=False):
    """The log here: left and right move it, for ``l`` launches a run wherever the focus is."""

    BINDINGS: ClassVar[list[BindingType]] = [
        *(
            binding
            for binding in LogView.BINDINGS
            if isinstance(binding, Binding) and binding.id not in ("log.left", "log.right")
        ),
        Binding("left", "sideways(-1)", N_("Left"), show=False, id="log.left"),
        Binding("right", "sideways(1)", N_("Right"), show=False, id="log.right"),
    ]


class RunDetail(Vertical):
    """Draws what `see` and `log` bring, and only what has changed in it."""

    DEFAULT_CSS = """
    RunDetail {
        height: 1fr;
        & > Chart { height: 1fr; min-height: 3; max-height: 14; }
        & > #log-line { color: $text-muted; }
        & > FindLine {
            display: none; height: 1; border: none; padding: 0 1; background: $boost;
        }
        & > FindLine:focus { border: none; background: $boost; }
        & > LogView { height: 2fr; min-height: 6; }
        & > GaugeLine { display: none; color: $text-muted; }
        & > GaugeLine.-used { display: block; }
        &.-finding > #log-line { display: none; }
        &.-finding > FindLine { display: block; }
    }
    RunDetail.-short > Chart { height: 4; }
    RunDetail.-short > LogView { height: 1fr; }
    """

    def __init__(self) -> None:
        super().__init__(id="run")
        self._user = getpass.getuser()
        self._metric = "loss"
        self._only: Only = "all"
        self._drawn: tuple[object, ...] = ()
        self._found = ""
        self._curves: dict[str, Curve] = {}
        self._names: list[tuple[str, str]] = []

    def compose(self) -> ComposeResult:
        """Head, figures, chart, gauges, the log under a line that says what it shows."""
        yield Line(id="head")
        yield Line(id="figures", classes="dim")
        yield Chart(id="chart")
        for number in range(_GAUGES):
            yield GaugeLine(id=f"gauge-{number}")
        yield Line(id="log-line")
        field = FindLine(placeholder=_("find in the log"), select_on_focus=True)
        field.cursor_blink = False
        yield field
        yield RunLog(_KEPT, id="log")

    def on_mount(self) -> None:
        """Say from the first frame on what the log shows."""
        self.watch(self.query_one(LogView), "follow", self._say_log)

    # What the pane calls

    def see(self, run: Run, look: Look, compared: Sequence[Run]) -> None:
        """Show `run` as it is in `look`; `compared` lie under its curve."""
        left, right = head(run)
        self.query_one("#head", Line).say(left, right)
        shown = run.summary.dir
        if look.progress is not None and look.shown == shown:
            curve = look.curves.get(shown)
            self.query_one("#figures", Line).say(figures(look.progress, curve))
            self._gauge(gauges(look.gpus, look.record, self._user) if run.living else [])
        self._curves = look.curves
        self._names = [
            (one.summary.dir, one.summary.run)
            for one in (run, *compared)
            if one.summary.dir in look.curves
        ]
        self._draw_chart()

    def other_run(self) -> None:
        """Another run was chosen: nothing of the last one stays."""
        self.query_one("#figures", Line).say("")
        self.query_one(LogView).clear()
        self._say_log()

    def add_log(self, lines: Sequence[str], first: bool) -> None:
        """Add lines to the log; `first` begins it anew."""
        view = self.query_one(LogView)
        if first:
            view.clear()
        view.append(lines)

    # What the pane's keys do

    def next_metric(self) -> None:
        """Draw another quantity."""
        shown = self._curves.get(self._names[0][0]) if self._names else None
        self._metric = following(self._metric, shown)
        self._draw_chart()

    def find(self) -> None:
        """Type what to find, where the line about the log stands."""
        self.add_class("-finding")
        self.query_one(FindLine).focus()

    def next_filter(self) -> None:
        """All lines, then warnings and errors, then errors."""
        kinds: tuple[Only, ...] = get_args(Only)
        self._only = kinds[(kinds.index(self._only) + 1) % len(kinds)]
        self.query_one(LogView).only(self._only)
        self._say_log()

    def toggle_follow(self) -> None:
        """Follow the end of the log, or hold it still."""
        view = self.query_one(LogView)
        if view.follow:
            view.follow = False
        else:
            view.action_follow()

    # Inside

    def _draw_chart(self) -> None:
        lines = [(_title(name, self._metric), self._curves[folder]) for folder, name in self._names]
        drawn = (self._metric, *((name, id(curve)) for name, curve in lines))
        if drawn != self._drawn:
            self._drawn = drawn
            self.query_one(Chart).show(series(lines, self._metric))

    def _gauge(self, lines: Sequence[str]) -> None:
        for number, line in enumerate(self.query(GaugeLine)):
            used = number < len(lines)
            line.set_class(used, "-used")
            if used:
                more = len(lines) - _GAUGES if number == _GAUGES - 1 else 0
                line.show(lines[number] + (f"  (+{more})" if more > 0 else ""))

    def _say_log(self) -> None:
        view = self.query_one(LogView)
        follow = _("follows its end") if view.follow else _("held still, f follows")
        said = " · ".join(part for part in (_(_ONLY[self._only]), self._found or follow) if part)
        self.query_one("#log-line", Line).say(
            " " + _("log: {what}").format(what=said), _("/ find  w filter ")
        )

    @on(Input.Submitted)
    def _find(self, event: Input.Submitted) -> None:
        event.stop()
        count = self.query_one(LogView).search(event.value)
        self._found = ""
        if event.value:
            words = ngettext("{count} line with “{text}”", "{count} lines with “{text}”", count)
            self._found = words.format(count=count, text=one_line(event.value)[:24])
            self._found += _(" (n next, N before)") if count else ""
        self.remove_class("-finding")
        self.query_one(LogView).focus()
        self._say_log()


def _title(run: str, metric: str) -> str:
    return f"{_(METRICS[metric])} {one_line(run)}"
