"""What every pane shares: how it speaks to the shell, and what becomes of its errors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.app import App
from textual.binding import ActiveBinding
from textual.containers import Vertical
from textual.dom import DOMNode
from textual.message import Message
from textual.reactive import reactive
from textual.widget import Widget
from textual.worker import Worker, WorkerState

from engine import unforeseen
from engine.errors import Problem, Way
from engine.i18n import N_, _
from engine.settings import Settings
from engine.workspace import Workspace

if TYPE_CHECKING:  # heavy, and needed only where an export has ended
    from engine.export.news import Notice as ExportNotice

EVERYWHERE: Mapping[Way, str] = {
    "catalogue": N_("n in Config (F3) shows the catalogue."),
    "check": N_("c in Data (F2) checks all rows, then v lists what is broken."),
    "data": N_("a in Config (F3) takes the dataset that is open in Data (F2)."),
    "gpus": N_("F8 shows the GPUs and who uses them."),
    "resume": N_("R in Train (F4) does that."),
    "shape": N_("m in Data (F2) does that."),
}
"""What there is for what the engine says is to be done, whatever pane is in front."""


def say_everywhere(way: Way) -> str:
    """The sentence for `way` that holds in every pane, or ""."""
    return _(EVERYWHERE[way]) if way in EVERYWHERE else ""


class Reporting:
    """For widgets with workers: what a worker raises is shown to the user.

    Workers are started with ``exit_on_error=False``; their errors end here.
    """

    def on_worker_state_changed(self, event: Worker.StateChanged) -> None:
        """Pass on why a worker failed."""
        if event.state is WorkerState.ERROR:
            event.worker.node.post_message(Pane.Trouble(as_problem(event.worker.error)))


class Pane(Reporting, Vertical):
    """One step of the journey: a thin view over one part of the engine.

    A pane never looks outside itself. It posts messages up; the shell calls
    `activate` down. What it has open it reads from the workspace, where the
    other panes find it too.
    """

    DEFAULT_CSS = "Pane { height: 1fr; }"

    TAB: ClassVar[str]
    """The pane's name in the shell: "data", "config", …"""

    class Opened(Message):
        """Something is open or made that later steps need (fields of `workspace.Last`)."""

        def __init__(self, **values: str | list[str]) -> None:
            super().__init__()
            self.values = values

    class Go(Message):
        """The next step lies in another pane."""

        def __init__(self, tab: str) -> None:
            super().__init__()
            self.tab = tab

    class Trouble(Message):
        """Something could not be done; the shell shows it until it is put away."""

        def __init__(self, problem: Problem) -> None:
            super().__init__()
            self.problem = problem

    class HintChanged(Message):
        """The line that names the next step has changed."""

    WAYS: ClassVar[Mapping[Way, str]] = {}
    """What the pane has for what the engine says is to be done: a sentence with its key."""

    hint: reactive[str] = reactive("")
    """The next step and its key, as a sentence ("Enter  use this dataset in a config")."""

    def __init__(self, workspace: Workspace, settings: Settings) -> None:
        super().__init__(id=self.TAB)
        self.workspace = workspace
        self.settings = settings

    def activate(self) -> None:
        """The pane has come to the front: focus what keys should act on, read what changed."""

    def home(self) -> Widget | None:
        """The widget that has the focus when nothing else asks for it."""
        return None

    def offers(self, action: str) -> bool:
        """Whether something can be done with `action` now.

        Where not, its key is told nowhere, and says why when it is pressed. A key that does not
        work at all is `check_action`'s.
        """
        return True

    def in_keys_line(self, action: str) -> bool:
        """Whether the keys line has the key of an action that is offered, too.

        The line has room for few: a pane with many keys tells those of the place under the
        cursor. The palette and the keys screen have them all.
        """
        return True

    def shows(self, exported: ExportNotice) -> bool:
        """Whether it shows what became of the export that has ended, and why, or is about to."""
        return False

    def untold(self) -> dict[str, str]:
        """What `Opened` would tell in a moment: the app ends now. Asked of mounted panes only."""
        return {}

    def leaving(self) -> str:
        """What would be lost if the app ended now, in a sentence; "" for nothing."""
        return ""

    def watch_hint(self) -> None:
        """Tell the shell."""
        if self.is_mounted:
            self.post_message(self.HintChanged())

    @on(Trouble)
    def _name_keys(self, event: Trouble) -> None:
        event.problem = self.told(event.problem)

    def told(self, problem: Problem) -> Problem:
        """`problem` with the pane's keys that help."""
        return problem.told(self.say)

    def say(self, way: Way) -> str:
        """The sentence for `way`: with the pane's own key, else with the shell's."""
        return _(self.WAYS[way]) if way in self.WAYS else say_everywhere(way)

    def trouble(self, problem: Problem) -> None:
        """Show `problem` to the user; safe from any thread."""
        self.post_message(self.Trouble(problem))


def speaks_for_pane(node: DOMNode) -> bool:
    """Whether the keys of `node` work all over its pane: the pane's, or a part's that holds others.

    Keys of what can have the focus itself work only there.
    """
    if isinstance(node, Pane):
        return True
    inside = any(isinstance(one, Pane) for one in node.ancestors)
    return inside and isinstance(node, Widget) and not node.can_focus


def offered(active: ActiveBinding) -> bool:
    """Whether a key is told: where nothing can be done with it now, it is not."""
    return active.enabled and (
        not isinstance(active.node, Pane) or active.node.offers(_action(active))
    )


def in_keys_line(active: ActiveBinding) -> bool:
    """Whether a key stands in the keys line: of those that are told, the ones that fit in there."""
    return (
        active.binding.show
        and offered(active)
        and (not isinstance(active.node, Pane) or active.node.in_keys_line(_action(active)))
    )


def _action(active: ActiveBinding) -> str:
    """Its name, without arguments."""
    return active.binding.action.partition("(")[0]


def rank(node: DOMNode) -> int:
    """Whose keys are told first: the pane's, those where the cursor is, those of the shell."""
    if isinstance(node, App):
        return 2
    return 0 if speaks_for_pane(node) else 1


def as_problem(error: BaseException | None) -> Problem:
    """`error` as it is shown: itself when it is in words already."""
    return unforeseen.as_problem(error, _("F7 shows the details"))
