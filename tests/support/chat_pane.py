"""What tests do in the Chat pane."""

from __future__ import annotations

from tests.support.driver import Driver


async def choose(screen: Driver, *addresses: str) -> None:
    """Take models by their address (or a word that narrows the list to them)."""
    await screen.press("ctrl+o")
    for number, address in enumerate(addresses):
        await screen.shows(f"Model {'ABC'[number]}")
        await screen.type(address)
        await screen.press("enter")
    if len(addresses) < 3:
        await screen.shows("no further model")
        await screen.press("enter")
    await screen.shows("send to the models above")
