"""What the shell lays over everything: keys, palette, notices, the machine, language, colours."""

from __future__ import annotations

from collections import deque
from datetime import datetime

from textual import work
from textual.app import App
from textual.screen import ModalScreen

from engine import i18n, settings
from engine.errors import Problem
from engine.i18n import _
from engine.text import clean
from tui.theme import TUNEDECK
from tui.watch import Sight

RESTART = 75
"""The app's return code when it wants to be opened again (the language changed)."""
NOTICES = 500
"""An app may stay open for weeks, and a notice may hold a traceback."""


class Overlays(App[int]):
    """The app's actions that open a screen or dialog over whatever is shown.

    Attributes:
        notices: what was told since the app was opened, the newest `NOTICES`.
        sight: the machine as it was seen last.
    """

    notices: deque[tuple[datetime, Problem]]
    sight: Sight | None

    def action_keys(self) -> None:
        """Every key that works here and now, from the bindings themselves; again to close."""
        from tui.dialogs.reading import Reading
        from tui.keys import keys_screen

        if isinstance(self.screen, Reading):
            self.screen.dismiss(None)
        else:
            self.push_screen(keys_screen(self))

    def action_command_palette(self) -> None:
        """Choose one of the actions that work here and now, and do it."""
        from tui.dialogs.choose import Choose

        if isinstance(self.screen, Choose):
            self.screen.action_move(-1)  # ^P there is what it is in a shell
        elif not isinstance(self.screen, ModalScreen):  # a dialog has few keys, and says them
            self._choose_action()

    @work(exit_on_error=False)
    async def _choose_action(self) -> None:
        from tui.palette import actions, palette

        found = actions(self)
        chosen = await self.push_screen_wait(palette(self, found))
        if chosen:
            await self.run_action(chosen, found[chosen][0].node)

    def action_notices(self) -> None:
        """What was told since the app was opened, newest first, with details."""
        from tui.dialogs.reading import Reading

        lines: list[str] = []
        for when, problem in reversed(self.notices):
            said = clean("\n".join(problem.lines())).splitlines()
            more = [one for one in clean(problem.details).splitlines() if one not in said]
            lines += [f"{when:%H:%M:%S}  {said[0] if said else ''}"]
            lines += [f"          {part}" for part in (*said[1:], *more)] + [""]
        if len(self.notices) == NOTICES:
            lines.append(_("What was told before is not kept."))
        self.push_screen(Reading(_("Notices"), lines or [_("Nothing has happened yet.")]))

    def action_machine(self) -> None:
        """The machine in full: each GPU and whose processes sit there, the host."""
        from tui.dialogs.machine import machine_lines
        from tui.dialogs.reading import Reading

        if self.sight is not None:
            self.push_screen(Reading(_("Machine"), machine_lines(self.sight)))

    @work(exit_on_error=False)
    async def action_language(self) -> None:
        """Choose the language; the app opens again in it, where it was."""
        from tui.dialogs.choose import Choice, Choose

        choices = [Choice(code, name) for code, name in i18n.LANGUAGES.items()]
        title, now = "Language / 语言", i18n.language()
        chosen = await self.push_screen_wait(Choose(title, choices, now=now))
        if chosen and chosen != now:
            settings.save(language=chosen)
            i18n.use(chosen)
            self.exit(return_code=RESTART)

    def action_change_theme(self) -> None:
        """Choose the colours."""
        self._choose_theme()

    @work(exit_on_error=False)
    async def _choose_theme(self) -> None:
        from tui.dialogs.choose import Choice, Choose

        names = sorted(self.available_themes, key=lambda name: (name != TUNEDECK.name, name))
        words = {True: _("dark"), False: _("light")}
        choices = [Choice(one, one, words[self.available_themes[one].dark]) for one in names]
        chosen = await self.push_screen_wait(Choose(_("Theme"), choices, now=self.theme))
        if chosen:
            self.theme = chosen
