"""What becomes of a run: started, stopped, resumed, killed; each act in its own thread."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from textual.message import Message

from engine.i18n import _
from engine.run import control
from engine.run.folder import RunFolder
from engine.text import one_line
from tui.dialogs.confirm import Confirm
from tui.dialogs.reading import Reading
from tui.panes.base import Pane
from tui.panes.train.observer import Run
from tui.panes.train.step import lost_by_kill

if TYPE_CHECKING:
    from tui.panes.train.launch import Order


class Acts:
    """Carries out what the keys of `pane` ask for.

    What goes wrong ends where the errors of the pane's workers end.
    """

    class Done(Message):
        """Something became of a run: look again."""

    class Started(Message):
        """A run was started in `folder`."""

        def __init__(self, folder: str) -> None:
            super().__init__()
            self.folder = folder

    def __init__(self, pane: Pane) -> None:
        self._pane = pane
        self._order: Order | None = None

    def launch(self) -> None:
        """Ask how, then start a run."""
        self._pane.run_worker(self._launch(), group="launch", exit_on_error=False)

    async def _launch(self) -> None:
        from tui.panes.train.launch import Launch, Order, default_order

        pane = self._pane
        order = default_order(pane.workspace, self._order)
        answer = await pane.app.push_screen_wait(Launch(pane.workspace, pane.settings, order))
        if isinstance(answer, Order):
            self._order = answer
            return
        self._order = None
        pane.post_message(self.Started(answer))

    def stop(self, run: Run) -> None:
        """Ask the run to save a checkpoint and end."""
        self._act(run, control.stop, _("{run} saves a checkpoint after this step, then it ends."))

    def resume(self, run: Run) -> None:
        """Go on from the newest checkpoint."""
        settings = self._pane.settings
        self._act(run, lambda folder: control.resume(folder, settings), _("{run} goes on."))

    def kill(self, run: Run) -> None:
        """End the run now, after asking."""
        self._pane.run_worker(self._kill(run), group="kill", exit_on_error=False)

    async def _kill(self, run: Run) -> None:
        question = _("Kill {run} now?").format(run=one_line(run.summary.run))
        if await self._pane.app.push_screen_wait(Confirm(question, lost_by_kill(run))):
            self._act(run, control.kill, _("{run} was killed."))

    def why(self, run: Run) -> None:
        """Show why the run ended as it did, with the end of its log."""

        def read() -> None:
            from tui.panes.train.why import why_lines

            screen = Reading(one_line(run.summary.run), why_lines(Path(run.summary.dir)))
            self._pane.app.call_from_thread(self._pane.app.push_screen, screen)

        self._in_thread(read, "why")

    def _act(self, run: Run, deed: Callable[[RunFolder], object], done: str) -> None:
        def act() -> None:
            deed(RunFolder(Path(run.summary.dir)))
            self._pane.post_message(self.Done())
            said = done.format(run=one_line(run.summary.run))
            self._pane.app.call_from_thread(self._pane.notify, said, markup=False, timeout=4)

        self._in_thread(act, "act")

    def _in_thread(self, work: Callable[[], None], group: str) -> None:
        self._pane.run_worker(
            work, group=group, thread=True, exclusive=group == "why", exit_on_error=False
        )
