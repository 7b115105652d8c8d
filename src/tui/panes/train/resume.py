"""Go on with a run: from which checkpoint, with which settings, and what would differ."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import ScrollableContainer
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option
from textual.worker import Worker, WorkerState

from engine.i18n import N_, _
from engine.run.checkpoints import Checkpoint
from engine.run.folder import RunFolder
from engine.settings import Settings
from engine.text import clean, one_line, size
from engine.workspace import Workspace
from tui.dialogs.fitted import Fitted
from tui.dialogs.keys_line import KeysLine
from tui.dialogs.working import Working
from tui.panes.base import as_problem

if TYPE_CHECKING:
    from engine.joined.resuming import Difference, Resumption

_SHOWN = 5
"""Checkpoints in view; the others are scrolled to."""
_MARKS = {"refused": "✗", "order": "!", "training": "!", "unread": "·", "harmless": "·"}
_STYLES = {"refused": "red", "order": "yellow", "training": "yellow"}


class Checkpoints(OptionList):
    """The checkpoints, the newest first; a torn one is shown and cannot be chosen."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "screen.resume", N_("go on"), show=False, id="checkpoints.resume"),
        Binding("j", "cursor_down", N_("down"), show=False, id="checkpoints.down"),
        Binding("k", "cursor_up", N_("up"), show=False, id="checkpoints.up"),
        Binding("pagedown", "screen.page(1)", N_("more"), show=False, id="checkpoints.more"),
        Binding("pageup", "screen.page(-1)", N_("back"), show=False, id="checkpoints.less"),
    ]


class Resume(Working[bool]):
    """Goes on with `run`, one of our own that has ended; returns whether it does."""

    DEFAULT_CSS = """
    Resume {
        & OptionList { height: auto; max-height: 5; }
        & #differences-box { height: 1fr; min-height: 3; margin-top: 1; overflow-x: hidden; }
        & #differences { height: auto; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(False)", N_("back"), id="resume.back"),
        Binding("enter", "resume", N_("go on"), id="resume.resume"),
        Binding("e", "change", N_("change settings"), id="resume.change"),
    ]

    def __init__(self, run: RunFolder, workspace: Workspace, settings: Settings) -> None:
        super().__init__()
        self._run, self._workspace, self._settings = run, workspace, settings
        self._saved: list[Checkpoint] = []
        self._text = ""
        self._told: Resumption | None = None
        self._starting = False

    def compose(self) -> ComposeResult:
        """Checkpoints, differences, the keys."""
        title = _("Go on with {run} from").format(run=one_line(self._run.name))
        with Fitted(classes="dialog -wide"):
            yield Static(title, classes="dialog-title", markup=False)
            yield Checkpoints(id="checkpoints", markup=False)
            with ScrollableContainer(id="differences-box", can_focus=False):
                yield Static("", id="differences", markup=False)
            yield Static("", id="wrong", classes="dialog-wrong", markup=False)
            yield KeysLine(id="resume-keys")

    def on_mount(self) -> None:
        """Look what there is to go on from."""
        self.query_one(Checkpoints).focus()
        self._say_keys()
        self._look()

    def on_resize(self) -> None:
        """There may be more to scroll to, or less."""
        self.call_after_refresh(self._say_keys)

    # -- what is shown ------------------------------------------------------------

    @work(thread=True, group="look", exit_on_error=False)
    def _look(self) -> None:
        self.app.call_from_thread(self._show, self._run.checkpoints()[::-1])

    def _show(self, saved: list[Checkpoint]) -> None:
        self._saved = saved
        options = self.query_one(Checkpoints)
        options.add_options(Option(_line(one), disabled=not one.complete) for one in saved)
        options.styles.height = min(len(saved), _SHOWN)
        options.highlighted = next((at for at, one in enumerate(saved) if one.complete), None)

    @property
    def _chosen(self) -> Path | None:
        at = self.query_one(Checkpoints).highlighted
        return None if at is None else self._saved[at].path

    @on(OptionList.OptionHighlighted)
    def _compare(self) -> None:
        self._told = None
        self.query_one("#wrong", Static).update("")
        self._compare_in_thread(self._chosen, self._text or None)

    @work(thread=True, exclusive=True, group="compare", exit_on_error=False)
    def _compare_in_thread(self, chosen: Path | None, text: str | None) -> None:
        from engine.joined.resuming import resume_differences

        told = resume_differences(self._run, text, checkpoint=chosen)
        self.app.call_from_thread(self._tell, told)

    def _tell(self, told: Resumption) -> None:
        self._told = told
        self.query_one("#differences", Static).update(differences(told))
        self._box.scroll_home(animate=False)
        self.call_after_refresh(self._say_keys)

    @property
    def _box(self) -> ScrollableContainer:
        return self.query_one("#differences-box", ScrollableContainer)

    def _say_keys(self) -> None:
        """The keys; Enter is not offered where it can only say why not."""
        from engine.joined.resuming import in_the_way

        keys = [_("↑↓ checkpoint"), _("e change settings"), _("Esc back")]
        if self._told is None or not in_the_way(self._told):
            keys.insert(0, _("Enter go on"))
        if self._box.max_scroll_y:
            keys.insert(-1, _("PgDn more"))
        self.query_one("#resume-keys", KeysLine).tell("   ".join(keys))

    # -- what the keys do -----------------------------------------------------------

    @work(exit_on_error=False)
    async def action_change(self) -> None:
        """Change settings of the config that it goes on with."""
        from tui.panes.train.change import Change

        config = self._run.config
        if config is not None:
            screen = Change(config, self._text, self._workspace, self._settings)
            self._text = await self.app.push_screen_wait(screen)
            self._compare()

    def action_page(self, by: int) -> None:
        """Scroll what differs by so many screens of it."""
        self._box.scroll_relative(y=by * max(self._box.size.height - 1, 1), animate=False)

    def action_resume(self) -> None:
        """Go on as it is shown."""
        if self._told is not None and not self._starting:
            self._starting = True
            self.query_one("#wrong", Static).update(_("starting…"))
            self._start(self._chosen, self._text or None)

    @work(thread=True, group="start", exit_on_error=False)
    def _start(self, chosen: Path | None, text: str | None) -> None:
        from engine.joined.resuming import resume

        resume(self._run, self._settings, checkpoint=chosen, config=text)
        self.app.call_from_thread(self.done, True)

    @on(Worker.StateChanged)
    def _worker_ended(self, event: Worker.StateChanged) -> None:
        if event.state is WorkerState.ERROR:
            self._starting = False
            said = "\n".join(as_problem(event.worker.error).lines())
            self.query_one("#wrong", Static).update(clean(said))


def _line(one: Checkpoint) -> Text:
    parts = [_("step {step}").format(step=one.step)]
    parts += [] if one.complete else [_("half written: cannot be used")]
    parts += [one.path.name]
    parts += [f"loss {one.loss:.4g}"] if one.loss is not None else []
    parts += [size(one.bytes)]
    return Text("   ".join(parts), no_wrap=True, overflow="ellipsis")


def differences(told: Resumption) -> Text:
    """What would differ, the gravest first, each with its mark; then what else to know."""
    text = Text()
    goes_on = (
        _("It goes on after step {step}; how many there are now, preflight tells.")
        if told.steps is None
        else _("It goes on after step {step} of {steps}.")
    )
    text.append(goes_on.format(step=told.step, steps=told.steps))
    if not told.differences:
        text.append("\n" + _("Nothing differs from how it was."), "green")
    for one in told.differences:
        text.append_text(_difference(one))
    for note in told.notes:
        text.append("\n· " + one_line(note, marks=False), "dim")
    return text


def _difference(one: Difference) -> Text:
    from engine.config.known.resuming import spoken

    text = Text("\n")
    text.append(f"{_MARKS[one.effect]} {one_line(one.name)}", _STYLES.get(one.effect, ""))
    if one.before or one.after:
        text.append(f"  {one_line(one.before) or '–'} → {one_line(one.after) or '–'}")
    return text.append("  " + one_line(one.text or spoken(one.effect), marks=False), "dim")
