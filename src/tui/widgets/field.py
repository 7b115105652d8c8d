"""A text field for dialogs: Enter goes on to the next field, on the last one it accepts."""

from __future__ import annotations

from textual.widgets import Input


class Field(Input):
    """An `Input` of one row that neither blinks nor selects its text when entered.

    Enter moves the focus at once rather than by a message, so that what is
    typed (or pasted) right after it lands in the next field. Only the last
    field of a screen posts `Input.Submitted`.
    """

    def __init__(self, value: str = "", *, placeholder: str = "", id: str | None = None) -> None:
        super().__init__(value, placeholder=placeholder, id=id, select_on_focus=False)
        self.cursor_blink = False

    async def action_submit(self) -> None:
        """Go on, or accept."""
        fields = list(self.screen.query(Field))
        after = fields[fields.index(self) + 1 :]
        if after:
            self.screen.set_focus(after[0])
        else:
            await super().action_submit()
