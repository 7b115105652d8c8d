"""The command palette: every action that a key can do here, with its key beside it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator

from textual.binding import ActiveBinding
from textual.command import DiscoveryHit, Hit, Hits, Provider

from engine.i18n import _
from tui.panes.base import speaks_for_pane


class KeyCommands(Provider):
    """Commands made from the bindings that are active on the screen below the palette."""

    def _actions(self) -> Iterator[tuple[str, str, ActiveBinding]]:
        """Description, keys, binding: one entry for each action."""
        by_action: dict[str, list[ActiveBinding]] = {}
        for active in self.screen.active_bindings.values():
            if active.binding.description and active.binding.id:
                by_action.setdefault(active.binding.action, []).append(active)
        for actives in sorted(by_action.values(), key=lambda actives: self._rank(actives[0])):
            keys = " ".join(self.app.get_key_display(active.binding) for active in actives)
            yield _(actives[0].binding.description), keys, actives[0]

    def _rank(self, active: ActiveBinding) -> int:
        """The pane's actions first; moving in a list, which nobody looks for, last."""
        if speaks_for_pane(active.node):
            return 0
        return 1 if active.node is self.app else 2

    async def discover(self) -> Hits:
        """All of them, before anything is typed."""
        for text, keys, active in self._actions():
            yield DiscoveryHit(text, self._run(active), help=keys)

    async def search(self, query: str) -> Hits:
        """Those that match what is typed."""
        matcher = self.matcher(query)
        for text, keys, active in self._actions():
            score = matcher.match(text)
            if score > 0:
                yield Hit(score, matcher.highlight(text), self._run(active), help=keys)

    def _run(self, active: ActiveBinding) -> Callable[[], Awaitable[None]]:
        async def run() -> None:
            await self.app.run_action(active.binding.action, active.node)

        return run
