"""The command palette: every action that a key can do here, with its key beside it."""

from __future__ import annotations

from textual.app import App
from textual.binding import ActiveBinding

from engine.i18n import _
from tui.dialogs.choose import Choice, Choose
from tui.panes.base import offered, rank

Actions = dict[str, list[ActiveBinding]]


def actions(app: App[int]) -> Actions:
    """The actions that work on `app`'s screen now, the pane's first, each with its bindings."""
    by_action: Actions = {}
    for active in app.screen.active_bindings.values():
        if active.binding.description and active.binding.id and offered(active):
            by_action.setdefault(active.binding.action, []).append(active)
    return dict(sorted(by_action.items(), key=lambda item: rank(item[1][0].node)))


def palette(app: App[int], found: Actions) -> Choose:
    """The dialog that offers what was `found`; it returns one of its names."""
    return Choose(
        _("Commands"),
        [
            Choice(
                action,
                _(actives[0].binding.description),
                " ".join(app.get_key_display(active.binding) for active in actives),
            )
            for action, actives in found.items()
        ],
    )
