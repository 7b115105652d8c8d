"""The fields of the launch dialog: shown as far as they mean something, read as one value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import msgspec
from textual.app import ComposeResult
from textual.containers import Horizontal, ScrollableContainer
from textual.widget import Widget
from textual.widgets import Input, Static

from engine.errors import Problem
from engine.i18n import _
from engine.machine import gpu
from engine.machine.gpu import Gpus
from engine.run import program
from engine.run.folder import RunFolder
from engine.run.listing import list_runs
from engine.run.slurm import client
from engine.run.state import Launcher
from engine.settings import Slurm
from engine.text import clean
from engine.workspace import Workspace
from tui.panes.train.asked import Asked
from tui.panes.train.choice_line import ChoiceLine
from tui.panes.train.gpu_list import GpuList
from tui.panes.train.launch_words import changes_line, slurm_wishes
from tui.panes.train.planning import Planned

_LABEL = 12
"""Cells of a row's label."""


class Living(NamedTuple):
    """A run that can be waited for."""

    folder: str
    name: str
    launcher: Launcher


@dataclass(frozen=True)
class Seen:
    """What the fields can offer on this machine."""

    gpus: Gpus
    slurm: bool
    living: list[Living]


def look(workspace: Workspace) -> Seen:
    """Look at the machine and the runs. May block."""
    living = [run for run in list_runs(workspace) if _lives(run)]
    found = [Living(str(run.path), run.name, run.launcher) for run in living]
    return Seen(gpu.read(), client.available(), found)


def _lives(run: RunFolder) -> bool:
    try:
        return run.state.living and run.record is not None
    except Problem:  # whoever lists runs says so
        return False


class LaunchForm(ScrollableContainer, can_focus=False):
    """Rows of a label and a field."""

    DEFAULT_CSS = """
    LaunchForm {
        height: 1fr; min-height: 3; overflow-x: hidden;
        & .row { height: 1; }
        & .row.-closed { display: none; }
        & .label { width: 12; color: $text-muted; }
        & Input, & ChoiceLine { width: 1fr; }
        & GpuList {
            border: none; padding: 0 1; width: 1fr; max-height: 4;
            text-wrap: nowrap; text-overflow: ellipsis;
        }
        & #no-gpu, & #changes { padding: 0 1; width: 1fr; height: auto; }
        & #changes { text-wrap: nowrap; text-overflow: ellipsis; }
        & #gpu-row { height: auto; }
    }
    .-high LaunchForm { & GpuList { max-height: 8; } }
    """
    SCOPED_CSS = False

    def __init__(self, asked: Asked, slurm: Slurm) -> None:
        """`slurm`: what the settings ask Slurm for."""
        super().__init__(classes="launch-form")
        self._asked = asked
        self._slurm = slurm
        self._seen: Seen | None = None

    def compose(self) -> ComposeResult:
        """What, on what, with how many, where, when."""
        asked = self._asked
        stages = [("", _("none")), *((stage, stage.replace("_", " ")) for stage in program.STAGES)]
        needs = [("success", _("only if that succeeds")), ("end", _("in any case"))]
        yield _row(_("config"), _field(asked.config, "config"))
        yield _row(_("settings"), Static(changes_line([], "^S"), id="changes", markup=False))
        yield _row(_("name"), _field(asked.name, "name"))
        yield _row(_("GPUs"), GpuList(), Static("", id="no-gpu", markup=False), id="gpu-row")
        yield _row("ZeRO stage", ChoiceLine(stages, asked.deepspeed, id="deepspeed"))
        yield _row(_("processes"), _field(asked.processes, "processes"))
        yield _row(_("where"), ChoiceLine([("local", "")], asked.launcher, id="launcher"))
        yield _row(_("nodes"), _field(asked.nodes, "nodes"), id="nodes-row")
        yield _row(_("Slurm"), _field(asked.slurm, "slurm"), id="slurm-row")
        yield _row(_("start"), ChoiceLine([("now", "")], asked.start, id="start"))
        yield _row(_("after"), ChoiceLine([], asked.after, id="after"), id="after-row")
        yield _row(_("starts"), ChoiceLine(needs, asked.needs, id="needs"), id="needs-row")
        then = [("", _("nothing")), ("export", _("export it, when it has succeeded"))]
        yield _row(_("then"), ChoiceLine(then, asked.then, id="then"))

    def on_mount(self) -> None:
        """Nothing is known of the machine yet."""
        self.gpus.display = False
        self.fold()

    @property
    def gpus(self) -> GpuList:
        """The GPUs."""
        return self.query_one(GpuList)

    @property
    def config(self) -> str:
        """The config's path as it is typed."""
        return self._text("config")

    @config.setter
    def config(self, value: str) -> None:
        self.query_one("#config", Input).value = value

    def first(self) -> Widget:
        """The field that is likely to be typed in first."""
        return self.query_one("#name" if self.config else "#config")

    # What the dialog calls

    def see(self, seen: Seen) -> None:
        """Offer what the machine has."""
        asked = self._asked
        self._seen = seen
        self.gpus.show(seen.gpus.gpus, asked.gpus)
        none = self.query_one("#no-gpu", Static)
        none.display = not seen.gpus.gpus
        none.update(_("{reason} It trains on the CPU.").format(reason=clean(seen.gpus.reason)))
        where = [("local", _("this machine")), ("nodes", _("several, by hand"))]
        where += [("slurm", "Slurm")] if seen.slurm else []
        self._choice("launcher").note = "" if seen.slurm else _("(no Slurm here: no sbatch)")
        self._choice("launcher").offer(where, asked.launcher)
        self._offer_starts(seen, asked.start, asked.after)
        self.fold()

    def show(self, made: Planned) -> None:
        """Show what the empty fields come to."""
        self.query_one("#name", Input).placeholder = made.plan.name
        each = _("one a GPU: {count}") if made.plan.gpus else _("{count}, on the CPU")
        self.query_one("#processes", Input).placeholder = each.format(count=made.plan.processes)
        self.query_one("#nodes", Input).placeholder = str(made.plan.nodes)
        room = self.size.width - _LABEL - 3  # the field's edges and its cursor
        self.query_one("#slurm", Input).placeholder = slurm_wishes(self._slurm, room)
        self.query_one("#changes", Static).update(changes_line(made.changes, "^S"))

    def fold(self) -> None:
        """Show the rows that mean something now."""
        if self._seen is not None:
            start, after = self._choice("start").value, self._choice("after").value
            self._offer_starts(self._seen, start, after)
        where, start = self._choice("launcher").value, self._choice("start").value
        shown = {
            "nodes-row": where != "local",
            "slurm-row": where == "slurm",
            "gpu-row": where != "slurm",
            "after-row": start == "after",
            "needs-row": start == "after",
        }
        for row, on in shown.items():
            self.query_one(f"#{row}").set_class(not on, "-closed")

    def _offer_starts(self, seen: Seen, start: str, after: str) -> None:
        """Offer when to start. Slurm gives GPUs in its own turn, and waits for its own jobs."""
        slurm = self._choice("launcher").value == "slurm"
        runs = [
            (one.folder, one.name) for one in seen.living if one.launcher == "slurm" or not slurm
        ]
        starts = [("now", _("now"))]
        starts += [("free", _("when these GPUs are free"))] if seen.gpus.gpus and not slurm else []
        starts += [("after", _("after a run"))] if runs else []
        self._choice("start").offer(starts, start)
        self._choice("after").offer(runs, after)

    def asked(self, before: Asked) -> Asked:
        """What the fields say; `before` speaks for what they do not show."""
        if self._seen is None:
            return before
        fields = {name: self._text(name) for name in ("config", "name", "processes", "nodes")}
        lines = {
            name: self._choice(name).value
            for name in ("deepspeed", "launcher", "start", "after", "needs", "then")
        }
        changed = {**fields, **lines, "slurm": self._text("slurm"), "gpus": self.gpus.marked}
        return msgspec.structs.replace(before, **changed)

    def _choice(self, name: str) -> ChoiceLine:
        return self.query_one(f"#{name}", ChoiceLine)

    def _text(self, name: str) -> str:
        return self.query_one(f"#{name}", Input).value.strip()


def _row(label: str, *fields: Widget, id: str | None = None) -> Horizontal:
    return Horizontal(Static(label, classes="label", markup=False), *fields, classes="row", id=id)


def _field(value: str, id: str) -> Input:
    field = Input(value, id=id, select_on_focus=False)
    field.cursor_blink = False
    return field
