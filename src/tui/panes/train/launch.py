"""Launch a run: with which config, under what name, where and when; the exact command."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import ClassVar

import msgspec
from textual import events, on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import ScrollableContainer
from textual.timer import Timer
from textual.widgets import Input, Static
from textual.worker import Worker, WorkerState, get_current_worker

from engine.i18n import N_, _
from engine.run import launch, planning
from engine.settings import Settings
from engine.text import clean
from engine.workspace import Workspace
from tui.copying import copy
from tui.dialogs.choose import Choice, Choose
from tui.dialogs.fitted import Fitted
from tui.dialogs.keys_line import KeysLine
from tui.dialogs.working import Working
from tui.panes.base import as_problem
from tui.panes.train.asked import Asked, remember
from tui.panes.train.check import Check, check, check_words, findings
from tui.panes.train.choice_line import ChoiceLine
from tui.panes.train.gpu_list import GpuList
from tui.panes.train.launch_form import LaunchForm, Seen, look
from tui.panes.train.launch_words import batch_line, slurm_options
from tui.panes.train.planning import Planned, planned, with_accumulation

_PAUSE = 0.5
"""Seconds without a change before the command and the check are made anew."""


class Launched(msgspec.Struct, frozen=True):
    """A run was started."""

    folder: str
    lines: list[str]
    """What is typed on each node, for a run on several that are started by hand."""


class Launch(Working["Launched | Asked"]):
    """Starts a run and returns it; when put away, what was typed."""

    DEFAULT_CSS = """
    Launch {
        & #command-box { height: auto; max-height: 3; overflow-x: hidden; }
        &.-high #command-box { max-height: 14; margin-top: 1; }
        & #command { height: auto; color: $text-muted; }
        & #batch { height: auto; max-height: 2; }
        & #batch.-closed { display: none; }
        & #check { height: auto; max-height: 3; }
        & #wrong { display: none; max-height: 5; }
        &.-wrong #wrong { display: block; }
        &.-short.-wrong, &.-low.-wrong { & #batch, & #check { display: none; } }
        &.-high #check { margin-top: 1; max-height: 8; }
        &.-low #command-box { display: none; }  /* a key shows it */
        &.-low #batch { max-height: 1; text-wrap: nowrap; text-overflow: ellipsis; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "put_away", N_("back"), id="launch.back"),
        Binding("enter", "launch", N_("launch"), id="launch.launch"),
        Binding("ctrl+o", "choose_config", N_("choose a config"), id="launch.choose"),
        Binding("ctrl+s", "change", N_("change settings for this run"), id="launch.change"),
        Binding("ctrl+g", "keep_batch", N_("keep the effective batch"), id="launch.batch"),
        Binding(
            "ctrl+l",
            "lines",
            N_("the command, the line for each node or the batch script, in full"),
            id="launch.lines",
        ),
        Binding("ctrl+r", "findings", N_("what preflight found, in full"), id="launch.findings"),
        Binding("ctrl+y", "copy", N_("copy the command"), id="launch.copy"),
    ]

    def __init__(self, workspace: Workspace, settings: Settings, asked: Asked) -> None:
        super().__init__()
        self._workspace = workspace
        self._settings = settings
        self._asked = asked
        self._seen: Seen | None = None
        self._planned: tuple[Asked, Planned] | None = None
        self._check: Check | None = None
        self._checked: Asked | None = None
        self._warned = False
        self._waits = False
        """Whether Enter was pressed before the check had ended."""
        self._starting = False
        self._pause: Timer | None = None
        self._drafts = tempfile.TemporaryDirectory(prefix="tunedeck-")

    def compose(self) -> ComposeResult:
        """Fields, what they come to, what stands in the way, the keys."""
        with Fitted(classes="dialog -wide"):
            yield Static(_("Launch a run"), classes="dialog-title", markup=False)
            yield LaunchForm(self._asked, self._settings.slurm)
            yield Static("", id="batch", markup=False)
            with ScrollableContainer(id="command-box"):
                yield Static("", id="command", markup=False)
            yield Static("", id="check", markup=False)
            yield Static("", id="wrong", classes="dialog-wrong", markup=False)
            yield KeysLine(id="keys")

    def on_mount(self) -> None:
        """Look at the machine first: the command depends on it."""
        self._form.first().focus()
        self._say_keys()
        self._look()

    def on_unmount(self) -> None:
        """The configs with changed settings are frozen into their runs, or not wanted."""
        self._drafts.cleanup()

    @property
    def _form(self) -> LaunchForm:
        return self.query_one(LaunchForm)

    # -- what is asked for --------------------------------------------------------

    @work(thread=True, exclusive=True, group="look", exit_on_error=False)
    def _look(self) -> None:
        self.app.call_from_thread(self._show_look, look(self._workspace))

    def _show_look(self, seen: Seen) -> None:
        self._seen = seen
        self._form.see(seen)
        self._make_plan()

    @on(Input.Changed)
    @on(ChoiceLine.Changed)
    @on(GpuList.Changed)
    def _changed(self) -> None:
        self._take_back()
        self._form.fold()
        if self._pause is not None:
            self._pause.stop()
        self._pause = self.set_timer(_PAUSE, self._make_plan)

    def _take_back(self) -> None:
        """Something else is to start than what Enter was pressed for."""
        self._warned = self._waits = False
        self._say_wrong("")

    def _now(self) -> Asked:
        """What is asked for now; another config has no settings changed yet."""
        asked = self._form.asked(self._asked)
        if asked.config != self._asked.config:
            asked = msgspec.structs.replace(asked, text="")
        self._asked = asked
        return asked

    @work(exclusive=True, group="dialog", exit_on_error=False)
    async def action_choose_config(self) -> None:
        """Choose among the workspace's configs."""
        self._take_back()
        paths = await asyncio.to_thread(lambda: sorted(self._workspace.configs.glob("*.py")))
        names = [self._workspace.relative(path) for path in paths]
        choices = [Choice(name, name) for name in names]
        chosen = await self.app.push_screen_wait(Choose(_("Config"), choices, free=True))
        if chosen:
            self._form.config = chosen

    @work(exclusive=True, group="dialog", exit_on_error=False)
    async def action_change(self) -> None:
        """Change settings for this run alone."""
        from tui.panes.train.change import Change

        asked = self._now()
        if not asked.config:
            return
        self._take_back()
        path = await asyncio.to_thread(self._workspace.resolve, asked.config)
        screen = Change(path, asked.text, self._workspace, self._settings)
        self._take(msgspec.structs.replace(asked, text=await self.app.push_screen_wait(screen)))

    @work(exit_on_error=False)
    async def action_keep_batch(self) -> None:
        """Let the effective batch be as it was before, by another accumulation."""
        wanted = self._other_accumulation()
        if self._planned is not None and wanted is not None:
            asked, _made = self._planned
            config = await asyncio.to_thread(self._workspace.resolve, asked.config)
            self._take(await asyncio.to_thread(with_accumulation, config, asked, wanted))

    def _other_accumulation(self) -> int | None:
        """With which the effective batch comes nearer to what it was; None where none does."""
        made = self._planned[1] if self._planned is not None else None
        if made is None or made.batch is None or made.before is None:
            return None
        wanted = made.batch.like(made.before).accumulation
        return wanted if wanted != made.batch.accumulation else None

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """F1 tells the keys that can do something now."""
        if action == "keep_batch":
            return self._other_accumulation() is not None
        if action == "findings":
            return self._check is not None and bool(findings(self._check))
        return action not in ("lines", "copy") or self._planned is not None

    def _take(self, asked: Asked) -> None:
        """Settings were changed."""
        self._asked = asked
        self._make_plan()

    # -- the command and the check --------------------------------------------------

    def _make_plan(self) -> None:
        if not self._starting and self._seen is not None:
            self._plan_in_thread(self._now())

    @work(thread=True, exclusive=True, group="plan", exit_on_error=False)
    def _plan_in_thread(self, asked: Asked) -> None:
        self.app.call_from_thread(self._show_plan, asked, self._plan_for(asked))

    def _plan_for(self, asked: Asked) -> Planned:
        return planned(asked, self._workspace, self._settings, Path(self._drafts.name))

    def _show_plan(self, asked: Asked, made: Planned) -> None:
        self._planned = (asked, made)
        self._say_wrong("")
        self._form.show(made)
        # What Slurm is asked for stands first: where there is little room, the rest is cut.
        options = slurm_options(made.plan.script) + "\n" if made.plan.script else ""
        self.query_one("#command", Static).update(f"{options}$ {clean(made.plan.shown)}")
        self._say_keys()
        batch = self.query_one("#batch", Static)
        batch.set_class(made.batch is None or made.before is None, "-closed")
        if made.batch is not None and made.before is not None:
            batch.update(batch_line(made.batch, made.before, bool(made.plan.gpus)))
        if self._checked != asked.checked:
            self._checked, self._check = asked.checked, None
            self._say_keys()
            self.query_one("#check", Static).update(_("preflight: looking at config and data…"))
            self._check_in_thread(made.plan)

    @work(thread=True, exclusive=True, group="check", exit_on_error=False)
    def _check_in_thread(self, plan: planning.LaunchPlan) -> None:
        worker = get_current_worker()
        found = check(plan, self._settings)
        if not worker.is_cancelled:
            self.app.call_from_thread(self._show_check, found)

    def _show_check(self, found: Check) -> None:
        self._check = found
        chosen = set(self._form.gpus.marked) if self._asked.launcher == "local" else set()
        here = self._seen.gpus.gpus if self._seen is not None else []
        words = check_words(found, [one for one in here if one.id in chosen])
        self.query_one("#check", Static).update(words)
        self._say_keys()
        self._start_checked()

    @on(events.ScreenResume)
    def _start_checked(self) -> None:
        """Start what waits for the check, unless somebody reads or changes something over it."""
        if self._waits and self._check is not None and self.is_active:
            self._take_back()
            self.action_launch()

    # -- what the keys do -------------------------------------------------------------

    @on(Input.Submitted)
    def action_launch(self) -> None:
        """Start; the first Enter waits for the check, and warns where it found errors."""
        if self._starting:
            return
        if not self._warned and (self._check is None or self._check.errors):
            self._warned, self._waits = True, self._check is None
            self._say_wrong(
                _("Starts as soon as the check is through. Enter again starts now.")
                if self._check is None
                else _("The check found errors. Enter again starts all the same.")
            )
            return
        self._waits, self._starting = False, True
        self._say_wrong(_("starting…"))
        self._start(self._now())

    @work(thread=True, exclusive=True, group="start", exit_on_error=False)
    def _start(self, asked: Asked) -> None:
        from engine.joined import before_start

        # What is shown is what starts: a port that was chosen stands in each node's line.
        shown = self._planned
        made = shown[1] if shown is not None and shown[0] == asked else self._plan_for(asked)
        report = self._check.report if self._check and self._checked == asked.checked else None
        run = launch.start(before_start.expecting(made.plan, report), self._settings)
        remember(self._workspace, asked)
        done = Launched(str(run.path), made.plan.lines)
        self.app.call_from_thread(self.done, done)

    def action_put_away(self) -> None:
        """Close without a start. One that has begun is not stopped: it ends in the list."""
        self.dismiss(self._now())

    def action_lines(self) -> None:
        """Show what has no room here: the command, the line for each node, the batch script."""
        from tui.dialogs.reading import Reading
        from tui.panes.train.node_lines import NodeLines

        if self._planned is None:
            return
        plan = self._planned[1].plan
        if plan.script:
            lines = clean(plan.script).splitlines()
            self.app.push_screen(Reading(_("The batch script that sbatch gets"), lines))
        elif plan.lines:
            self.app.push_screen(NodeLines(plan.lines))
        else:
            self.app.push_screen(Reading(_("The command"), [clean(plan.shown)]))

    def action_findings(self) -> None:
        """Show what preflight found: the dialog has room for its first words."""
        from tui.dialogs.reading import Reading

        lines = findings(self._check) if self._check is not None else []
        if lines:
            self.app.push_screen(Reading(_("Preflight"), lines))

    def action_copy(self) -> None:
        """Copy the command to the terminal's clipboard."""
        if self._planned is not None:
            copy(self, self._planned[1].plan.shown)

    def on_descendant_focus(self) -> None:
        """The GPUs have keys of their own."""
        self._say_keys()

    def _say_keys(self) -> None:
        """The keys that matter now, on one line of 80 cells: ^S stands beside the settings."""
        plan = self._planned[1].plan if self._planned is not None else None
        partial = plan is not None and bool(plan.script or plan.lines)
        shown = _("command")
        if plan is not None and partial:
            shown = _("script") if plan.script else _("lines")
        keys = [_("Enter launch"), _("Tab next")]
        if self.focused is self._form.gpus:
            keys[:0] = [_("Space use"), _("a all")]
        else:
            keys += [_("^O config"), f"^L {shown}"]
        if self._check is not None and findings(self._check):
            keys.append(_("^R findings"))
        elif not partial:  # what is not whole by itself is not copied
            keys.append(_("^Y copy"))
        self.query_one("#keys", KeysLine).tell("   ".join([*keys, _("Esc back")]))

    def _say_wrong(self, text: str) -> None:
        self.set_class(bool(text), "-wrong")
        self.query_one("#wrong", Static).update(clean(text))

    @on(Worker.StateChanged)
    def _worker_ended(self, event: Worker.StateChanged) -> None:
        if event.state is not WorkerState.ERROR:
            return
        error = event.worker.error
        problem = as_problem(error)
        if event.worker.group == "start":
            self._starting = False
        if event.worker.group == "check":
            self._show_check(Check(trouble=problem))
            return
        if event.worker.group == "plan":
            self._planned, self._checked = None, None
            for part in ("#batch", "#command", "#check"):
                self.query_one(part, Static).update("")
        self._say_wrong("\n".join(problem.lines()))
