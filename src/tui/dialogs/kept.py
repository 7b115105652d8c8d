"""What was typed into a dialog that was put away: it stands there again the next time."""

from __future__ import annotations

from collections.abc import Sequence
from weakref import WeakKeyDictionary

from textual.app import App

_TYPED: WeakKeyDictionary[App[object], dict[str, list[str]]] = WeakKeyDictionary()


class Kept:
    """The texts of one dialog's fields, from the Esc that put it away to the next time.

    Args:
        about: names the dialog and what it is about; the same again finds them.
        begin: the fields' texts where nothing is kept.
    """

    def __init__(self, about: str, begin: Sequence[str]) -> None:
        self._about = "\0".join((about, *begin))
        self._begin = list(begin)

    def texts(self, app: App[object]) -> list[str]:
        """What the fields begin with."""
        return list(_TYPED.get(app, {}).get(self._about, self._begin))

    def keep(self, app: App[object], texts: Sequence[str]) -> None:
        """The dialog is put away with these in its fields."""
        if list(texts) == self._begin:
            self.forget(app)
        else:
            _TYPED.setdefault(app, {})[self._about] = list(texts)

    def forget(self, app: App[object]) -> None:
        """They were accepted."""
        _TYPED.get(app, {}).pop(self._about, None)
