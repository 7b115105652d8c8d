from __future__ import annotations

import math

import pytest
from textual.app import App, ComposeResult
from textual.content import Content

from tests.support.screen import NASTY, screen_lines
from tui.widgets.gauge import GaugeLine, bar


@pytest.mark.parametrize(
    ("used", "total", "drawn"),
    [
        (0, 80, "▁▁▁▁▁▁▁▁"),
        (40, 80, "▇▇▇▇▁▁▁▁"),
        (45, 80, "▇▇▇▇▄▁▁▁"),
        (80, 80, "▇▇▇▇▇▇▇▇"),
        (90, 80, "▇▇▇▇▇▇▇▇"),
        (-3, 80, "▁▁▁▁▁▁▁▁"),
    ],
)
def test_bar_shows_the_share_used(used: float, total: float, drawn: str) -> None:
    assert bar(used, total, 8) == drawn


def test_a_little_is_not_nothing_and_nearly_full_is_not_full() -> None:
    assert bar(0.001, 80, 4) != bar(0, 80, 4)
    assert bar(79.999, 80, 4) != bar(80, 80, 4)


@pytest.mark.parametrize(("used", "total"), [(None, 80), (1, None), (math.nan, 1), (1, 0)])
def test_an_unknown_value_is_no_empty_bar(used: float | None, total: float | None) -> None:
    assert bar(used, total, 3) == "╌╌╌"


@pytest.mark.parametrize("width", [-1, 0, 1, 2, 40])
def test_bar_has_the_width_asked_for(width: int) -> None:
    assert len(bar(1, 3, width)) == max(width, 0)


class Host(App[None]):
    def compose(self) -> ComposeResult:
        yield GaugeLine("first")


async def test_line_is_redrawn_only_when_it_changes() -> None:
    app = Host()
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        line = app.query_one(GaugeLine)
        updates = []
        line.update = lambda content, layout=True: updates.append((str(content), layout))  # type: ignore[method-assign]
        line.show("GPU0 ▇▁")
        line.show("GPU0 ▇▁")
        line.show(Content.styled("GPU0 ▇▁", "bold"))
        await pilot.pause()
    assert updates == [("GPU0 ▇▁", False), ("GPU0 ▇▁", False)]


async def test_nasty_text_is_shown_as_text() -> None:
    app = Host()
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        app.query_one(GaugeLine).show(NASTY, "error")
        await pilot.pause()
        assert screen_lines(app)[0] == "[/x] [b] 中文 abc"
