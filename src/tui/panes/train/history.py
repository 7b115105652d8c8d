"""Acts on the list of runs and on what is noted about a run: behind one key, as a menu."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine.i18n import N_, _, ngettext
from engine.run import history
from engine.run.folder import RunFolder
from engine.text import one_line, size
from tui.dialogs.ask import Ask
from tui.dialogs.choose import Choice, Choose
from tui.dialogs.confirm import Confirm
from tui.panes.base import Pane
from tui.panes.train.acts import Acts
from tui.panes.train.observer import Run
from tui.panes.train.run_list import RunList

_ACTS = {
    "again": (N_("run again with a change"), N_("L, with the config that it froze")),
    "rename": (N_("rename"), ""),
    "note": (N_("note"), N_("in your own words")),
    "tags": (N_("tags"), N_("words to find it by")),
    "archive": (N_("archive"), N_("keep it out of the list, or take it back")),
    "trash": (N_("to the trash"), N_("it can be taken back from there")),
}
"""What can be done with the chosen run."""
_NODES = {"lines": (N_("the line of each node"), N_("as it was started last"))}
"""The same, for a run that is started by hand on several."""
_LIST = {
    "search": (N_("search the runs"), ""),
    "sort": (N_("sort the runs"), ""),
    "archived": (N_("show archived runs"), N_("or hide them again")),
    "bin": (N_("the trash"), N_("take a run back, or empty it")),
}
"""What can be done with the list."""
_EMPTY = "/"
"""Chosen in the trash: no run's name has it."""


class History:
    """Carries out what is chosen in the menu of `pane`; errors end as those of its workers."""

    def __init__(self, pane: Pane, acts: Acts) -> None:
        self._pane, self._acts = pane, acts

    def menu(self, run: Run | None) -> None:
        """Let one of the rarer acts be chosen, on `run` and on the list."""
        self._pane.run_worker(self._menu(run), group="menu", exit_on_error=False)

    async def _menu(self, run: Run | None) -> None:
        by_hand = run is not None and run.summary.launcher == "nodes"
        acts = {**(_ACTS if run is not None else {}), **(_NODES if by_hand else {}), **_LIST}
        choices = [
            Choice(name, _(label), _(detail) if detail else "")
            for name, (label, detail) in acts.items()
        ]
        title = _("More") if run is None else one_line(run.summary.run)
        chosen = await self._ask(Choose(title, choices))
        if chosen in _LIST:
            await getattr(self, f"_{chosen}")()
        elif chosen is not None and run is not None:
            await getattr(self, f"_{chosen}")(run)

    def search(self) -> None:
        """Narrow the list to the runs that have what is typed."""
        self._pane.run_worker(self._search(), group="menu", exit_on_error=False)

    # -- on the run ---------------------------------------------------------------

    async def _again(self, run: Run) -> None:
        self._acts.again(run)

    async def _lines(self, run: Run) -> None:
        self._acts.lines(run)

    async def _rename(self, run: Run) -> None:
        await asyncio.to_thread(history.refuse_in_use, RunFolder(Path(run.summary.dir)))
        answer = await self._ask(Ask(_("Rename"), [(_("name"), run.summary.run)]))
        if answer:
            name, workspace = answer[0].strip(), self._pane.workspace
            self._act(run, lambda folder: self._renamed(history.rename(workspace, folder, name)))

    def _renamed(self, run: RunFolder) -> None:
        self._pane.post_message(Acts.Started(str(run.path)))

    async def _note(self, run: Run) -> None:
        answer = await self._ask(Ask(_("Note"), [(one_line(run.summary.run), run.summary.note)]))
        if answer is not None:
            self._act(run, lambda folder: history.note(folder, answer[0]))

    async def _tags(self, run: Run) -> None:
        before = run.summary.tags
        note = _("Words with blanks between. In a search, #word finds a tag.")
        answer = await self._ask(Ask(_("Tags"), [(_("tags"), " ".join(before))], note=note))
        if answer is not None:
            now = [word.removeprefix("#") for word in answer[0].split()]
            gone = [tag for tag in before if tag not in now]
            self._act(run, lambda folder: history.tag(folder, now, gone))

    async def _archive(self, run: Run) -> None:
        self._act(run, lambda folder: history.archive(folder, not run.summary.archived))

    async def _trash(self, run: Run) -> None:
        folder = RunFolder(Path(run.summary.dir))
        await asyncio.to_thread(history.refuse_in_use, folder)  # before it is asked in vain
        held = size(await asyncio.to_thread(history.size, folder))
        question = _("Put {run} into the trash?").format(run=one_line(run.summary.run))
        means = _("{size}, checkpoints and all. It can be had back until the trash is emptied.")
        if await self._ask(Confirm(question, means.format(size=held))):
            workspace = self._pane.workspace
            self._act(run, lambda folder: history.trash(workspace, folder))

    # -- on the list ----------------------------------------------------------------

    async def _search(self) -> None:
        runs = self._runs
        note = _("In name, note, tags (#tag), state and reason. Empty shows all.")
        answer = await self._ask(Ask(_("Search the runs"), [(_("words"), runs.sought)], note=note))
        if answer is not None:
            runs.narrow(sought=answer[0].strip())

    async def _sort(self) -> None:
        choices = [Choice(name, _(words)) for name, words in history.ORDERS.items()]
        chosen = await self._ask(Choose(_("Sort the runs"), choices))
        if chosen:
            self._runs.narrow(order=chosen)

    async def _archived(self) -> None:
        self._runs.narrow(archived=not self._runs.archived)

    async def _bin(self) -> None:
        workspace = self._pane.workspace
        found = await asyncio.to_thread(history.trashed, workspace)
        total = size(sum(one.bytes for one in found))
        count = ngettext("{count} run", "{count} runs", len(found)).format(count=len(found))
        choices = [Choice(one.name, one.name, size(one.bytes)) for one in found]
        if found:
            choices.append(Choice(_EMPTY, _("empty the trash"), f"{count}, {total}"))
        note = _("Enter takes a run back.") if found else _("Nothing is in the trash.")
        name = await self._ask(Choose(_("Trash"), choices, note=note))
        if name == _EMPTY:
            await self._empty(count, total)
        elif name:
            self._in_thread(lambda: self._renamed(history.restore(workspace, name)))

    async def _empty(self, count: str, held: str) -> None:
        question = _("Delete what is in the trash for good?")
        if await self._ask(Confirm(question, f"{count}, {held}")):
            self._in_thread(lambda: history.empty(self._pane.workspace))

    # -- inside -------------------------------------------------------------------

    @property
    def _runs(self) -> RunList:
        return self._pane.query_one(RunList)

    async def _ask(self, screen: Any) -> Any:
        return await self._pane.app.push_screen_wait(screen)

    def _act(self, run: Run, deed: Callable[[RunFolder], object]) -> None:
        self._in_thread(lambda: deed(RunFolder(Path(run.summary.dir))))

    def _in_thread(self, work: Callable[[], object]) -> None:
        def act() -> None:
            work()
            self._pane.post_message(Acts.Done())

        self._pane.run_worker(act, group="history", thread=True, exit_on_error=False)
