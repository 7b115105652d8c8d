from __future__ import annotations

import pytest
from rich.cells import cell_len
from textual.app import App, ComposeResult

from tests.support.screen import NASTY, screen_lines, segments_of
from tui.widgets.levels import level, level_at
from tui.widgets.log_view import LogView

SIZES = [(80, 24), (140, 45)]
INFO = "11/24 21:25:11 - mmengine - INFO - Iter(train) [{n}/1000]  loss: 0.7402"
TRACEBACK = [
    "Traceback (most recent call last):",
    '  File "train.py", line 3, in <module>',
    "    main()",
    "torch.OutOfMemoryError: CUDA out of memory.",
    "after it",
]


class Host(App[None]):
    def __init__(self, limit: int = 20_000) -> None:
        super().__init__()
        self.limit = limit

    def compose(self) -> ComposeResult:
        yield LogView(self.limit)

    def on_mount(self) -> None:
        self.log_view.focus()

    @property
    def log_view(self) -> LogView:
        return self.query_one(LogView)


def lines(start: int, stop: int) -> list[str]:
    return [f"line {n:03} of the log" for n in range(start, stop)]


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        (INFO, "info"),
        ("11/24 21:25:11 - mmengine - WARNING - The prefix is not set", "warning"),
        ("2026/11/24 21:25:11 - mmengine - ERROR - no such file", "error"),
        ("[2026-11-24 21:25:11,123] [INFO] [comm.py:637:init] world size 2", "info"),
        ("[2026-11-24 21:25:11,123] [WARNING] [x.py:1:f] slow", "warning"),
        ("/opt/lib/python3.10/site-packages/a.py:12: FutureWarning: old", "warning"),
        ("W1124 21:25:11.123 4711 torch/distributed/run.py:766] threads", "warning"),
        ("[rank1]: Traceback (most recent call last):", "error"),
        ("torch.OutOfMemoryError: CUDA out of memory.", "error"),
        ("KeyboardInterrupt", "error"),
        ("11/24 21:25:11 - mmengine - INFO - 0 ERROR lines so far", "info"),
        ("loss went down without an Error", ""),
        ("", ""),
    ],
)
def test_level_of_a_line(line: str, wanted: str) -> None:
    assert level(line) == wanted


def test_a_traceback_is_an_error_as_a_whole() -> None:
    found = [level_at(i, TRACEBACK.__getitem__) for i in range(5)]
    assert found == ["error", "error", "error", "error", ""]
    assert level_at(1, ["config:", "  indented"].__getitem__) == ""


@pytest.mark.parametrize("size", SIZES)
async def test_the_end_is_followed_until_the_user_goes_up(size: tuple[int, int]) -> None:
    app = Host()
    async with app.run_test(size=size, notifications=True) as pilot:
        app.log_view.append(lines(0, 100))
        await pilot.pause()
        assert screen_lines(app)[size[1] - 1].startswith("line 099")
        app.log_view.append(lines(100, 103))
        await pilot.pause()
        assert screen_lines(app)[size[1] - 1].startswith("line 102")
        await pilot.press("up")
        assert not app.log_view.follow
        app.log_view.append(lines(103, 200))
        await pilot.pause()
        assert screen_lines(app)[size[1] - 1].startswith("line 101")
        await pilot.press("end")
        assert app.log_view.follow
        assert screen_lines(app)[size[1] - 1].startswith("line 199")


async def test_going_down_to_the_end_resumes() -> None:
    app = Host()
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        app.log_view.append(lines(0, 100))
        await pilot.press("k", "k", "j")
        assert not app.log_view.follow
        await pilot.press("j")
        assert app.log_view.follow


async def test_keys_that_move_nothing_change_nothing() -> None:
    app = Host()
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        app.log_view.append(lines(0, 5))
        await pilot.press("up", "home", "pageup", "n", "N")
        assert app.log_view.follow


async def test_the_end_stays_in_view_when_the_window_changes() -> None:
    app = Host()
    async with app.run_test(size=(140, 45), notifications=True) as pilot:
        app.log_view.append(lines(0, 100))
        await pilot.pause()
        for size in [(80, 10), (80, 30)]:
            await pilot.resize_terminal(*size)
            await pilot.pause()
            assert app.log_view.follow
            assert screen_lines(app)[size[1] - 1].startswith("line 099")


async def test_what_is_read_keeps_still_while_old_lines_go() -> None:
    app = Host(limit=120)
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        app.log_view.append(lines(0, 100))
        await pilot.press("up", "up")
        before = screen_lines(app)
        assert before[0].startswith("line 074")
        drawn: list[int] = []
        draw = app.log_view.render_line
        app.log_view.render_line = lambda y: drawn.append(y) or draw(y)  # type: ignore[method-assign]
        app.log_view.append(lines(100, 120))
        app.log_view.append(lines(120, 160))
        await pilot.pause()
        assert drawn == [], "the same lines were drawn again"
        app.log_view.refresh()
        await pilot.pause()
        assert len(drawn) >= 24
        assert [line.split()[1] for line in screen_lines(app)] == [
            line.split()[1] for line in before
        ]
        assert app.log_view.vertical_scrollbar.position == 34
        app.log_view.append(lines(160, 210))
        await pilot.pause()
        assert screen_lines(app)[0].startswith("line 090"), "its lines are gone: the oldest shows"
        await pilot.press("down")
        assert screen_lines(app)[0].startswith("line 091")


async def test_a_batch_larger_than_the_ring_leaves_its_end() -> None:
    app = Host(limit=50)
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        app.log_view.append(lines(0, 10))
        app.log_view.append(lines(10, 1000))
        await pilot.press("home")
        assert screen_lines(app)[0].startswith("line 950")


async def test_search_goes_round_and_marks() -> None:
    app = Host()
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        app.log_view.append([f"{n} Loss [nan] 损失" if n % 40 == 7 else f"{n}" for n in range(100)])
        await pilot.pause()
        assert app.log_view.search("loss [nan]") == 3
        await pilot.pause()
        seen = []
        for key in ["", "n", "n", "n", "N"]:
            if key:
                await pilot.press(key)
            marked = [
                piece.text
                for y in range(24)
                for piece in segments_of(app, y)
                if piece.style and piece.style.reverse and piece.style.underline
            ]
            assert marked == ["Loss [nan]"]
            seen.append(
                next(
                    line
                    for y, line in enumerate(screen_lines(app))
                    if any(piece.style and piece.style.underline for piece in segments_of(app, y))
                ).split()[0]
            )
        assert seen == ["87", "7", "47", "87", "47"]
        assert not app.log_view.follow
        assert app.log_view.search("LOSS") == 0
        assert app.log_view.search("") == 0


async def test_only_warnings_and_errors() -> None:
    app = Host()
    warning = "11/24 21:25:11 - mmengine - WARNING - odd"
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        app.log_view.append([INFO.format(n=n) for n in range(50)])
        app.log_view.append([warning, *TRACEBACK])
        app.log_view.only("warnings")
        await pilot.pause()
        assert [line for line in screen_lines(app) if line] == [warning, *TRACEBACK[:4]]
        app.log_view.only("errors")
        app.log_view.append([INFO.format(n=51), "ValueError: 错误"])
        await pilot.pause()
        assert [line for line in screen_lines(app) if line] == [*TRACEBACK[:4], "ValueError: 错误"]
        app.log_view.only("all")
        await pilot.pause()
        assert screen_lines(app)[22].startswith(
            "11/24 21:25:11 - mmengine - INFO - Iter(train) [51/"
        )


async def test_the_filter_keeps_up_with_the_ring() -> None:
    app = Host(limit=10)
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        app.log_view.only("errors")
        for n in range(30):
            app.log_view.append([f"ValueError: {n}", "calm"])
        await pilot.pause()
        shown = [line for line in screen_lines(app) if line]
        assert shown == [f"ValueError: {n}" for n in range(25, 30)]


async def test_nasty_long_and_wide_lines() -> None:
    app = Host()
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        app.log_view.append([NASTY, " 10%|#\r 99%|####\r\n", "a\tb", "汉" * 60, "x" * 100_000])
        await pilot.pause()
        shown = screen_lines(app)
        assert shown[:3] == ["[/x] [b] 中文 abc", " 99%|####", "a    b"]
        assert shown[3] == "汉" * 40
        await pilot.press("right")
        for strip in app.screen._compositor.render_strips(app.size):
            assert cell_len(strip.text) == 80
        assert screen_lines(app)[3] == "汉" * 40
        await pilot.press("left", "left")
        assert screen_lines(app)[0].startswith("[/x]")


async def test_levels_have_their_colours_and_the_log_can_be_emptied() -> None:
    app = Host()
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        app.log_view.append(["plain", "W1124 x", "KeyError: 'x'"])
        await pilot.pause()
        assert len({segments_of(app, y)[0].style.color for y in range(3)}) == 3
        app.log_view.clear()
        await pilot.pause()
        assert not any(screen_lines(app))
