"""What happened to runs and exports, as it reaches the user of a window: a notice, and the bell."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from textual.message import Message

from engine.errors import Problem
from engine.workspace import Workspace

if TYPE_CHECKING:  # imported by the watch's thread, so that the first frame need not wait
    from engine.export.news import Notice as ExportNotice
    from engine.run.alarms.news import Notice as RunNotice
    from engine.run.folder import RunFolder


class Happened(Message):
    """Something happened that the user has not been told of."""

    def __init__(
        self,
        problem: Problem,
        aside: bool = False,
        good: bool = False,
        exported: ExportNotice | None = None,
    ) -> None:
        super().__init__()
        self.problem = problem
        self.aside = aside
        """For the list of notices only: an end in sight, which every pane shows."""
        self.good = good
        """Nothing to worry about."""
        self.exported = exported
        """The export that has ended, if it is one: the Export pane shows more of it."""


class Noticing:
    """Tells `post` of news about runs and exports, in the thread that looks at them.

    Args:
        workspace: whose runs and exports.
        post: takes each message; what happened while no window was open is one.
    """

    def __init__(self, workspace: Workspace, post: Callable[[Message], object]) -> None:
        self._workspace, self._post = workspace, post
        self._opened = time.time()
        self._first = True

    def look(self, runs: Iterable[RunFolder]) -> None:
        """Tell what is new about `runs`, and about the workspace's exports."""
        from engine.export import news as export_news
        from engine.run.alarms import news

        if self._first:
            self._news = news.News(self._workspace)
            self._exports = export_news.News(self._workspace, self._opened)
        found: list[RunNotice] = []
        ended: list[ExportNotice] = []
        try:
            found = self._news.look(runs)
            ended = self._exports.look()
        finally:  # what was found counts as told, whatever became of the other look
            self._tell(found, ended)

    def _tell(self, found: list[RunNotice], ended: list[ExportNotice]) -> None:
        from engine.run.alarms import news

        if self._first:
            opened = self._opened
            both: list[news.Happening] = [*found, *ended]
            away = [one for one in both if one.time < opened]
            away.sort(key=lambda one: one.time)
            found = [one for one in found if one.time >= opened]
            ended = [one for one in ended if one.time >= opened]
            if away:
                good = all(one.good for one in away)
                self._post(Happened(news.as_problem(away, away=True), good=good))
        self._first = False
        for notice in found:
            self._post(Happened(notice.problem(), notice.state is not None, notice.good))
        for end in ended:
            self._post(Happened(end.problem(), good=end.good, exported=end))
