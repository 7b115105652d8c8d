"""Opens datasets in threads, counts their rows, notices when the file on disk changes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from textual.message import Message
from textual.widget import Widget
from textual.worker import get_current_worker

from engine.i18n import _
from engine.settings import Settings
from engine.text import one_line, size
from tui.panes.data.rows import PAGE

if TYPE_CHECKING:
    from engine.dataset.reader import Dataset, Row

LOOK_EVERY = 2.0
"""Seconds between two looks at whether the file on disk is still the one that is open."""
TELL_EVERY = 0.5
"""Seconds between two words on how many rows have been counted."""


class Opener:
    """Holds the dataset that is open, and tells `host` by messages what becomes of it.

    Args:
        host: its threads are used; what fails ends where its workers' errors end.
        settings: of the process that fetches from hubs.
        cache: a folder that keeps indexes of large files.
        say: told, on the event loop, how far a download is.
    """

    class Opened(Message):
        """A dataset is open: its `first` rows have been read, `row` deserves the cursor.

        `same` says whether it is the file that was open before, read again, and
        `words` what was done to it.
        """

        def __init__(
            self, dataset: Dataset, first: list[Row], row: int, same: bool, words: str
        ) -> None:
            super().__init__()
            self.dataset, self.first, self.row = dataset, first, row
            self.same, self.words = same, words

    class Counted(Message):
        """More rows are known; `share` of the file has been looked through ("" for all)."""

        def __init__(self, share: str) -> None:
            super().__init__()
            self.share = share

    class Stale(Message):
        """The file on disk is no longer the one that is open."""

    def __init__(
        self, host: Widget, settings: Settings, cache: Path, say: Callable[[str], None]
    ) -> None:
        self._host = host
        self._settings = settings
        self._cache = cache
        self._say = say
        self._looking = False
        self.dataset: Dataset | None = None
        self.paths: list[Path] = []
        """What it was opened as: a file, a folder, or several files."""
        self.shape: str | None = None
        """What its columns were said to mean; None where that was told from its rows."""
        self.stale = False
        """Whether the file on disk is known to be another by now."""

    def open(self, name: str, shape: str | None = None) -> None:
        """Open what a person means by `name`: a file, a folder, a dataset on a hub."""
        self._run(partial(self._fetch, name, shape), "open", exclusive=True)

    def open_files(
        self, paths: Sequence[Path], shape: str | None = None, row: int = 0, words: str = ""
    ) -> None:
        """Open `paths`, the cursor on `row`; its rows have `shape` (None: told from them)."""
        self._run(partial(self._open, paths, shape, row, words), "open", exclusive=True)

    def look(self) -> None:
        """See whether the file has changed, in a thread: a file system may take its time."""
        if self.dataset is not None and not self._looking and not self.stale:
            self._looking = True
            self._run(partial(self._look, self.dataset), "look")

    def _run(self, function: Callable[[], None], group: str, exclusive: bool = False) -> None:
        self._host.run_worker(
            function, group=group, thread=True, exclusive=exclusive, exit_on_error=False
        )

    def _fetch(self, name: str, shape: str | None) -> None:
        from engine.dataset import named

        worker, told = get_current_worker(), 0.0

        def say(done: int, total: int) -> None:
            nonlocal told
            if time.monotonic() - told > TELL_EVERY and not worker.is_cancelled:
                told = time.monotonic()
                share = f"{100 * done // total} %" if total else size(done)
                words = _("Fetching {name} … {share}      o  open another instead")
                words = words.format(name=one_line(name), share=share)
                self._host.app.call_from_thread(self._say, words)

        found = named.files(
            [name], settings=self._settings, progress=say, cancelled=lambda: worker.is_cancelled
        )
        self._open([found] if isinstance(found, Path) else found, shape, 0, "")

    def _open(self, paths: Sequence[Path], shape: str | None, row: int, words: str) -> None:
        from engine.dataset.reader import Dataset

        dataset = Dataset.open(paths, shape, cache=self._cache)
        opened = partial(self._opened, dataset, list(paths), shape)
        first = dataset.page(max(0, row - PAGE // 2), PAGE)
        self._host.app.call_from_thread(opened, first, row, words)
        if dataset.rows is None:
            self._count(dataset)

    def _opened(
        self,
        dataset: Dataset,
        paths: list[Path],
        shape: str | None,
        first: list[Row],
        row: int,
        words: str,
    ) -> None:
        same = self.paths == paths
        self.dataset, self.paths, self.shape, self.stale = dataset, paths, shape, False
        self._host.post_message(self.Opened(dataset, first, row, same, words))

    def _count(self, dataset: Dataset) -> None:
        worker, told = get_current_worker(), time.monotonic()

        def say(done: int, total: int) -> None:
            nonlocal told
            if time.monotonic() - told > TELL_EVERY:
                told = time.monotonic()
                self._tell(dataset, f"({100 * done // total} %)")

        dataset.index(say, cancelled=lambda: worker.is_cancelled)
        self._tell(dataset, "")

    def _tell(self, dataset: Dataset, share: str) -> None:
        if dataset is self.dataset and not get_current_worker().is_cancelled:
            self._host.post_message(self.Counted(share))

    def _look(self, dataset: Dataset) -> None:
        try:
            if dataset.changed() and dataset is self.dataset:
                self.stale = True
                self._host.post_message(self.Stale())
        finally:
            self._looking = False
