"""The shell: five tabs, what the machine does, what the next step is, every key.

It knows the panes only by name and talks to them by messages (`tui.panes.base`).
"""

from __future__ import annotations

import importlib
import os
from collections import deque
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len
from rich.console import RenderableType
from rich.text import Text
from textual import on, work
from textual._compositor import CompositorUpdate
from textual.app import ComposeResult
from textual.binding import Binding
from textual.filter import LineFilter
from textual.message import Message
from textual.screen import Screen
from textual.widgets import ContentSwitcher, Input, Rule, Static
from textual.worker import Worker, WorkerState

from engine import i18n, settings
from engine.errors import Problem, Way
from engine.i18n import N_, _
from engine.run.state import LIVING, MARKS
from engine.settings import Settings
from engine.text import clean, one_line
from engine.workspace import Workspace
from tui.endings import leave_when_told
from tui.keeping import Keeping
from tui.noticing import Happened, Noticing
from tui.overlays import NOTICES, Overlays
from tui.panes.base import Pane, as_problem, in_keys_line
from tui.safety import NoColours, NoControls
from tui.steady import Steady
from tui.theme import choose_theme, register_themes
from tui.thrift import Shown
from tui.watch import Sight, Watch, look_at_runs
from tui.widgets.strips import Line, keys_line, machine_line, run_line, tabs_line

if TYPE_CHECKING:
    from engine.run.folder import RunSummary

TABS: dict[str, str] = {
    "data": N_("Data"),
    "config": N_("Config"),
    "train": N_("Train"),
    "export": N_("Export"),
    "chat": N_("Chat"),
}
"""The journey, left to right: a pane's name and its title."""

KEY_NAMES = {
    "question_mark": "?",
    "slash": "/",
    "enter": "Enter",
    "space": "Space",
    "escape": "Esc",
    "tab": "Tab",
    "pageup": "PgUp",
    "pagedown": "PgDn",
    "home": "Home",
    "end": "End",
}
"""How keys are written on keyboards, where Textual writes them otherwise."""

_WAYS: dict[Way, str] = {"export": N_("F5 shows it in Export; there c chooses the checkpoint.")}
"""What the shell has for what is to be done, wherever the user is."""
_TROUBLE_EDGES = 3
"""Cells beside the words of the line of trouble."""


class Tunedeck(Overlays):
    """The app on one workspace."""

    CSS_PATH = ["app.tcss", "panes/data/data.tcss"]
    AUTO_FOCUS = None  # else the first field swallows every single-letter key
    ENABLE_COMMAND_PALETTE = True
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (100, "-wide")]
    VERTICAL_BREAKPOINTS = [(0, "-low"), (18, "-short"), (32, "-high")]
    BINDINGS = [
        # Before all others, for it works in dialogs, too.
        Binding("f1", "keys", N_("keys"), id="app.keys", priority=True),
        Binding("question_mark", "keys", N_("keys"), id="app.keys-too"),
        *(
            Binding(f"f{index + 2},{index + 1}", f"tab('{name}')", title, id=f"app.{name}")
            for index, (name, title) in enumerate(TABS.items())
        ),
        Binding("f7", "notices", N_("notices"), id="app.notices"),
        Binding("f8", "machine", N_("machine"), id="app.machine"),
        Binding("ctrl+t", "change_theme", N_("theme"), id="app.theme"),
        Binding("f12", "redraw", N_("draw the screen anew"), show=False, id="app.redraw"),
        Binding("f9", "language", N_("language"), id="app.language"),
        Binding("escape", "put_away", N_("put the message away"), show=False, id="app.put_away"),
        Binding("ctrl+q,q", "quit", N_("quit"), id="app.quit", priority=False),
    ]

    class Seen(Message):
        """The watch has looked; only the newest look counts."""

        def __init__(self, sight: Sight) -> None:
            super().__init__()
            self.sight = sight

        def can_replace(self, message: Message) -> bool:
            """A newer look replaces one that still waits."""
            return isinstance(message, Tunedeck.Seen)

    def __init__(self, workspace: Workspace, chosen: Settings) -> None:
        super().__init__()
        self.workspace = workspace
        self.chosen = chosen
        self.sight: Sight | None = None
        self.current = self.workspace.last().tab or "data"
        self.notices: deque[tuple[datetime, Problem]] = deque(maxlen=NOTICES)
        self._panes: dict[str, Pane] = {}
        self._shown = Shown()
        self._steady = Steady()
        self._machine: Sight | None = None  # as it is shown, which `sight` tells exactly
        self._theme_kept = choose_theme(chosen.theme)
        self._keeping = Keeping(workspace.keep)
        self._watch = Watch(
            workspace,
            seen=lambda sight: self.post_message(self.Seen(sight)),
            trouble=lambda problem: self.post_message(Pane.Trouble(problem)),
            runs=Noticing(workspace, self.post_message).look,
        )

    # -- layout ---------------------------------------------------------------

    def compose(self) -> ComposeResult:
        """Lines above and below, the panes between; a pane is mounted when first shown."""
        yield Line(id="machine")
        yield Line(id="tabs")
        yield Rule(id="rule", line_style="solid")
        yield ContentSwitcher(id="panes")
        yield Static(id="trouble", markup=False)
        yield Line(id="next")
        yield Line(id="keys")
        yield Line(id="status")

    async def on_mount(self) -> None:
        """Show the pane that was open last, then start to look around."""
        self.title = "Tunedeck"
        register_themes(self)
        self.theme = self._theme_kept
        self.app_resume_signal.subscribe(self, lambda _app: self.action_redraw())
        self.screen.bindings_updated_signal.subscribe(self, lambda _screen: self._draw_keys())
        if not self.is_headless:
            leave_when_told(self)
        await self._show(self.current)
        self._keeping.start()
        self._watch.start()

    def exit(
        self,
        result: int | None = None,
        return_code: int = 0,
        message: RenderableType | None = None,
    ) -> None:
        """The end, by whatever way: what the panes were about to tell is noted first."""
        for pane in self._panes.values():
            if pane.is_mounted and (values := pane.untold()):
                self._note(**values)
        super().exit(result, return_code, message)

    def on_unmount(self) -> None:
        """Nothing looks or works any more; what is open is written down."""
        from engine.worker import client

        self._watch.stop()
        client.stop_all()  # the threads that wait for them would be waited for
        self._keeping.close()

    def get_line_filters(self) -> Sequence[LineFilter]:
        """Textual's own filters (NO_COLOR: ours) and the fence against control characters."""
        if os.environ.get("NO_COLOR"):
            return [NoColours(), NoControls()]
        return [*super().get_line_filters(), NoControls()]

    def _display(self, screen: Screen[object], renderable: RenderableType | None) -> None:
        """Textual's one way to the terminal: what it shows already is not sent again."""
        if isinstance(renderable, CompositorUpdate):
            renderable = self._shown.of(renderable, self.size)
        super()._display(screen, renderable)

    def get_key_display(self, binding: Binding) -> str:
        """A key as it is written on keyboards: F1, ?, ^P."""
        key = binding.key_display or binding.key
        if key in KEY_NAMES:
            return KEY_NAMES[key]
        if key[0] == "f" and key[1:].isdigit():
            return key.upper()
        if key.startswith("ctrl+") and len(key) == len("ctrl+x"):
            return f"^{key[-1].upper()}"
        return super().get_key_display(binding)

    # -- tabs -----------------------------------------------------------------

    async def _show(self, name: str) -> None:
        if name not in self._panes:
            module = importlib.import_module(f"tui.panes.{name}")
            pane: Pane = module.PANE(self.workspace, self.chosen)
            self._panes[name] = pane
            await self.query_one("#panes", ContentSwitcher).add_content(pane)
        self.current = name
        self.query_one("#panes", ContentSwitcher).current = name
        pane = self._panes[name]
        pane.activate()
        home = pane.home()
        if home is not None:
            home.focus()
        self._draw_lines()

    async def action_tab(self, name: str) -> None:
        """Go to a step of the journey."""
        await self._show(name)
        self._note(tab=name)

    def _note(self, **opened: str | list[str]) -> None:
        self.workspace.opened(**opened)
        self._keeping.soon()

    @on(Pane.Go)
    async def _go(self, event: Pane.Go) -> None:
        await self.action_tab(event.tab)

    @on(Pane.Opened)
    def _opened(self, event: Pane.Opened) -> None:
        self._note(**event.values)
        self._watch.look_now()
        self._draw_lines()

    # -- lines ----------------------------------------------------------------

    @on(Seen)
    def _seen(self, event: Seen) -> None:
        self.sight = event.sight
        self._machine = self._steady.of(event.sight)
        self._draw_lines()

    @on(Pane.HintChanged)
    def _hint_changed(self) -> None:
        self._draw_lines()

    def _draw_lines(self) -> None:
        if not self.query("#machine"):
            return  # a message that came late: the screen is being taken down
        width = self.size.width
        place = f" Tunedeck  {one_line(self.workspace.root.name)}/"
        machine = machine_line(self._machine, width - cell_len(place) - 2) if self._machine else ""
        self.query_one("#machine", Line).say(place, machine)
        badges = self._badges()
        titles = [(_(title), badges.get(name, "")) for name, title in TABS.items()]
        at = list(TABS).index(self.current)
        self.query_one("#tabs", Line).say(tabs_line(titles, at, width))
        pane = self._panes.get(self.current)
        self.query_one("#next", Line).say(f" ▸ {pane.hint}" if pane and pane.hint else "")
        self._draw_status()
        self._draw_keys()

    def _badges(self) -> dict[str, str]:
        """A tick where a step has what the next one needs; the training's state."""
        badges = dict.fromkeys(self.sight.ready, "✓") if self.sight else {}
        if run := self._foremost():
            badges["train"] = MARKS[run.state]
            if run.state == "training" and run.step is not None and run.steps:
                badges["train"] += f" {100 * run.step // run.steps}%"
        return badges

    def _foremost(self) -> RunSummary | None:
        """The run that is told everywhere: the first in turn, where all are over the newest."""
        runs = self.sight.runs if self.sight else []
        return min(runs, key=lambda run: run.turn, default=None)

    def _draw_status(self) -> None:
        runs = self.sight.runs if self.sight else []
        active = [run for run in runs if run.state in LIVING]
        shown = self._foremost()
        left = run_line(shown) if shown else " " + _("no runs yet")
        if len(active) > 1 and not isinstance(left, str):
            left.append(f"  +{len(active) - 1}")
        self.query_one("#status", Line).say(left, _("F1 keys  ^P commands "))

    def _draw_keys(self) -> None:
        """The keys of the pane and of what has the focus, most specific first."""
        if len(self.screen_stack) > 1 or not self.query("#keys"):
            return  # a dialog says its own; those below work again when it goes
        shown: dict[str, str] = {}
        for active in self.screen.active_bindings.values():
            binding = active.binding
            own = active.node not in (self, self.screen)
            if own and in_keys_line(active):
                key = self.get_key_display(binding)
                # One key is enough; where letters do not type, the letter.
                shown[binding.description] = min(key, shown.get(binding.description, key), key=len)
        keys = [f"{key} {_(what)}" for what, key in shown.items()]
        self.query_one("#keys", Line).say(keys_line(keys, self.size.width))

    # -- trouble --------------------------------------------------------------

    @on(Pane.Trouble)
    def _trouble(self, event: Pane.Trouble) -> None:
        self.show_problem(event.problem)

    @on(Happened)
    def _happened(self, event: Happened) -> None:
        pane = self._panes[self.current]
        shown = event.exported is not None and pane.shows(event.exported)
        told = event.problem.told(lambda way: _(_WAYS[way]) if way in _WAYS else "")
        problem = pane.told(event.problem) if shown else told
        self.show_problem(problem, event.aside or shown, event.good)
        if self.chosen.alarms.bell:
            self.bell()

    def show_problem(self, problem: Problem, aside: bool = False, good: bool = False) -> None:
        """Show what happened until it is put away; it stays in the notices (`aside`: only).

        `good` news are not shown as trouble.
        """
        self.notices.append((datetime.now(), problem))
        if aside:
            return
        line = self.query_one("#trouble", Static)
        lines = [Text(clean(part)) for part in problem.lines()]
        away = Text("   Esc  " + _("put away"), "dim")
        room = self.size.width - _TROUBLE_EDGES - away.cell_len
        # On the first line that does not break it in two.
        next((one for one in lines if one.cell_len <= room), lines[0]).append_text(away)
        line.update(Text("\n").join(lines))
        line.set_class(good, "-good")
        line.add_class("-shown")

    def notify(self, message: str, **options: Any) -> None:
        """Say `message` in passing; who looked away finds it in the notices."""
        self.notices.append((datetime.now(), Problem(message)))
        super().notify(message, **options)

    @on(Worker.StateChanged)
    def _worker_ended(self, event: Worker.StateChanged) -> None:
        if event.state is WorkerState.ERROR:
            self.show_problem(as_problem(event.worker.error))

    def action_redraw(self) -> None:
        """Write the whole screen: what another program wrote on the terminal goes."""
        self.screen.refresh()

    def action_put_away(self) -> None:
        """Escape outside dialogs: the message goes, the focus returns to the pane."""
        self.query_one("#trouble").remove_class("-shown")
        pane = self._panes[self.current]
        home = pane.home()
        if isinstance(self.focused, Input) and home is not None:
            home.focus()

    def watch_theme(self, theme: str) -> None:
        """A theme that the user chose is remembered."""
        if theme == self._theme_kept:
            return
        self._theme_kept = theme
        try:
            settings.save(theme=theme)
        except Problem as problem:
            self.show_problem(problem)

    async def action_quit(self) -> None:
        """Leave. Runs in progress go on, and the terminal says so afterwards."""
        lost = [words for pane in self._panes.values() if (words := pane.leaving())]
        if lost:
            self._ask_to_leave("\n".join(lost))
        else:
            self.exit(return_code=0)

    def action_help_quit(self) -> None:
        """^C where it means nothing else, in our words."""
        self.notify(_("^Q leaves Tunedeck."), markup=False, timeout=4)

    @work(exit_on_error=False)
    async def _ask_to_leave(self, lost: str) -> None:
        from tui.dialogs.confirm import Confirm

        if await self.push_screen_wait(Confirm(_("Leave Tunedeck?"), lost)):
            self.exit(return_code=0)

    def parting_words(self) -> str:
        """What becomes of the runs, for the terminal after the app has closed."""
        active = [run for run in look_at_runs(self.workspace, {}) if run.state in LIVING]
        if not active:
            return ""
        return i18n.ngettext(
            "{count} run goes on without this window. `tunedeck` shows it again.",
            "{count} runs go on without this window. `tunedeck` shows them again.",
            len(active),
        ).format(count=len(active))
