"""Colours: one calm theme of our own, and what to use where there are few or none."""

from __future__ import annotations

import os

from rich.terminal_theme import TerminalTheme
from textual.app import App
from textual.theme import Theme

TUNEDECK = Theme(
    name="tunedeck",
    primary="#5fafd7",
    secondary="#87afaf",
    accent="#d7af5f",
    warning="#d7af5f",
    error="#d75f5f",
    success="#87af5f",
    foreground="#d0d0d0",
    background="#121212",
    surface="#1c1c1c",
    panel="#262626",
    boost="#303030",
    dark=True,
    variables={
        "block-cursor-background": "#005f87",
        "block-cursor-foreground": "#ffffff",
        "block-cursor-blurred-background": "#303030",
        "block-cursor-blurred-foreground": "#d0d0d0",
        "scrollbar": "#4e4e4e",
        "scrollbar-hover": "#626262",
        "scrollbar-active": "#5fafd7",
        "scrollbar-background": "#1c1c1c",
        "scrollbar-background-hover": "#1c1c1c",
        "scrollbar-background-active": "#1c1c1c",
    },
)
"""Made of the 256-colour cube's own colours, so that nothing shifts over SSH and tmux."""


_PLAIN = (
    (18, 18, 18), (215, 95, 95), (135, 175, 95), (215, 175, 95),
    (95, 175, 215), (175, 135, 175), (95, 175, 175), (208, 208, 208),
)  # fmt: skip
_BRIGHT = (
    (98, 98, 98), (255, 135, 135), (175, 215, 135), (255, 215, 135),
    (135, 215, 255), (215, 175, 215), (135, 215, 215), (255, 255, 255),
)  # fmt: skip
ANSI = TerminalTheme(_PLAIN[0], _PLAIN[7], list(_PLAIN), list(_BRIGHT))
"""What "red" or "green" in our texts are: of the theme's family, not of a highlighter's."""


def register_themes(app: App[int]) -> None:
    """Make our theme known to `app`."""
    app.register_theme(TUNEDECK)
    app.ansi_theme_dark = ANSI


def choose_theme(wanted: str) -> str:
    """The theme to use: the user's, else ours; the terminal's own colours where they are few."""
    if os.environ.get("NO_COLOR"):
        return "ansi-dark"
    if wanted:
        return wanted
    few = os.environ.get("TERM", "") in ("xterm", "screen", "linux", "vt100", "vt220")
    return "ansi-dark" if few and not os.environ.get("COLORTERM") else TUNEDECK.name
