"""The GPUs to train on, each with what is free there."""

from __future__ import annotations

import getpass
from collections.abc import Collection, Sequence
from typing import ClassVar

from rich.text import Text
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from engine.i18n import N_
from engine.machine.devices import GpuId
from engine.machine.gpu import Gpu
from tui.panes.train.words import free_gpu


class GpuList(OptionList):
    """One line a GPU; Space marks it. Enter belongs to the dialog.

    A mark is a number: the GPUs are given to the processes in the order of marking.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "mark", N_("use it, or not"), show=False, id="gpus.mark"),
        Binding("a", "mark_all", N_("use all, or none"), show=False, id="gpus.mark-all"),
        Binding("enter", "screen.launch", N_("launch"), show=False, id="gpus.launch"),
        Binding("j", "cursor_down", N_("down"), show=False, id="gpus.down"),
        Binding("k", "cursor_up", N_("up"), show=False, id="gpus.up"),
    ]

    class Changed(Message):
        """Other GPUs are marked."""

    def __init__(self) -> None:
        super().__init__(id="gpus", markup=False)
        self._gpus: Sequence[Gpu] = ()
        self._marked: list[GpuId] = []
        self._user = getpass.getuser()
        self._at = 0
        """The line that the cursor was on when the list had the focus last."""

    @property
    def marked(self) -> tuple[GpuId, ...]:
        """The numbers of the GPUs to use, in order."""
        return tuple(self._marked)

    def show(self, gpus: Sequence[Gpu], marked: Collection[GpuId] | None) -> None:
        """Show `gpus`; None marks the one with the most free memory."""
        self._gpus = gpus
        if marked is None:
            best = max(gpus, key=lambda one: one.free, default=None)
            marked = () if best is None else (best.id,)
        here = {one.id for one in gpus}
        self._marked = [index for index in marked if index in here]
        self.clear_options()
        self.add_options(Option(self._line(one)) for one in gpus)
        self._at = 0
        self.highlighted = self._at if gpus and self.has_focus else None
        # Inline, for the shell's style of lists in dialogs takes all the room, and no edge.
        self.styles.height = len(gpus)
        self.styles.padding = (0, 1)
        self.display = bool(gpus)

    def _line(self, one: Gpu) -> Text:
        at = str(self._marked.index(one.id) + 1) if one.id in self._marked else " "
        return Text(f"[{at}] {free_gpu(one, self._user)}", no_wrap=True, overflow="ellipsis")

    def on_focus(self) -> None:
        """The cursor is where it was."""
        self.highlighted = self._at if self._gpus else None

    def on_blur(self) -> None:
        """No cursor: it would look like a choice."""
        self._at, self.highlighted = self.highlighted or 0, None

    def action_mark(self) -> None:
        """Use the GPU under the cursor behind the others, or leave it out."""
        at = self.highlighted
        if at is None:
            return
        index = self._gpus[at].id
        if index in self._marked:
            self._marked.remove(index)
        else:
            self._marked.append(index)
        self._changed()

    def action_mark_all(self) -> None:
        """Use every GPU in its order, or none."""
        every = [one.id for one in self._gpus]
        self._marked = [] if set(self._marked) == set(every) else every
        self._changed()

    def _changed(self) -> None:
        for at, one in enumerate(self._gpus):
            self.replace_option_prompt_at_index(at, self._line(one))
        self.post_message(self.Changed())
