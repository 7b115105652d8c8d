"""The check of every row in the background, and its verdict in two lines."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from textual import work
from textual.message import Message
from textual.widgets import Static
from textual.worker import Worker, get_current_worker

from engine.i18n import _
from engine.settings import Settings
from engine.text import duration
from tui.panes.base import Reporting
from tui.panes.data.eyes import Eyes
from tui.panes.data.verdict import verdict

if TYPE_CHECKING:
    from engine.dataset.checking.check import CheckReport
    from engine.dataset.reader import Dataset

_SOON = 3
"""Seconds after which it is said how long it will take."""


class Checking(Reporting, Static):
    """Says how the rows are; checks them when told to.

    Args:
        settings: the training interpreter's.
        eyes: the model and template whose tokens are counted.
        cache: a folder where what was found is kept.
    """

    class Checked(Message):
        """A check has ended; it found this."""

        def __init__(self, report: CheckReport) -> None:
            super().__init__()
            self.report = report

    def __init__(self, settings: Settings, eyes: Eyes, cache: Path) -> None:
        super().__init__("", id="verdict", markup=False)
        self._settings = settings
        self._eyes = eyes
        self._cache = cache
        self._worker: Worker[None] | None = None

    @property
    def running(self) -> bool:
        """Whether a check is under way."""
        return self._worker is not None

    def begin(self, dataset: Dataset, pack: bool) -> None:
        """Check every row of `dataset`."""
        self.stop()
        self._worker = self._check(dataset, pack)

    def stop(self) -> None:
        """Cancel a check under way."""
        if self._worker is not None:
            self._worker.cancel()
            self._worker = None

    def on_unmount(self) -> None:
        """A check ends with the pane."""
        self.stop()

    def not_yet(self) -> None:
        """Nothing is known of the rows."""
        self.stop()
        self.update(_("Not checked yet: c checks every row."))

    def cancelled(self) -> None:
        """The user did not want to wait."""
        self.stop()
        self.update(_("The check was cancelled. c checks every row."))

    @work(thread=True, group="check", exit_on_error=False)
    def _check(self, dataset: Dataset, pack: bool) -> None:
        from engine.dataset.checking.check import check

        worker, began = get_current_worker(), time.monotonic()

        def say(done: int, total: int) -> None:
            if not worker.is_cancelled:
                spent = time.monotonic() - began
                self.app.call_from_thread(self._say_progress, worker, done, total, spent)

        say(0, 0)
        report = None
        try:
            report = check(
                dataset,
                model=self._eyes.model or None,
                template=self._eyes.template or None,
                max_length=self._eyes.max_length,
                pack=pack,
                settings=self._settings,
                cache=self._cache,
                progress=say,
                cancelled=lambda: worker.is_cancelled,
            )
            report.tokens_of(0)  # reads what the table will ask for
        finally:
            if not worker.is_cancelled:
                self.app.call_from_thread(self._ended, worker, report)

    def _say_progress(self, worker: Worker[None], done: int, total: int, spent: float) -> None:
        if worker is not self._worker:
            return  # cancelled while these words were on their way
        words = _("Checking every row …")
        if total:
            words += f" {100 * done // total} %"
        if done and spent > _SOON and done < total:
            words += " · " + _("{time} left").format(time=duration(spent * (total - done) / done))
        self.update(words + "\n" + _("c  cancel"))

    def _ended(self, worker: Worker[None], report: CheckReport | None) -> None:
        if worker is not self._worker:
            return
        self._worker = None
        if report is None:  # the shell says why
            self.update(_("The check could not be made. c checks every row."))
            return
        self.update("\n".join(verdict(report)))
        self.post_message(self.Checked(report))
