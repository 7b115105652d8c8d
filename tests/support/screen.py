"""What a person would read on the screen of an app under test."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from rich.segment import Segment
from textual.app import App
from textual.pilot import Pilot

# Markup, an escape sequence that clears the screen, one that renames the
# window, wide characters and a right-to-left override.
NASTY = "[/x] [b]\x1b[2J\x1b]0;title\x07 中文 \u202eabc"


def screen_lines(app: App[Any]) -> list[str]:
    """The lines of the screen as they would be drawn, trailing spaces dropped."""
    strips = app.screen._compositor.render_strips(app.size)
    return [strip.text.rstrip() for strip in strips]


def segments_of(app: App[Any], y: int) -> list[Segment]:
    """The styled pieces of screen line `y`."""
    return list(app.screen._compositor.render_strips(app.size)[y])


async def wait_until(pilot: Pilot[Any], holds: Callable[[], bool], seconds: float = 30) -> None:
    """Let the app work until `holds`; fails after so many seconds."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it never came:\n" + "\n".join(screen_lines(pilot.app))
        await pilot.pause(0.01)
