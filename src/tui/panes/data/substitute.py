"""The dialog that renames in a dataset; every changed place is shown before anything is written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.widgets import Input, Static
from textual.worker import Worker, get_current_worker

from engine.dataset.called import called_shortly, own_place
from engine.errors import Problem
from engine.i18n import N_, _
from engine.text import clean, one_line
from engine.workspace import Workspace
from tui.dialogs.fitted import Box
from tui.dialogs.kept import Kept
from tui.dialogs.keys_line import KeysLine
from tui.dialogs.working import Working
from tui.panes.base import as_problem
from tui.widgets.field import Field

if TYPE_CHECKING:
    from engine.dataset.editing.replace import Replaced

SHOWN = 100
"""Places listed in the preview."""


class Substitute(Working["Path | None"]):
    """Asks what to replace by what, previews, writes; returns the new file or None."""

    BINDINGS = [
        Binding("escape", "back", N_("back")),
        Binding("ctrl+r", "regex", N_("regex"), show=False),
    ]

    def __init__(self, source: Sequence[Path], workspace: Workspace) -> None:
        super().__init__()
        self._source = source
        self._workspace = workspace
        self._regex = False
        self._writing = False
        place = own_place(source[0], workspace)
        suffix = place.suffix if len(source) == 1 else ""  # of several files: a folder
        target = workspace.relative(place.with_name(f"{place.stem}-renamed{suffix}"))
        self._kept = Kept(f"substitute {source[0]}", ["", "", target])

    def compose(self) -> ComposeResult:
        """Three fields, the preview, the keys."""
        old, new, out = self._kept.texts(self.app)
        with Box(classes="dialog -tall -wide"):
            yield Static(
                _("Substitute in {name}").format(name=one_line(called_shortly(self._source[0]))),
                classes="dialog-title",
                markup=False,
            )
            for label, name, value in (
                (_("replace"), "old", old),
                (_("by"), "new", new),
                (_("write to"), "out", out),
            ):
                yield Static(label, classes="dialog-label -tight", markup=False)
                yield Field(value, id=name)
            yield Static("", id="count", classes="dialog-wrong", markup=False)
            with VerticalScroll(can_focus=False):
                yield Static("", id="places", markup=False)
            yield KeysLine(_("Enter  next, then write      ^R  regex on/off      Esc  back"))

    def on_mount(self) -> None:
        """Typing goes into the first field."""
        self.query_one("#old", Field).focus()

    def action_back(self) -> None:
        """Put the dialog away and keep what was typed."""
        self._kept.keep(self.app, self._texts())
        self.dismiss(None)

    def action_regex(self) -> None:
        """Take the first field as a regular expression, or literally."""
        self._regex = not self._regex
        self._preview()

    @on(Input.Changed)
    def _typed(self) -> None:
        self._preview()

    @on(Input.Submitted)
    def _accept(self) -> None:
        if not self._writing:
            self._writing = True
            self._write()

    def _texts(self) -> tuple[str, str, str]:
        old, new, out = (self.query_one(f"#{name}", Field).value for name in ("old", "new", "out"))
        return old, new, out

    @work(thread=True, exclusive=True, group="substitute", exit_on_error=False)
    def _preview(self) -> None:
        from engine.dataset.editing.replace import replace

        old, new, _out = self._texts()
        if not old:
            self.app.call_from_thread(self._say, "", Text())
            return
        alive = _while_wanted(get_current_worker())
        try:
            found = replace(self._source, old, new, regex=self._regex, dry_run=True, progress=alive)
            said, places = self._summary(found), _places(found)
        except _Outdated:
            return
        except Exception as error:
            said, places = "\n".join(as_problem(error).lines()), Text()
        if not get_current_worker().is_cancelled:  # else more has been typed since
            self.app.call_from_thread(self._say, said, places)

    def _summary(self, found: Replaced) -> str:
        kind = _("regular expression") if self._regex else _("literal")
        return _("{count:,} places in {changed:,} of {rows:,} rows ({kind})").format(
            count=found.replacements, changed=found.rows_changed, rows=found.rows, kind=kind
        )

    def _say(self, count: str, places: Text) -> None:
        self.query_one("#count", Static).update(clean(count))
        self.query_one("#places", Static).update(places)

    @work(thread=True, exclusive=True, group="substitute", exit_on_error=False)
    def _write(self) -> None:
        from engine.dataset.editing.replace import replace

        old, new, out = self._texts()
        target = self._workspace.resolve(out)
        try:
            if not old:
                raise Problem(_("Nothing to replace"), "", _("Type what to replace first."))
            if not replace(self._source, old, new, regex=self._regex, dry_run=True).replacements:
                raise Problem(_("Nothing matches, so nothing was written"))
            replace(self._source, old, new, regex=self._regex, out=target)
        except Exception as error:
            self.app.call_from_thread(self._refused, as_problem(error))
            return
        self._kept.forget(self.app)
        self.app.call_from_thread(self.done, target)

    def _refused(self, problem: Problem) -> None:
        """Nothing was written: say why, and keep what was typed."""
        self._writing = False
        self._say("\n".join(problem.lines()), Text())


class _Outdated(Exception):
    """More has been typed: nobody waits for this preview."""


def _while_wanted(worker: Worker[None]) -> Callable[[int, int], None]:
    """A progress callback that ends the work once `worker` is cancelled."""

    def progress(_done: int, _total: int) -> None:
        if worker.is_cancelled:
            raise _Outdated

    return progress


def _places(found: Replaced) -> Text:
    """The changed places, one a line: row, field, what it becomes."""
    from engine.dataset.editing.replace import excerpt

    text = Text()
    for place in found.places[:SHOWN]:
        before, after = excerpt(place)
        text.append(f"{place.row:>6} {one_line(place.field)}  ", style="dim")
        text.append(one_line(before), style="red")
        text.append(" → ", style="dim")
        text.append(one_line(after) + "\n", style="green")
    return text
