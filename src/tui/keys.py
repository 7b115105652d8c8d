"""The keys screen, made from the bindings that really are active."""

from __future__ import annotations

from rich.text import Text
from textual.app import App
from textual.binding import Binding
from textual.dom import DOMNode
from textual.screen import ModalScreen, Screen
from textual.widgets import Input, TextArea

from engine.i18n import _
from tui.dialogs.reading import Reading
from tui.panes.base import offered, rank, speaks_for_pane

_TEXTUALS = {binding.action for binding in Screen.BINDINGS if isinstance(binding, Binding)}
"""What every screen of Textual's can do, which is told in a line of its own."""


def keys_screen(app: App[int]) -> Reading:
    """Every key that works on `app`'s screen now, the pane's first."""
    groups: dict[str, dict[str, list[str]]] = {}
    typing = isinstance(app.focused, Input | TextArea)
    for active in sorted(app.screen.active_bindings.values(), key=lambda one: rank(one.node)):
        binding = active.binding
        own = active.node is not app.screen or binding.action not in _TEXTUALS
        if not binding.description or not own or not offered(active):
            continue
        if typing and active.node is app.focused and not binding.id:
            continue  # a text field's own, which are told in one line
        keys = groups.setdefault(_place(active.node, app), {}).setdefault(
            _(binding.description), []
        )
        display = app.get_key_display(binding)
        if display not in keys:
            keys.append(display)
    lines: list[Text | str] = []
    for place, actions in groups.items():
        lines.append(Text(place, style="bold"))
        lines += [f"  {' '.join(keys):16} {what}" for what, keys in actions.items()]
        lines.append("")
    if typing:
        if not isinstance(app.screen, ModalScreen):
            lines.append(_("Keys that are letters work after Esc; F1 then shows them as well."))
        lines.append(_("In a text: ← → Home End move, ^← ^→ by words, ^W ^U ^K take away."))
    lines.append(_("Tab moves between lists and fields. Esc goes one step back."))
    return Reading(_("Keys"), lines)


def _place(node: DOMNode, app: App[int]) -> str:
    if node is app:
        return _("Everywhere")
    if isinstance(node, Screen):
        return _("In this dialog")
    return _("In this pane") if speaks_for_pane(node) else _("Where the cursor is")
