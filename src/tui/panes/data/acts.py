"""Acts on the file that is open: rows changed, deleted, repeated, and all of it undone."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Collection, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from textual.app import App
from textual.message import Message
from textual.widget import Widget
from textual.worker import get_current_worker

from engine.errors import Problem
from engine.i18n import _, ngettext
from engine.workspace import Workspace
from tui.editor import open_editor

if TYPE_CHECKING:
    from engine.dataset.editing.edit import Edit
    from engine.dataset.editing.versions import Versions
    from engine.dataset.reader import Dataset
    from tui.panes.data.asking import Export, Split

TELL_EVERY = 0.3
"""Seconds between two words on how far an act is."""


class Step(NamedTuple):
    """Something that can be undone: an edit, or (`edit` None) another file opened instead."""

    former: Sequence[Path]
    row: int
    edit: Edit | None


class Acts:
    """Edits datasets in threads of `host` and remembers how to undo it.

    One act at a time. When one is done, `host` gets `Acts.Done`; why one failed is
    raised in its thread and ends where the errors of the host's workers end.

    Args:
        host: the widget that shows the dataset.
        workspace: former versions are kept in its own folder.
        say: told, on the event loop, what is going on.
    """

    class Done(Message):
        """A file was written: read `paths` again. `row` deserves the cursor.

        `moved` says whether rows have other numbers now, `words` what was done.
        """

        def __init__(self, paths: Sequence[Path], row: int, moved: bool, words: str) -> None:
            super().__init__()
            self.paths, self.row, self.moved, self.words = paths, row, moved, words

    def __init__(self, host: Widget, workspace: Workspace, say: Callable[[str], None]) -> None:
        self._host = host
        self._workspace = workspace
        self._folder = workspace.state / "trash"
        self._say = say
        self._steps: list[Step] = []
        self._drafts: dict[tuple[Path, int], str] = {}
        self.busy = False
        """Whether a file is being written."""

    def edit(self, dataset: Dataset, row: int) -> None:
        """Lay row `row` before the user in their editor, then write what they made of it.

        Text that is no JSON is kept and laid before them at the next try.
        Raises `Problem` for a dataset that cannot be edited, and for such a text.
        """
        from engine.dataset.editing import edit

        edit.can_edit(dataset)
        key, was = (dataset.path, row), edit.text_of(dataset, row)
        text = self._drafts.pop(key, None) or was
        made = edited(self._host.app, text, f"row-{row}.json")
        if made is None or made == was:
            return
        self._drafts[key] = made
        edit.parsed(made)

        def act(versions: Versions, **heard: Any) -> Edit:
            done = edit.change(dataset, row, made, versions, **heard)
            self._drafts.pop(key, None)
            return done

        words = _("Row {row} was changed").format(row=row)
        self._start(partial(self._edit, dataset, row, False, words, act))

    def delete(self, dataset: Dataset, rows: Collection[int]) -> None:
        """Leave `rows` out."""
        from engine.dataset.editing import edit

        def act(versions: Versions, **heard: Any) -> Edit:
            return edit.delete(dataset, rows, versions, **heard)

        count = len(rows)
        words = ngettext("{count} row was deleted", "{count} rows were deleted", count)
        self._start(partial(self._edit, dataset, min(rows), True, words.format(count=count), act))

    def duplicate(self, dataset: Dataset, rows: Collection[int]) -> None:
        """Repeat each of `rows` behind itself."""
        from engine.dataset.editing import edit

        def act(versions: Versions, **heard: Any) -> Edit:
            return edit.duplicate(dataset, rows, versions, **heard)

        count = len(rows)
        words = ngettext("{count} row was repeated", "{count} rows were repeated", count)
        self._start(
            partial(self._edit, dataset, min(rows) + 1, True, words.format(count=count), act)
        )

    def export(self, dataset: Dataset, wish: Export) -> None:
        """Write some rows to a new file."""

        def act(**heard: Any) -> str:
            from engine.dataset.editing.portion import export

            done = export(dataset, wish.rows, wish.out, **heard)
            return ngettext(
                "{count:,} row was written to {path}",
                "{count:,} rows were written to {path}",
                done.rows,
            ).format(count=done.rows, path=self._workspace.relative(wish.out))

        self._start(partial(self._write, act))

    def split(self, dataset: Dataset, wish: Split) -> None:
        """Deal the rows out to two new files."""

        def act(**heard: Any) -> str:
            from engine.dataset.editing.portion import split

            done = split(
                dataset,
                wish.train,
                wish.validation,
                share=wish.share,
                count=wish.count,
                seed=wish.seed,
                **heard,
            )
            return _("{train:,} rows for training, {val:,} for validation: {path}").format(
                train=done.train_rows,
                val=done.validation_rows,
                path=self._workspace.relative(wish.validation),
            )

        self._start(partial(self._write, act))

    def replaced(self, former: Sequence[Path], row: int) -> None:
        """Another file was opened in place of `former`, which can be gone back to."""
        self._steps.append(Step(former, row, None))

    def forget(self) -> None:
        """Something else is open: there is nothing to undo."""
        self._steps.clear()

    @property
    def undoable(self) -> bool:
        """Whether there is something to undo."""
        return bool(self._steps)

    def undo(self) -> None:
        """Take back the last act. Raises `Problem` when there is none, or it cannot be."""
        if self.busy:
            raise _busy()
        if not self.undoable:
            raise Problem(_("There is nothing to undo"))
        step = self._steps.pop()
        if step.edit is not None:
            from engine.dataset.editing.edit import undo
            from engine.dataset.editing.versions import Versions

            undo(step.edit, Versions(self._folder))
        moved = step.edit is not None
        self._host.post_message(self.Done(step.former, step.row, moved, _("Undone")))

    # -- in a thread ----------------------------------------------------------

    def _start(self, work: Callable[[], None]) -> None:
        if self.busy:
            raise _busy()
        self.busy = True

        def run() -> None:
            try:
                work()
            finally:
                self.busy = False

        self._host.run_worker(run, group="acts", thread=True, exit_on_error=False)

    def _edit(
        self, dataset: Dataset, row: int, moved: bool, words: str, act: Callable[..., Edit]
    ) -> None:
        from engine.dataset.editing.versions import Versions

        done = act(Versions(self._folder), **self._heard())
        self._steps.append(Step([dataset.path], row, done))
        self._host.post_message(self.Done([dataset.path], row, moved, f"{words}   u  {_('undo')}"))

    def _write(self, act: Callable[..., str]) -> None:
        words = act(**self._heard())
        self._host.app.call_from_thread(self._say, words)

    def _heard(self) -> dict[str, Any]:
        """How far an act is, for the user, and whether the app still waits for it."""
        worker, told = get_current_worker(), time.monotonic()

        def progress(done: int, total: int) -> None:
            nonlocal told
            if total and time.monotonic() - told > TELL_EVERY and not worker.is_cancelled:
                told = time.monotonic()
                share = _("Writing the file … {share} %").format(share=100 * done // total)
                self._host.app.call_from_thread(self._say, share)

        return {"progress": progress, "cancelled": lambda: worker.is_cancelled}


def edited(app: App[Any], text: str, name: str) -> str | None:
    """`text` as the user leaves it in their own editor; None when they gave up.

    `name` is what the editor shows. Raises `Problem` when there is no editor.
    """
    with tempfile.TemporaryDirectory(prefix="tunedeck-") as folder:
        path = Path(folder) / name
        path.write_text(text, encoding="utf-8")
        if open_editor(app, path) != 0:
            return None
        return path.read_text(encoding="utf-8", errors="surrogateescape")


def _busy() -> Problem:
    return Problem(_("The file is being written"), "", _("Try again when that is done."))
