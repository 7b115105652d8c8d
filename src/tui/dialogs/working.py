"""A dialog that closes by itself, at the end of what a thread does for it."""

from __future__ import annotations

from textual import events, on
from textual.screen import ModalScreen, ScreenResultType


class Working(ModalScreen[ScreenResultType]):
    """Closes with `done`, wherever it lies by then.

    `dismiss` closes what is in front: another dialog that was opened meanwhile, or, when
    this one was put away, whatever came after it.
    """

    _result: ScreenResultType | None = None

    def done(self, result: ScreenResultType) -> None:
        """Close with `result` as soon as nothing lies over this; nothing where it is closed."""
        if self.is_active:
            self.dismiss(result)
        else:
            self._result = result

    @on(events.ScreenResume)
    def _in_front_again(self) -> None:
        if self._result is not None:
            self.dismiss(self._result)
