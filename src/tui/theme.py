"""Colours: one calm theme of our own, and what to use where there are few or none."""

from __future__ import annotations

import os

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


def register_themes(app: App[int]) -> None:
    """Make our theme known to `app`."""
    app.register_theme(TUNEDECK)


def choose_theme(wanted: str) -> str:
    """The theme to use: the user's, else ours; the terminal's own colours where they are few."""
    if os.environ.get("NO_COLOR"):
        return "ansi-dark"
    if wanted:
        return wanted
    few = os.environ.get("TERM", "") in ("xterm", "screen", "linux", "vt100", "vt220")
    return "ansi-dark" if few and not os.environ.get("COLORTERM") else TUNEDECK.name
