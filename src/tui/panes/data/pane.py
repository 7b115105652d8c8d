"""The pane itself: which dataset is open, through which model, and what can be done with it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from rich.cells import cell_len
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding
from textual.widget import Widget
from textual.worker import get_current_worker

from engine.errors import Problem
from engine.i18n import N_, _, ngettext
from engine.settings import Settings
from engine.text import one_line
from engine.workspace import Workspace
from tui.dialogs.choose import Choose
from tui.dialogs.confirm import Confirm
from tui.dialogs.reading import Reading
from tui.panes.base import Pane
from tui.panes.data import asking, opening
from tui.panes.data.acts import Acts
from tui.panes.data.browse import Browser
from tui.panes.data.checking import Checking
from tui.panes.data.eyes import Eyes
from tui.panes.data.facts import Facts
from tui.panes.data.opener import LOOK_EVERY, Opener
from tui.panes.data.sample import SampleView
from tui.panes.data.substitute import Substitute
from tui.panes.data.verdict import findings, lengths
from tui.widgets.strips import Line
from tui.widgets.table import VirtualTable

if TYPE_CHECKING:
    from engine.dataset.reader import Dataset


class DataPane(Pane):
    """Opens a dataset, shows it as the model will see it, checks and edits it."""

    TAB = "data"
    WAYS = {"template": N_("t chooses it.")}
    BINDINGS = [
        Binding("o", "open", N_("open"), id="data.open"),
        Binding("c", "check", N_("check all"), id="data.check"),
        Binding("s", "substitute", N_("substitute"), id="data.substitute"),
        Binding("e", "edit", N_("edit"), id="data.edit"),
        Binding("d", "delete", N_("delete the row, or those marked"), show=False, id="data.delete"),
        Binding("y", "duplicate", N_("repeat the row"), show=False, id="data.duplicate"),
        Binding("u", "undo", N_("undo"), show=False, id="data.undo"),
        Binding("x", "export", N_("export rows"), show=False, id="data.export"),
        Binding("S", "split", N_("split off a validation set"), show=False, id="data.split"),
        Binding("t", "template", N_("model and template"), show=False, id="data.template"),
        Binding("L", "max_length", N_("max_length"), show=False, id="data.max-length"),
        Binding("m", "shape", N_("what the columns mean"), show=False, id="data.shape"),
        Binding("p", "pack", N_("packed or not"), show=False, id="data.pack"),
        Binding("v", "findings", N_("findings"), show=False, id="data.findings"),
        Binding("i", "lengths", N_("lengths of the rows"), show=False, id="data.lengths"),
        Binding("r", "reload", N_("read the file again"), show=False, id="data.reload"),
        Binding("tab", "app.focus_next", N_("to the sample"), show=False, id="data.sample"),
    ]

    def __init__(self, workspace: Workspace, settings: Settings) -> None:
        super().__init__(workspace, settings)
        self._pack = True
        self._eyes = Eyes(settings)
        self._facts = Facts()
        self._opener = Opener(self, settings, workspace.cache, self._say)
        self._browser = Browser(self._eyes, self._facts)
        self._checking = Checking(settings, self._eyes, workspace.cache)
        self._acts = Acts(self, workspace, self._say)

    def compose(self) -> ComposeResult:
        """Head line, rows and sample, the verdict."""
        yield Line(id="data-head")
        yield self._browser
        yield self._checking

    def on_mount(self) -> None:
        """Keep an eye on the file."""
        self.set_interval(LOOK_EVERY, self._opener.look)

    def on_unmount(self) -> None:
        """The tokenizer's process ends with the pane."""
        self._eyes.close()

    def home(self) -> Widget:
        """The rows."""
        return self._browser.table

    def activate(self) -> None:
        """Open what was open last; on an empty workspace say how to begin."""
        last = self.workspace.last()
        if not self._eyes.model:
            self._eyes.look_through(last.base, last.template)
        if self._opener.dataset is None:
            self._open_last(last.dataset, last.shape or None)

    @work(thread=True, exclusive=True, group="last", exit_on_error=False)
    def _open_last(self, paths: list[Path], shape: str | None) -> None:
        worker, there = get_current_worker(), bool(paths) and paths[0].exists()
        if worker.is_cancelled:
            return  # another one is opened instead
        if there:
            self.app.call_from_thread(self._opener.open_files, paths, shape)
        else:
            self.app.call_from_thread(self._say_how_to_begin)

    def leaving(self) -> str:
        """A file that is being written would not come to be."""
        return _("The file is being written; what was there stays.") if self._acts.busy else ""

    def _say_how_to_begin(self) -> None:
        self.add_class("-empty")
        self._browser.sample.say(
            _(
                "No dataset is open.\n\n"
                "o  opens a file, a folder, or a dataset on a hub: JSON, JSON Lines, CSV,\n"
                "   Parquet, Arrow, compressed or not; XTuner's, Alpaca's, OpenAI's or\n"
                "   ShareGPT's shape, or any columns once you say what they mean.\n\n"
                "Then s renames in it, c checks every row, and Enter takes it to a config."
            )
        )
        self.hint = _("o  open a dataset")

    @property
    def _dataset(self) -> Dataset:
        """The one that is open. Raises `Problem` when none is."""
        if self._opener.dataset is None:
            raise Problem(_("No dataset is open"), "", _("Press o to open one."))
        return self._opener.dataset

    def offers(self, action: str) -> bool:
        """Without a dataset, to open one; of what needs more than that, what has it."""
        if not self.is_mounted or self._opener.dataset is None:
            return action in ("open", "template")
        on_row, checked = self._browser.table.row is not None, self._facts.report is not None
        offered = {
            "undo": self._acts.undoable,
            **dict.fromkeys(("edit", "delete", "duplicate"), on_row),
            **dict.fromkeys(("findings", "lengths"), checked),
        }
        return offered.get(action, True)

    # -- opening --------------------------------------------------------------

    @work(exclusive=True, group="dialog", exit_on_error=False)
    async def action_open(self) -> None:
        """Choose a dataset of this workspace, or give a path or a name on a hub."""
        known = await asyncio.to_thread(lambda: [*opening.candidates(self.workspace)])
        note = _("A file, a folder, or a dataset on a hub: hf:OWNER/NAME, ms:OWNER/NAME.")
        chosen = await self.app.push_screen_wait(
            Choose(_("Open a dataset"), known, free=True, note=note)
        )
        if chosen:
            self._acts.forget()
            self.workers.cancel_group(self, "last")
            self._opener.open(await asyncio.to_thread(opening.meant, chosen, self.workspace))

    @work(exit_on_error=False)
    async def action_reload(self) -> None:
        """Read the file again, and stay where the cursor is."""
        self._opener.open_files(self._opener.paths, self._opener.shape, self._browser.row)

    @work(exit_on_error=False)
    async def action_shape(self) -> None:
        """Say what the columns mean."""
        rows = self._browser.table.in_view()
        shape = await asking.a_shape(self.app, self._dataset, rows, self.workspace, self.settings)
        if shape is not None:
            shape = None if shape == asking.DETECT else shape
            self._opener.open_files(self._opener.paths, shape, self._browser.row)

    @on(Opener.Opened)
    def _opened(self, event: Opener.Opened) -> None:
        if event.dataset is not self._opener.dataset:
            return  # yet another one was opened meanwhile
        self.remove_class("-empty")
        if not event.same:
            self._facts.marked.clear()
        self._facts.forget()
        self._checking.not_yet()
        self._browser.open(event.dataset, event.first, event.row, event.same)
        self._draw_head()
        self._say(event.words)
        for note in event.dataset.notes:
            self.notify(one_line(note), markup=False)
        self._remember()

    def _remember(self) -> None:
        """What the next step, and the app tomorrow, needs to know of the data."""
        data, shape = str(self._dataset.path), self._opener.shape or ""
        unclear = "" if self._dataset.shape else data
        files = [str(path) for path in self._opener.paths]
        several = files if len(files) > 1 else []
        self.post_message(self.Opened(data=data, files=several, shape=shape, unclear=unclear))

    @on(Opener.Counted)
    def _counted(self, event: Opener.Counted) -> None:
        self._browser.counted()
        self._draw_head(event.share)

    @on(Opener.Stale)
    def _stale(self) -> None:
        if not self._acts.busy:
            self._say("")

    # -- words ----------------------------------------------------------------

    def _draw_head(self, share: str = "") -> None:
        if self._opener.dataset is None:
            return
        eyes = (Path(self._eyes.model).name, self._eyes.template)
        right = " · ".join(part for part in eyes if part)
        line = self.query_one("#data-head", Line)
        room = line.size.width - cell_len(right) - 3
        dataset, title = self._opener.dataset, self._browser.title
        left = opening.head(dataset, self.workspace, title, share, room)
        line.say(f" {left}", f"{right} ")

    def on_resize(self) -> None:
        """There is another room for the name."""
        self.call_after_refresh(self._draw_head)

    def _say(self, words: str) -> None:
        """Name the next step, or say `words` on what was done last."""
        marked = len(self._facts.marked)
        if self._opener.stale:
            self.hint = _("The file has changed on disk.   r  read it again")
        elif words:
            self.hint = words
        elif marked:
            self.hint = ngettext(
                "{count} row marked:   d delete   y repeat   x export   * unmark",
                "{count} rows marked:   d delete   y repeat   x export   * unmark",
                marked,
            ).format(count=marked)
        elif self._browser.title:
            self.hint = _("Esc  all rows again    f  another filter    A  mark them all")
        elif self._opener.dataset is not None and self._opener.dataset.rows == 0:
            self.hint = _("o  open another dataset: this one holds no rows")
        elif self._opener.dataset is not None and not self._opener.dataset.shape:
            self.hint = _("m  say what the columns mean: XTuner must be told which is the answer")
        elif self._facts.report is not None and self._facts.report.broken:
            self.hint = _("n  to the next broken row:   e edit it   d delete it")
        elif self._opener.dataset is not None:
            self.hint = _("Enter  use this dataset in a config")

    @on(Browser.Changed)
    def _shown(self) -> None:
        self._draw_head()
        self._say("")

    # -- model and template ---------------------------------------------------

    @work(exit_on_error=False)
    async def action_template(self) -> None:
        """Choose whose tokenizer and which prompt template to look through."""
        model = await asking.a_model(self.app, self.workspace)
        if model is None:
            return
        self.hint = _("Reading XTuner's templates …")
        try:
            template = await asking.a_template(self.app, self.settings)
        finally:
            self._say("")
        if template is not None:
            self._eyes.look_through(model, template)
            self.post_message(self.Opened(base=model, template=template))
            self._see_again()

    @work(exit_on_error=False)
    async def action_max_length(self) -> None:
        """Say at how many tokens a row is cut."""
        label = _("tokens (max_length in the config)")
        now = self._eyes.max_length
        number = await asking.a_number(self.app, _("Longest row"), label, now, 1)
        if number is not None:
            self._eyes.look_through(self._eyes.model, self._eyes.template, number)
            self._see_again()

    def _see_again(self) -> None:
        """The eyes are others: what was counted with the former ones is void."""
        self._facts.forget()
        self._checking.not_yet()
        self._browser.redraw()
        self._draw_head()

    @on(SampleView.Blind)
    def _blind(self) -> None:
        self._draw_head()

    # -- check ----------------------------------------------------------------

    @work(exit_on_error=False)
    async def action_check(self) -> None:
        """Check every row in the background; again to cancel."""
        if self._checking.running:
            self._checking.cancelled()
        else:
            self._checking.begin(self._dataset, self._pack)

    @work(exit_on_error=False)
    async def action_pack(self) -> None:
        """Count samples and steps packed, or unpacked."""
        self._pack = not self._pack
        if self._facts.report is not None:
            self._checking.begin(self._dataset, self._pack)

    @on(Checking.Checked)
    def _checked(self, event: Checking.Checked) -> None:
        self._facts.checked(event.report)
        self._browser.redraw()
        self._say("")

    def action_findings(self) -> None:
        """Read all findings with their remedies."""
        if self._facts.report is not None:
            lines = findings(self._facts.report) or [_("Every row is good.")]
            self.app.push_screen(Reading(_("Findings"), lines))
        else:
            self._not_checked()

    def _not_checked(self) -> None:
        self.trouble(Problem(_("The rows are not counted yet"), "", _("Press c to check.")))

    def action_lengths(self) -> None:
        """See how many tokens the rows have."""
        if self._facts.report is not None:
            self.app.push_screen(Reading(_("Lengths"), lengths(self._facts.report)))
        else:
            self._not_checked()

    # -- acts -----------------------------------------------------------------

    @work(exit_on_error=False)
    async def action_edit(self) -> None:
        """Change the row under the cursor in $EDITOR."""
        self._acts.edit(self._dataset, self._browser.row)

    @work(exit_on_error=False)
    async def action_delete(self) -> None:
        """Delete the marked rows, or the one under the cursor."""
        dataset, rows = self._dataset, self._browser.chosen
        if len(rows) > 1:
            question = _("Delete {count} marked rows?").format(count=len(rows))
            if not await self.app.push_screen_wait(Confirm(question, _("u brings them back."))):
                return
        if rows:
            self._acts.delete(dataset, rows)

    @work(exit_on_error=False)
    async def action_duplicate(self) -> None:
        """Repeat the marked rows, or the one under the cursor."""
        if self._browser.chosen:
            self._acts.duplicate(self._dataset, self._browser.chosen)

    @work(exit_on_error=False)
    async def action_undo(self) -> None:
        """Take back the last edit, or go back to the file before the last substitution."""
        self._acts.undo()

    @on(Acts.Done)
    def _done(self, event: Acts.Done) -> None:
        if event.moved:
            self._facts.marked.clear()
        self._opener.open_files(event.paths, self._opener.shape, event.row, event.words)

    @work(exit_on_error=False)
    async def action_substitute(self) -> None:
        """Rename in the data: a new file is written, the original stays."""
        paths = self._opener.paths if self._dataset else []
        written = await self.app.push_screen_wait(Substitute(paths, self.workspace))
        if written is not None:
            self._acts.replaced(self._opener.paths, self._browser.row)
            self._opener.open_files([written], self._opener.shape, self._browser.row)

    @work(exclusive=True, group="export", exit_on_error=False)
    async def action_export(self) -> None:
        """Write some of the rows to a new file."""
        dataset = self._dataset
        wish = await asking.an_export(self.app, dataset, self.workspace, self._browser.known)
        if wish is not None:
            self._acts.export(dataset, wish)

    @work(exclusive=True, group="split", exit_on_error=False)
    async def action_split(self) -> None:
        """Split a validation set off, into two new files."""
        dataset = self._dataset
        wish = await asking.a_split(self.app, dataset, self.workspace)
        if wish is not None:
            self._acts.split(dataset, wish)

    # -- on -------------------------------------------------------------------

    @on(VirtualTable.Selected)
    def _use(self) -> None:
        if self._opener.dataset is not None:
            self._remember()
            self.post_message(self.Go("config"))
