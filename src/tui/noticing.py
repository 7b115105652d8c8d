"""Alarms and ends of runs as they reach the user of a window: a notice, and the bell if wanted."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from textual.message import Message

from engine.errors import Problem
from engine.workspace import Workspace

if TYPE_CHECKING:  # imported by the watch's thread, so that the first frame need not wait
    from engine.run.folder import RunFolder


class Happened(Message):
    """Something happened to a run that the user has not been told of."""

    def __init__(self, problem: Problem, aside: bool = False, good: bool = False) -> None:
        super().__init__()
        self.problem = problem
        self.aside = aside
        """For the list of notices only: an end in sight, which every pane shows."""
        self.good = good
        """Nothing to worry about."""


class Noticing:
    """Tells `post` of news about runs, in the thread that looks at them.

    Args:
        workspace: whose runs.
        post: takes each message; what happened while no window was open is one.
    """

    def __init__(self, workspace: Workspace, post: Callable[[Message], object]) -> None:
        self._workspace, self._post = workspace, post
        self._opened = time.time()
        self._first = True

    def look(self, runs: Iterable[RunFolder]) -> None:
        """Tell what is new about `runs`."""
        from engine.run.alarms import news

        if self._first:
            self._news = news.News(self._workspace)
        found = self._news.look(runs)
        if self._first:
            away = [notice for notice in found if notice.time < self._opened]
            found = [notice for notice in found if notice.time >= self._opened]
            if away:
                good = all(notice.state == "finished" for notice in away)
                self._post(Happened(news.as_problem(away, away=True), good=good))
        self._first = False
        for notice in found:
            ended, moved = notice.state is not None, notice.moved is not None
            self._post(Happened(notice.problem(), aside=ended, good=moved))
