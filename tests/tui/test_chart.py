from __future__ import annotations

import math

import pytest
from rich.cells import cell_len
from textual.app import App, ComposeResult

from engine.chart.series import Level, Series
from tests.support.screen import NASTY, screen_lines, segments_of
from tui.widgets.chart import Chart

STEPS = list(range(10, 1010, 10))
FALLING = [2.0 * math.exp(-step / 300) + 0.5 for step in STEPS]


class Host(App[None]):
    def __init__(self, *series: Series) -> None:
        super().__init__()
        self.series = series

    def compose(self) -> ComposeResult:
        yield Chart(self.series)

    def on_mount(self) -> None:
        self.chart.focus()

    @property
    def chart(self) -> Chart:
        return self.query_one(Chart)


def has_braille(text: str) -> bool:
    return any("⠁" <= character <= "⣿" for character in text)


@pytest.mark.parametrize("size", [(40, 8), (80, 24), (140, 45)])
async def test_a_falling_curve_falls(size: tuple[int, int]) -> None:
    app = Host(Series("assistant-03", STEPS, FALLING))
    async with app.run_test(size=size, notifications=True) as pilot:
        await pilot.pause()
        lines = screen_lines(app)
    assert lines[0].startswith("── assistant-03 0.5713")
    axis = next(y for y, line in enumerate(lines) if "└" in line)
    assert axis == size[1] - 2
    assert lines[-1].split()[-1] == "1000"
    curve = lines[1:axis]
    first = next(y for y, line in enumerate(curve) if has_braille(line[:8]))
    last = next(
        y for y, line in enumerate(curve) if has_braille(line[-4:]) and len(line) > size[0] - 4
    )
    assert (first, last) == (0, len(curve) - 1)
    assert any("┤" in line and line.split("┤")[0].strip() == "1" for line in curve)


@pytest.mark.parametrize("size", [(40, 8), (20, 4), (80, 2), (80, 1), (3, 3), (1, 1)])
async def test_every_line_is_as_wide_as_the_screen(size: tuple[int, int]) -> None:
    app = Host(Series("汉字" * 30, STEPS, FALLING), Series(NASTY, STEPS[:50], FALLING[:50]))
    async with app.run_test(size=size, notifications=True) as pilot:
        await pilot.pause()
        for strip in app.screen._compositor.render_strips(app.size):
            assert cell_len(strip.text) == size[0]
            assert strip.text.isprintable()


async def test_one_line_is_a_sparkline_with_name_and_value() -> None:
    app = Host(Series("损失", STEPS, FALLING))
    async with app.run_test(size=(40, 1), notifications=True) as pilot:
        await pilot.pause()
        (line,) = screen_lines(app)
    name, blocks, value = line.split(" ")
    assert (name, value) == ("损失", "0.5713")
    assert blocks[0] == "█"
    assert blocks[-1] == "▁"
    assert sorted(blocks, reverse=True) == list(blocks)


@pytest.mark.parametrize("size", [(60, 12), (60, 1)])
async def test_what_is_not_finite_leaves_a_gap_with_a_mark(size: tuple[int, int]) -> None:
    ys = [*FALLING]
    ys[40:60] = [math.nan] * 20
    app = Host(Series("loss", STEPS, ys))
    async with app.run_test(size=size, notifications=True) as pilot:
        await pilot.pause()
        lines = screen_lines(app)
    assert "×××" in "".join(lines)
    if size[1] > 1:
        assert "× 20 not drawn" in lines[0]
        middle = [line[len(line) // 2] for line in lines[1:-2] if len(line) > 50]
        assert not any(has_braille(cell) for cell in middle)


@pytest.mark.parametrize(
    "ys", [[], [math.nan], [math.inf] * 3, [0.0] * 5, [7.0], [1e308, -1e308], [5e-324, 1e308]]
)
@pytest.mark.parametrize("log_y", [False, True])
async def test_odd_values_are_survived(ys: list[float], log_y: bool) -> None:
    app = Host(Series("odd", range(len(ys)), ys))
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        app.chart.log_y = log_y
        await pilot.pause()
        drawn = "".join(screen_lines(app))
    if not ys:
        assert "No values yet" in drawn
    else:
        assert "odd" in drawn
        assert has_braille(drawn) or "×" in drawn or "↑" in drawn or "↓" in drawn


async def test_log_scale_and_smoothing_say_so() -> None:
    noisy = [y + (index % 2) for index, y in enumerate(FALLING)]
    app = Host(Series("loss", STEPS, [y * 100 for y in noisy]))
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await pilot.pause()
        plain = screen_lines(app)
        await pilot.press("y")
        logarithmic = screen_lines(app)
        await pilot.press("y", "e")
        smoothed = screen_lines(app)
        await pilot.press("e")
        assert screen_lines(app) == plain
    assert logarithmic[0].endswith("log")
    assert smoothed[0].endswith("smoothed")
    assert len({"\n".join(lines[1:]) for lines in (plain, logarithmic, smoothed)}) == 3


async def test_smoothing_leaves_the_raw_line_below() -> None:
    noisy = [y + (index % 2) for index, y in enumerate(FALLING)]
    app = Host(Series("loss", STEPS, noisy))
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await pilot.press("e")
        drawn = [piece for y in range(1, 22) for piece in segments_of(app, y)]
        colours = {piece.style.color for piece in drawn if piece.style and has_braille(piece.text)}
        assert len(colours) == 2


async def test_zoom_pan_and_cursor() -> None:
    app = Host(Series("loss", STEPS, FALLING), Series("two", STEPS, [y + 1 for y in FALLING]))
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await pilot.pause()
        whole = screen_lines(app)
        await pilot.press("plus", "plus")  # the last quarter
        zoomed = screen_lines(app)
        assert "zoomed" in zoomed[0] and zoomed[-1].split()[-1] == "1000"
        assert float(zoomed[-1].split()[0]) > 700
        app.chart.show([Series("loss", [*STEPS, 1100], [*FALLING, 0.5])])
        await pilot.pause()
        assert screen_lines(app)[-1].split()[-1] == "1100", "at the end it goes on with the run"
        app.chart.show([Series("loss", STEPS, FALLING)])
        await pilot.press("left_square_bracket")
        assert float(screen_lines(app)[-1].split()[-1]) < 1000
        await pilot.press("0", "right", *["shift+left"] * 3, "left")
        at_cursor = screen_lines(app)
        step = int(at_cursor[0].split("step ")[1].split()[0])
        assert 400 < step < 700
        near = min(STEPS, key=lambda one: abs(one - step))
        assert f"loss {2.0 * math.exp(-near / 300) + 0.5:.4g}" in at_cursor[0]
        assert sum("│" in line[8:] for line in at_cursor) > 10
        await pilot.press("plus", "minus", "0")
        app.chart.show(
            [Series("loss", STEPS, FALLING), Series("two", STEPS, [y + 1 for y in FALLING])]
        )
        await pilot.pause()
        assert screen_lines(app) == whole


async def test_lines_differ_in_colour_and_in_mark() -> None:
    app = Host(Series("one", STEPS, FALLING), Series("two", STEPS, [y + 1 for y in FALLING]))
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await pilot.pause()
        legend = [piece for piece in segments_of(app, 0) if piece.text.strip()]
        assert [piece.text[:2] for piece in legend] == ["──", "╌╌"]
        assert legend[0].style.color != legend[1].style.color
        before = legend[0].style.color
        app.theme = "textual-light"
        await pilot.pause()
        assert segments_of(app, 0)[0].style.color != before


async def test_new_values_are_drawn() -> None:
    app = Host()
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await pilot.pause()
        assert "No values yet" in "".join(screen_lines(app))
        app.chart.show([Series("loss", [1, 2], [3.0, 1.0])])
        await pilot.pause()
        assert "loss 1" in screen_lines(app)[0]


async def test_levels_lie_below_the_lines_and_are_named() -> None:
    app = Host()
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        levels = [Level("estimated", 17.9), Level("[/card]", 80.0)]
        app.chart.show([Series("memory", STEPS, [18.3] * len(STEPS))], levels)
        await pilot.pause()
        lines = screen_lines(app)
        assert lines[0].startswith("── memory 18.3  ┈ estimated 17.9  ┈ [/card] 80")
        plot = [line[6:] for line in lines[1:-2]]
        assert plot[0].count("⠁") + plot[0].count("⠈") > 30, "the card is the highest there is"
        assert sum(has_braille(line) for line in plot) == 2, "the estimate gives way to the curve"
        await pilot.press("plus", "plus", "y")
        zoomed = screen_lines(app)
        assert sum(has_braille(line[6:]) for line in zoomed[1:-2]) == 2


async def test_a_long_name_in_the_legend_gives_way_to_short_ones() -> None:
    app = Host(Series("m" * 90, STEPS, FALLING), Series("two", STEPS, FALLING))
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await pilot.pause()
        legend = screen_lines(app)[0]
    assert legend.endswith("m… 0.5713  ╌╌ two 0.5713") and "m" * 40 in legend


async def test_at_the_cursor_a_line_that_ended_before_has_no_value() -> None:
    app = Host(Series("long", STEPS, FALLING), Series("short", STEPS[:20], FALLING[:20]))
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await pilot.press("right")
        assert "╌╌ short  " in screen_lines(app)[0]
        await pilot.press(*["shift+left"] * 7)
        assert "╌╌ short 2.4" in screen_lines(app)[0]


async def test_zoomed_in_between_two_points_there_is_their_line() -> None:
    app = Host(Series("loss", STEPS, FALLING), Series("gap", [10, 500, 1000], [1, math.nan, 2]))
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await pilot.press("right", *["shift+left"] * 3, *["plus"] * 9)
        lines = screen_lines(app)
        assert int(lines[-1].split()[-1]) - int(lines[-1].split()[0]) <= 4
        assert all(any(has_braille(line[x : x + 1]) for line in lines[1:-2]) for x in range(12, 80))
