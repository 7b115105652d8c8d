"""What becomes of a run: started, stopped, resumed, killed; each act in its own thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from textual.message import Message

from engine.errors import Problem
from engine.i18n import _
from engine.run import control, nodes, queue
from engine.run.folder import RunFolder
from engine.run.state import read_record
from engine.text import one_line
from tui.dialogs.confirm import Confirm
from tui.dialogs.reading import Reading
from tui.panes.base import Pane
from tui.panes.train.observer import Run
from tui.panes.train.resume import Resume
from tui.panes.train.step import lost_by_kill

if TYPE_CHECKING:
    from tui.panes.train.asked import Asked


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
        self._kept: Asked | None = None

    def launch(self, config: str = "") -> None:
        """Ask how, then start a run of `config` ("": of the one that is open)."""
        asking = self._launch(config)  # once, also where the key is pressed again meanwhile
        self._pane.run_worker(asking, group="launch", exclusive=True, exit_on_error=False)

    async def _launch(self, config: str) -> None:
        from tui.panes.train.asked import beginning
        from tui.panes.train.launch import Launch, Launched
        from tui.panes.train.node_lines import NodeLines

        pane = self._pane
        asked = await asyncio.to_thread(beginning, pane.workspace, self._kept, config)
        answer = await pane.app.push_screen_wait(Launch(pane.workspace, pane.settings, asked))
        if not isinstance(answer, Launched):
            self._kept = answer
            return
        self._kept = None
        pane.post_message(self.Started(answer.folder))
        if answer.lines:
            pane.app.push_screen(NodeLines(answer.lines))

    def lines(self, run: Run) -> None:
        """Show what is typed on each of the run's nodes, as it was started last."""
        self._in_thread(lambda: self._lines(Path(run.summary.dir)), "lines")

    def _lines(self, folder: Path) -> None:
        from tui.panes.train.node_lines import NodeLines

        record = read_record(folder)
        if record is not None and (lines := nodes.lines(record, folder)):
            self._pane.app.call_from_thread(self._pane.app.push_screen, NodeLines(lines))

    def again(self, run: Run) -> None:
        """Launch the config that `run` froze once more: to change something in it."""
        self._in_thread(lambda: self._again(run), "again")

    def _again(self, run: Run) -> None:
        config = RunFolder(Path(run.summary.dir)).config
        if config is None:
            raise Problem(_("The run {run} has no config").format(run=run.summary.run))
        self._pane.app.call_from_thread(self.launch, str(config))

    def stop(self, run: Run) -> None:
        """Ask the run to save a checkpoint and end."""
        self._act(run, control.stop, _("{run} saves a checkpoint after this step, then it ends."))

    def resume(self, run: Run) -> None:
        """Ask from where and how, then go on; a run that never left the queue goes back into it."""
        self._in_thread(lambda: self._resume(run), "resume")

    def _resume(self, run: Run) -> None:
        folder, pane = RunFolder(Path(run.summary.dir)), self._pane
        if control.checkpoint_for(folder) is None:
            settings = pane.settings
            self._act(run, lambda waits: control.resume(waits, settings), _("{run} waits again."))
            return
        screen = Resume(folder, pane.workspace, pane.settings)
        resumed = partial(self._resumed, run)
        pane.app.call_from_thread(pane.app.push_screen, screen, resumed)

    def _resumed(self, run: Run, goes_on: bool | None) -> None:
        if goes_on:
            self._pane.post_message(self.Done())
            self.lines(run)  # where each node has one: they are others now

    def move(self, run: Run, by: int) -> None:
        """Move a waiting run in the queue (-1: to an earlier place)."""
        workspace = self._pane.workspace

        def move() -> None:
            place, count = queue.move(workspace, RunFolder(Path(run.summary.dir)), by)
            done = _("{run} has place {place} of {count} in the queue.")
            self._done(done.format(run=one_line(run.summary.run), place=place, count=count))

        self._in_thread(move, "act")

    def kill(self, run: Run) -> None:
        """End the run now, after asking; of one that cannot be ended it is said why."""
        if "kill" not in run.possible:
            self._act(run, control.kill, _("{run} was killed."))
            return
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
            self._done(done.format(run=one_line(run.summary.run)))

        self._in_thread(act, "act")

    def _done(self, said: str) -> None:
        """Something became of a run, in a thread: look again, and say what."""
        self._pane.post_message(self.Done())
        self._pane.app.call_from_thread(self._pane.notify, said, markup=False, timeout=4)

    def _in_thread(self, work: Callable[[], None], group: str) -> None:
        self._pane.run_worker(
            work, group=group, thread=True, exclusive=group == "why", exit_on_error=False
        )
