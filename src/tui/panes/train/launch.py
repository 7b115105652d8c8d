"""Launch a run: with which config, under what name, where; the exact command; the preflight."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, ScrollableContainer, Vertical
from textual.screen import ModalScreen
from textual.timer import Timer
from textual.widgets import Input, Static
from textual.worker import Worker, WorkerState, get_current_worker

from engine.errors import Problem
from engine.i18n import N_, _
from engine.machine import gpu
from engine.machine.gpu import Gpus
from engine.run import launch, program
from engine.settings import Settings
from engine.text import clean
from engine.workspace import Workspace
from tui.dialogs.choose import Choice, Choose
from tui.panes.base import unexpected
from tui.panes.train.check import Check, check, check_words
from tui.panes.train.choice_line import ChoiceLine
from tui.panes.train.gpu_list import GpuList

_PAUSE = 0.5
"""Seconds without a change before the command and the check are made anew."""


@dataclass(frozen=True)
class Order:
    """What is asked for; kept when the dialog is put away, so that nothing typed is lost."""

    config: str = ""
    name: str = ""
    gpus: tuple[int, ...] | None = None
    """None: not chosen yet, the one with the most free memory."""
    deepspeed: str = ""


class Launch(ModalScreen["str | Order"]):
    """Starts a run and returns its folder; when put away, what was typed."""

    DEFAULT_CSS = """
    Launch {
        & .row { height: 1; margin-top: 1; }
        & .row.-close { margin-top: 0; }
        & .label { width: 12; color: $text-muted; }
        & Input, & ChoiceLine { width: 1fr; }
        & GpuList {
            border: none; padding: 0 1; width: 1fr; text-wrap: nowrap; text-overflow: ellipsis;
        }
        & #no-gpu { padding: 0 1; }
        & #gpu-row { height: auto; }
        & #command-box { height: auto; max-height: 6; margin-top: 1; overflow-x: hidden; }
        &.-high #command-box { max-height: 14; }
        & #command { height: auto; color: $text-muted; }
        & #check { height: auto; max-height: 4; margin-top: 1; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "put_away", N_("back"), id="launch.back"),
        Binding("enter", "launch", N_("launch"), id="launch.launch"),
        Binding("ctrl+o", "choose_config", N_("choose a config"), id="launch.choose"),
        Binding("ctrl+y", "copy", N_("copy the command"), id="launch.copy"),
    ]

    def __init__(self, workspace: Workspace, settings: Settings, order: Order) -> None:
        super().__init__()
        self._workspace = workspace
        self._settings = settings
        self._order = order
        self._looked = False
        self._plan: launch.LaunchPlan | None = None
        self._check: Check | None = None
        self._checked: Order | None = None
        self._warned = False
        self._starting = False
        self._pause: Timer | None = None

    def compose(self) -> ComposeResult:
        """Fields, the command, what stands in the way, the keys."""
        stages = [("", _("none")), *((stage, stage.replace("_", " ")) for stage in program.STAGES)]
        with Vertical(classes="dialog -wide"):
            yield Static(_("Launch a run"), classes="dialog-title", markup=False)
            with Horizontal(classes="row -close"):
                yield Static(_("config"), classes="label", markup=False)
                yield _field(self._order.config, "config")
            with Horizontal(classes="row -close"):
                yield Static(_("name"), classes="label", markup=False)
                yield _field(self._order.name, "name")
            with Horizontal(classes="row", id="gpu-row"):
                yield Static(_("GPUs"), classes="label", markup=False)
                yield GpuList()
                yield Static("", id="no-gpu", markup=False)
            with Horizontal(classes="row -close"):
                yield Static("ZeRO stage", classes="label", markup=False)
                yield ChoiceLine(stages, self._order.deepspeed, id="deepspeed")
            with ScrollableContainer(id="command-box"):
                yield Static("", id="command", markup=False)
            yield Static("", id="check", markup=False)
            yield Static("", id="wrong", classes="dialog-wrong", markup=False)
            yield Static(
                _("Enter launch  Tab next field  ^O choose config  ^Y copy command  Esc back"),
                classes="dialog-keys",
                markup=False,
            )

    def on_mount(self) -> None:
        """Look at the GPUs first: the command depends on them."""
        self.query_one(GpuList).display = False
        self.query_one("#config" if not self._order.config else "#name").focus()
        self._read_gpus()

    # -- what is asked for --------------------------------------------------------

    def _asked(self) -> Order:
        return Order(
            config=self.query_one("#config", Input).value.strip(),
            name=self.query_one("#name", Input).value.strip(),
            gpus=self.query_one(GpuList).marked if self._looked else self._order.gpus,
            deepspeed=self.query_one(ChoiceLine).value,
        )

    @work(thread=True, exclusive=True, group="gpus", exit_on_error=False)
    def _read_gpus(self) -> None:
        seen = gpu.read()
        self.app.call_from_thread(self._show_gpus, seen)

    def _show_gpus(self, seen: Gpus) -> None:
        self._looked = True
        self.query_one(GpuList).show(seen.gpus, self._order.gpus)
        words = self.query_one("#no-gpu", Static)
        words.display = not seen.gpus
        words.update(_("{reason} It trains on the CPU.").format(reason=clean(seen.reason)))
        self._make_plan()

    @on(Input.Changed)
    @on(ChoiceLine.Changed)
    @on(GpuList.Changed)
    def _changed(self) -> None:
        self._warned = False
        self._say_wrong("")
        if self._pause is not None:
            self._pause.stop()
        self._pause = self.set_timer(_PAUSE, self._make_plan)

    @work(exit_on_error=False)
    async def action_choose_config(self) -> None:
        """Choose among the workspace's configs."""
        paths = sorted(self._workspace.configs.glob("*.py"))
        names = [self._workspace.relative(path) for path in paths]
        choices = [Choice(name, name) for name in names]
        chosen = await self.app.push_screen_wait(Choose(_("Config"), choices, free=True))
        if chosen:
            self.query_one("#config", Input).value = chosen

    # -- the command and the check --------------------------------------------------

    def _make_plan(self) -> None:
        if not self._starting:
            self._plan_in_thread(self._asked())

    @work(thread=True, exclusive=True, group="plan", exit_on_error=False)
    def _plan_in_thread(self, asked: Order) -> None:
        plan = self._plan_for(asked)
        self.app.call_from_thread(self._show_plan, asked, plan)

    def _plan_for(self, asked: Order) -> launch.LaunchPlan:
        if not asked.config:
            raise Problem(
                _("No config is given"),
                _("A run trains what a config says."),
                _("Type its path, or choose one with Ctrl+O; the Config pane makes them."),
            )
        return launch.plan(
            self._workspace.resolve(asked.config),
            workspace=self._workspace,
            settings=self._settings,
            name=asked.name or None,
            gpus=list(asked.gpus or ()),
            deepspeed=asked.deepspeed or None,
        )

    def _show_plan(self, asked: Order, plan: launch.LaunchPlan) -> None:
        self._plan = plan
        self._say_wrong("")
        self.query_one("#name", Input).placeholder = plan.name
        self.query_one("#command", Static).update("$ " + clean(plan.shown))
        known = self._checked
        # The name changes nothing that the check looks at.
        if known is None or (known.config, known.gpus, known.deepspeed) != (
            asked.config,
            asked.gpus,
            asked.deepspeed,
        ):
            self._checked, self._check = asked, None
            self.query_one("#check", Static).update(_("preflight: looking at config and data…"))
            self._check_in_thread(plan)

    @work(thread=True, exclusive=True, group="check", exit_on_error=False)
    def _check_in_thread(self, plan: launch.LaunchPlan) -> None:
        worker = get_current_worker()
        found = check(plan, self._settings)
        if not worker.is_cancelled:
            self.app.call_from_thread(self._show_check, found)

    def _show_check(self, found: Check) -> None:
        self._check = found
        self.query_one("#check", Static).update(check_words(found))
        if self._warned:  # Enter was pressed before the check had ended
            self._warned = False
            self._say_wrong("")
            self.action_launch()

    # -- what the keys do -------------------------------------------------------------

    @on(Input.Submitted)
    def action_launch(self) -> None:
        """Start; the first Enter waits for the check, and warns where it found errors."""
        if self._starting:
            return
        if not self._warned and (self._check is None or self._check.errors):
            self._warned = True
            self._say_wrong(
                _("Starts as soon as the check is through. Enter again starts now.")
                if self._check is None
                else _("The check found errors. Enter again starts all the same.")
            )
            return
        self._starting = True
        self._say_wrong(_("starting…"))
        self._start(self._asked())

    @work(thread=True, exclusive=True, group="start", exit_on_error=False)
    def _start(self, asked: Order) -> None:
        run = launch.start(self._plan_for(asked), self._settings)
        self.app.call_from_thread(self.dismiss, str(run.path))

    def action_put_away(self) -> None:
        """Close without a start. One that has begun is not stopped: it ends in the list."""
        self.dismiss(self._asked())

    def action_copy(self) -> None:
        """Copy the command to the terminal's clipboard."""
        if self._plan is not None:
            self.app.copy_to_clipboard(self._plan.shown)
            self.notify(
                _("Copied (in tmux it needs: set -s set-clipboard on)"), markup=False, timeout=4
            )

    def _say_wrong(self, text: str) -> None:
        self.query_one("#wrong", Static).update(clean(text))

    @on(Worker.StateChanged)
    def _worker_ended(self, event: Worker.StateChanged) -> None:
        if event.state is not WorkerState.ERROR:
            return
        error = event.worker.error
        problem = error if isinstance(error, Problem) else unexpected(error)
        if event.worker.group == "start":
            self._starting = False
        if event.worker.group == "check":
            self._show_check(Check(trouble=problem))
            return
        if event.worker.group == "plan":
            self._plan = None
            self.query_one("#command", Static).update("")
            self.query_one("#check", Static).update("")
        self._say_wrong("\n".join(problem.lines()))


def _field(value: str, id: str) -> Input:
    field = Input(value, id=id, select_on_focus=False)
    field.cursor_blink = False
    return field


def default_order(workspace: Workspace, kept: Order | None) -> Order:
    """What the dialog begins with: what was typed last time, with the config that is open now."""
    config = workspace.last().config
    shown = workspace.relative(workspace.resolve(config)) if config else ""
    if kept is None or (config and kept.config != shown):
        return Order(config=shown)
    return kept
