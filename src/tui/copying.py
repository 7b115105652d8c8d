"""Copying to the clipboard of the terminal that the person sits at (OSC 52)."""

from __future__ import annotations

import os

from textual.widget import Widget

from engine.i18n import _, ngettext

_TMUX = "tmux set -s set-clipboard on"


def copy(widget: Widget, text: str) -> None:
    """Copy `text`, and say so: whether it arrives cannot be known from here."""
    widget.app.copy_to_clipboard(text)
    count = text.count("\n") + 1
    said = ngettext("{count} line copied.", "{count} lines copied.", count).format(count=count)
    if os.environ.get("TMUX"):
        # With tmux's defaults it goes nowhere.
        said += "\n" + _("In tmux only after: {command}").format(command=_TMUX)
    widget.notify(said, markup=False, timeout=4)
