"""The chosen run in full: where it stands, its curve, its GPUs, its log."""

from __future__ import annotations

import getpass
import time
from collections.abc import Callable, Iterable, Sequence
from operator import is_
from pathlib import Path
from typing import ClassVar

from rich.text import Text
from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.message import Message

from engine.i18n import N_, _
from engine.run.state import Expected
from tui.dialogs.reading import Reading
from tui.panes.base import Reporting
from tui.panes.train.curves import following, levels, series, sources
from tui.panes.train.observer import Curve, Look, Run
from tui.panes.train.over_time import answer_lines, checkpoint_lines
from tui.panes.train.run_log import RunLog
from tui.panes.train.words import GAUGES, figures, gauges, head
from tui.widgets.chart import Chart
from tui.widgets.gauge import GaugeLine
from tui.widgets.strips import Line

_REDRAWN = 4.0
"""Seconds from one drawing of a growing curve to the next."""

SEEN_KEYS: list[BindingType] = [
    Binding("m", "see('metric')", N_("curve"), id="train.metric"),
    Binding("x", "see('big')", N_("chart in full"), show=False, id="train.big"),
    Binding("v", "see('save')", N_("save the chart"), show=False, id="train.save"),
    Binding(
        "d", "see('differences')", N_("config differences"), show=False, id="train.differences"
    ),
    Binding("a", "see('answers')", N_("answers over time"), show=False, id="train.answers"),
    Binding("p", "see('checkpoints')", N_("checkpoints"), show=False, id="train.checkpoints"),
    Binding("y", "see('log-scale')", N_("log scale"), show=False, id="train.log-scale"),
    Binding("e", "see('smooth')", N_("smooth"), show=False, id="train.smooth"),
    Binding("f", "see('follow')", N_("follow the log"), show=False, id="train.follow"),
    Binding("slash", "see('find')", N_("find in the log"), show=False, id="train.find"),
    Binding(
        "w", "see('filter')", N_("warnings, errors, evaluation"), show=False, id="train.filter"
    ),
    Binding("W", "see('rank')", N_("one rank of the log"), show=False, id="train.rank"),
]
"""The pane's keys for how the chosen run is shown; see `RunDetail.see_otherwise`."""

_OF_THE_LOG = frozenset(("follow", "find", "filter", "rank"))
"""What of `SEEN_KEYS` the log does."""


class RunDetail(Reporting, Vertical):
    """Draws what `see` and `log` bring, and only what has changed in it."""

    DEFAULT_CSS = """
    RunDetail {
        height: 1fr;
        overflow: hidden auto; scrollbar-size: 0 0;  /* on a low screen to what has the focus */
        & > Chart { height: 1fr; min-height: 3; max-height: 14; }
        & > RunLog { height: 2fr; min-height: 7; }
        & > GaugeLine { display: none; color: $text-muted; }
        & > GaugeLine.-used { display: block; }
    }
    RunDetail.-short > Chart { height: 4; }
    RunDetail.-short > RunLog { height: 1fr; min-height: 4; }
    RunDetail.-big > Chart { height: 1fr; max-height: 100%; }
    RunDetail.-big > RunLog { display: none; }
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "toggle_big", N_("all parts"), id="train.all-parts")
    ]

    class Big(Message):
        """The chart wants all the room there is, or gives it back."""

        def __init__(self, on: bool) -> None:
            super().__init__()
            self.on = on

    def __init__(self, charts: Path) -> None:
        """`charts`: the folder that a chart is saved into."""
        super().__init__(id="run")
        self._charts = charts
        self._user = getpass.getuser()
        self._folder = ""
        self._metric = "loss"
        self._expected: Expected | None = None
        self._what: object = None
        self._seen: list[object] = []
        self._drawn_at = 0.0
        self._curves: dict[str, Curve] = {}
        self._names: list[tuple[str, str]] = []

    def compose(self) -> ComposeResult:
        """Head, figures, chart, gauges, the log under a line that says what it shows."""
        yield Line(id="head")
        yield Line(id="figures", classes="dim")
        yield Chart(id="chart")
        for number in range(GAUGES):
            yield GaugeLine(id=f"gauge-{number}")
        yield RunLog()

    def on_descendant_blur(self) -> None:
        """On a low screen it was scrolled to what had the focus: the head comes back."""
        self.call_after_refresh(self._back_to_the_head)

    def _back_to_the_head(self) -> None:
        focused = self.app.focused
        if focused is None or self not in focused.ancestors:
            self.scroll_home(animate=False)

    @property
    def log_part(self) -> RunLog:
        """The log, for the keys that act on it."""
        return self.query_one(RunLog)

    # What the pane calls

    def see(self, run: Run, look: Look, compared: Sequence[Run]) -> None:
        """Show `run` as it is in `look`; `compared` lie under its curve."""
        left, right = head(run, self.size.width)
        self.query_one("#head", Line).say(left, right)
        shown = run.summary.dir
        if look.progress is not None and look.shown == shown:
            curve = look.curves.get(shown)
            self._expected = look.record.expected if look.record is not None else None
            words = figures(look.progress, curve, self._expected, self.size.width)
            self.query_one("#figures", Line).say(words)
            self._gauge(gauges(look.gpus, look.record, self._user) if run.living else [])
        self.log_part.begun(run.summary.started is not None)
        self._curves = look.curves
        self._names = [
            (one.summary.dir, one.summary.run)
            for one in (run, *compared)
            if one.summary.dir in look.curves
        ]
        self._draw_chart()

    def other_run(self, folder: str) -> None:
        """The run in `folder` was chosen: nothing of the last one stays."""
        self._folder, self._expected = folder, None
        self.query_one(Chart).forget_part()
        self.query_one("#figures", Line).say("")
        self.log_part.open(folder)

    # What the pane's keys do

    def see_otherwise(self, what: str) -> None:
        """Do what one of `SEEN_KEYS` says."""
        chart, log = self.query_one(Chart), self.log_part
        acts: dict[str, Callable[[], object]] = {
            "metric": self.next_metric,
            "log-scale": chart.action_log,
            "smooth": chart.action_smooth,
            "follow": log.toggle_follow,
            "find": log.find,
            "filter": log.next_filter,
            "rank": log.next_rank,
            "big": self.action_toggle_big,
            "save": self.save_chart,
            "differences": self._read_differences,
            "answers": lambda: self._read(_("Answers over time"), answer_lines),
            "checkpoints": lambda: self._read(_("Checkpoints"), checkpoint_lines),
        }
        if what in _OF_THE_LOG and self.has_class("-big"):
            self.action_toggle_big()  # nobody sees what becomes of the log behind the chart
        acts[what]()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Escape leads back from the chart alone, and is the pane's otherwise."""
        return action != "toggle_big" or self.has_class("-big")

    def action_toggle_big(self) -> None:
        """The chart alone, with its own keys, or all parts again."""
        big = not self.has_class("-big")
        self.set_class(big, "-big")
        if big:
            self.query_one(Chart).focus()
        self.refresh_bindings()
        self.post_message(self.Big(big))

    @work(thread=True, exclusive=True, group="save", exit_on_error=False)
    def save_chart(self) -> None:
        """Write what is drawn as CSV, SVG and PNG into the workspace, and say where."""
        from tui.panes.train.chart_files import save

        shown = self.query_one(Chart).shown
        if shown.whole is None:
            said = _("There is no value to save yet.")
        else:
            saved = save(self._charts, shown)
            names = ", ".join([f"{saved.path}{saved.endings[0]}", *saved.endings[1:]])
            said = "\n".join([_("Saved: {names}").format(names=names), saved.lack]).rstrip()
        self.app.call_from_thread(self.notify, said, markup=False, timeout=8)

    def next_metric(self) -> None:
        """Draw another quantity."""
        shown = self._curves.get(self._names[0][0]) if self._names else None
        self._metric = following(self._metric, shown)
        self._draw_chart()

    # Inside

    @work(thread=True, exclusive=True, group="read", exit_on_error=False)
    def _read(self, title: str, lines: Callable[[Path], Iterable[str | Text]]) -> None:
        """Show what `lines` reads of the run's folder."""
        if self._folder:
            screen = Reading(title, lines(Path(self._folder)))
            self.app.call_from_thread(self.app.push_screen, screen)

    def _read_differences(self) -> None:
        from tui.panes.train.compared import difference_lines  # brings the config's reader

        folders = [Path(folder) for folder, _name in self._names]
        self._read(_("Config differences"), lambda _folder: difference_lines(folders))

    def _lines(self) -> list[tuple[str, Curve]]:
        return [(name, self._curves[folder]) for folder, name in self._names]

    def _draw_chart(self) -> None:
        runs = self._lines()
        of_runs = [(name, bool(curve.gpu.taken)) for name, curve in runs]
        what = (self._metric, of_runs, self._expected)
        seen = [one for _name, curve in runs for one in sources(curve, self._metric)]
        same = len(seen) == len(self._seen) and all(map(is_, seen, self._seen))
        now = time.monotonic()
        # Another run or quantity (or its first samples) at once; a step more once the last
        # drawing is a while ago, for each costs a kilobyte.
        if what == self._what and (same or now - self._drawn_at < _REDRAWN):
            return
        self._what, self._seen, self._drawn_at = what, seen, now
        chart = self.query_one(Chart)
        chart.show(series(runs, self._metric), levels(runs, self._metric, self._expected))

    def _gauge(self, lines: Sequence[str]) -> None:
        for number, line in enumerate(self.query(GaugeLine)):
            used = number < len(lines)
            line.set_class(used, "-used")
            if used:
                line.show(lines[number])
