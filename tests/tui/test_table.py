from __future__ import annotations

import pytest
from rich.cells import cell_len
from rich.console import Console
from rich.style import Style
from rich.text import Text
from textual import on
from textual.app import App, ComposeResult
from textual.message import Message

from tests.support.screen import NASTY, screen_lines, segments_of
from tui.widgets.cells import beyond, middle, segments
from tui.widgets.table import Column, VirtualTable

SIZES = [(80, 24), (140, 45)]
COLUMNS = [
    Column("Row", 7, "right"),
    Column("First words"),
    Column("Tokens", 6, "right", optional=True),
]


class Host(App[None]):
    def __init__(self, columns: list[Column] | None = None) -> None:
        super().__init__()
        self.columns = columns or COLUMNS
        self.seen: list[Message] = []

    def compose(self) -> ComposeResult:
        yield VirtualTable(self.columns)

    def on_mount(self) -> None:
        self.table.focus()

    @property
    def table(self) -> VirtualTable:
        return self.query_one(VirtualTable)

    @on(VirtualTable.Moved)
    @on(VirtualTable.Selected)
    @on(VirtualTable.RowsWanted)
    def keep(self, event: Message) -> None:
        self.seen.append(event)

    def posted(self, kind: type[Message]) -> list[Message]:
        return [event for event in self.seen if isinstance(event, kind)]


def row(index: int) -> list[str]:
    return [str(index), f"你好 number {index} " + "汉字" * 60, "12"]


@pytest.mark.parametrize("size", SIZES)
async def test_a_million_rows_from_end_to_end(size: tuple[int, int]) -> None:
    app, fetched = Host(), set()
    async with app.run_test(size=size, notifications=True) as pilot:
        app.table.set_source(1_000_000, lambda i: fetched.add(i) or row(i))
        await pilot.pause()
        lines = screen_lines(app)
        assert lines[0].split() == ["Row", "First", "words", "Tokens"]
        assert lines[1].lstrip().startswith("0 你好 number 0 汉字")
        await pilot.press("G")
        assert app.table.cursor == 999_999
        assert screen_lines(app)[size[1] - 1].lstrip().startswith("999999 你好")
        assert screen_lines(app)[0].split()[0] == "Row"
        await pilot.press("g")
        assert screen_lines(app)[1].lstrip().startswith("0 你好")
    assert len(fetched) < 4 * size[1], "rows out of view were fetched"


@pytest.mark.parametrize("size", SIZES)
async def test_every_line_is_as_wide_as_the_screen(size: tuple[int, int]) -> None:
    app = Host()
    async with app.run_test(size=size, notifications=True) as pilot:
        app.table.set_source(9, lambda i: ["汉" * i, Text("中文" * 50, "bold"), "字" * 9])
        await pilot.pause()
        for strip in app.screen._compositor.render_strips(app.size):
            assert cell_len(strip.text) == size[0]
        # Three whole characters and the ellipsis fill seven cells.
        assert screen_lines(app)[8].startswith("汉汉汉…")


async def test_keys_move_the_cursor_and_the_view() -> None:
    app = Host()
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        app.table.set_source(100, row)
        where = []
        for key in ["down", "j", "up", "k", "k", "pagedown", "end", "down", "pageup", "home"]:
            await pilot.press(key)
            where.append(app.table.cursor)
        assert where == [1, 2, 1, 0, 0, 22, 99, 99, 77, 0]
        moved = [event.index for event in app.posted(VirtualTable.Moved)]
        assert moved == [1, 2, 1, 0, 22, 99, 77, 0]
        await pilot.press("j", "enter")
        assert [event.index for event in app.posted(VirtualTable.Selected)] == [1]


async def test_a_cursor_move_draws_two_rows_again() -> None:
    app, drawn = Host(), []
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        app.table.set_source(100, lambda i: drawn.append(i) or row(i))
        await pilot.pause()
        drawn.clear()
        await pilot.press("down")
        assert sorted(set(drawn)) == [0, 1]


async def test_missing_rows_are_asked_for_once_and_appear() -> None:
    app = Host()
    ready: set[int] = set()
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        app.table.set_source(1000, lambda i: row(i) if i in ready else None)
        await pilot.pause()
        app.table.refresh()
        await pilot.pause()
        asked = [event.rows for event in app.posted(VirtualTable.RowsWanted)]
        assert asked == [range(23)]
        assert screen_lines(app)[1] == "…"
        ready.update(range(23))
        app.table.rows_ready(0, 23)
        await pilot.pause()
        assert "number 22" in screen_lines(app)[23]
        await pilot.press("end")
        await pilot.pause()
        assert app.posted(VirtualTable.RowsWanted)[-1].rows == range(977, 1000)


async def test_nasty_cells_are_shown_as_text() -> None:
    app = Host([Column("[/x]"), Column("b")])
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        app.table.set_source(1, lambda i: [NASTY, Text("[/x] [b]\n" + NASTY, "red")])
        await pilot.pause()
        heading, line = screen_lines(app)[:2]
    assert heading.startswith("[/x]")
    assert line.startswith("[/x] [b] 中文 abc")
    assert "[/x] [b]⏎[/x]" in line[35:]
    assert line.isprintable()


async def test_rows_that_go_take_the_cursor_along() -> None:
    app = Host()
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        app.table.set_source(100, row, cursor=90)
        await pilot.pause()
        assert "number 90" in "\n".join(screen_lines(app))
        app.table.set_count(10)
        await pilot.pause()
        assert app.table.cursor == 9
        assert "number 0 " in screen_lines(app)[1]
        app.table.set_count(0)
        await pilot.press("down", "end", "enter")
        assert app.table.cursor is None
        assert app.posted(VirtualTable.Selected) == []


async def test_more_rows_leave_cursor_and_view_alone() -> None:
    app = Host()
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        app.table.set_source(5, row, cursor=3)
        app.table.set_count(500)
        await pilot.pause()
        assert app.table.cursor == 3
        assert "number 20" in screen_lines(app)[21]


async def test_rows_added_below_draw_nothing() -> None:
    app, drawn = Host(), []
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        app.table.set_source(100, lambda i: drawn.append(i) or row(i))
        await pilot.pause()
        drawn.clear()
        app.table.set_count(5000)
        await pilot.pause()
        assert drawn == []
        await pilot.press("end")
        assert "number 4999" in screen_lines(app)[23]


async def test_the_cursor_stays_in_view_when_the_window_shrinks() -> None:
    app = Host()
    async with app.run_test(size=(140, 45), notifications=True) as pilot:
        app.table.set_source(100, row, cursor=40)
        await pilot.pause()
        await pilot.resize_terminal(80, 10)
        await pilot.pause()
        assert "number 40" in "\n".join(screen_lines(app))


async def test_optional_columns_go_where_there_is_no_room() -> None:
    app = Host()
    async with app.run_test(size=(22, 5), notifications=True) as pilot:
        app.table.set_source(3, row)
        await pilot.pause()
        assert screen_lines(app)[0].split() == ["Row", "First", "words"]


@pytest.mark.parametrize(("theme", "no_color"), [("ansi-dark", ""), ("textual-dark", "1")])
async def test_the_cursor_shows_without_colours(
    theme: str, no_color: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if no_color:
        monkeypatch.setenv("NO_COLOR", no_color)
    app = Host()
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        app.theme = theme
        app.table.set_source(9, row, cursor=2)
        await pilot.pause()
        assert segments_of(app, 3)[0].style.reverse
        assert not segments_of(app, 2)[0].style.reverse


async def test_kinds_colour_their_rows() -> None:
    app = Host()
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        app.table.set_source(9, row, kind=lambda i: "error" if i == 5 else "")
        await pilot.pause()
        plain, bad = segments_of(app, 5)[0].style, segments_of(app, 6)[0].style
        assert plain.color != bad.color
        assert plain.bgcolor == bad.bgcolor


def test_a_text_s_own_style_is_drawn_without_spans_too() -> None:
    console = Console()
    bold = segments(Text("Model", style="bold"), 8, "left", Style(), console)
    assert [part.style.bold for part in bold if part.text.strip() and part.style] == [True]


def test_a_long_name_keeps_its_end() -> None:
    assert middle("assistant-03", 15) == "assistant-03"
    assert middle("qwen2_5_7b_instruct_qlora-03", 15) == "qwen2_5_…ora-03"
    assert cell_len(middle("很长的名字" * 9 + "-03", 15)) <= 15
    assert middle("很长的名字" * 9 + "-03", 15).endswith("-03")


def test_text_moves_sideways_by_cells() -> None:
    """So that columns stay columns, whatever the script of the words before them."""
    latin, chinese = Text("ab = 1  # x", "dim"), Text("中 = 1  # x")
    for gone in range(2, 12):
        assert beyond(latin, gone).plain == beyond(chinese, gone).plain
    assert beyond(chinese, 1).plain == " " + chinese.plain[1:]  # half of it is out of view
    assert beyond(latin, 11).plain == beyond(latin, 99).plain == ""
    styled = beyond(Text.assemble("中", ("文", "bold")), 2)
    assert styled.plain == "文" and [span.style for span in styled.spans] == ["bold"]
