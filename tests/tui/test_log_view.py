from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from rich.cells import cell_len
from textual.app import App, ComposeResult
from textual.pilot import Pilot

from engine.run.levels import level, level_at
from engine.run.log_sieve import OfEvaluation, OfLevel, OfRank, traceback
from tests.support.screen import NASTY, screen_lines, segments_of, wait_until
from tui.widgets import log_reader
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
    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.copied = ""

    def compose(self) -> ComposeResult:
        yield LogView()

    def on_mount(self) -> None:
        self.log_view.open(lambda: self.path)
        self.log_view.focus()

    def copy_to_clipboard(self, text: str) -> None:
        self.copied = text

    @property
    def log_view(self) -> LogView:
        return self.query_one(LogView)


class Log:
    """A log, and the view of it as a person has it before them."""

    def __init__(self, app: Host, pilot: Pilot[None]) -> None:
        self.app, self.pilot, self.view = app, pilot, app.log_view

    def add(self, *lines: str, end: str = "\n") -> None:
        with self.app.path.open("a", encoding="utf-8") as file:
            file.write("\n".join(lines) + end)

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)
        await self.pilot.pause()

    def shown(self) -> list[str]:
        return screen_lines(self.app)

    def beside_the_bar(self) -> list[str]:
        """The lines without the column where the scrollbar is."""
        return [line[: self.app.size.width - 1].rstrip() for line in self.shown()]

    async def until(self, holds: Callable[[list[str]], bool]) -> list[str]:
        for _turn in range(400):
            if holds(self.shown()):
                return self.shown()
            await self.pilot.pause(0.02)
        raise AssertionError("it never came:\n" + "\n".join(self.shown()))

    async def ends_with(self, line: str) -> list[str]:
        """Wait until the last line shown begins with `line`."""
        return await self.until(
            lambda lines: (
                [one for one in lines if one][-1:] != []
                and [one for one in lines if one][-1].startswith(line)
            )
        )

    def marked(self) -> list[str]:
        """What is marked as the current match."""
        return [
            piece.text
            for y in range(self.app.size.height)
            for piece in segments_of(self.app, y)
            if piece.style and piece.style.reverse and piece.style.underline
        ]

    def at_match(self) -> str:
        """The line with the current match."""
        for y, line in enumerate(self.shown()):
            if any(piece.style and piece.style.underline for piece in segments_of(self.app, y)):
                return line
        return ""


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """New lines are read as soon as they come, so that nothing has to be waited for."""
    monkeypatch.setattr(log_reader, "_QUIET", 0.02)
    monkeypatch.setattr(log_reader, "_BUSY", 0.02)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "trainer.log"
    made.touch()
    return made


@asynccontextmanager
async def opened(
    path: Path, lines: list[str], size: tuple[int, int] = (80, 24)
) -> AsyncIterator[Log]:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    app = Host(path)
    async with app.run_test(size=size, notifications=True) as pilot:
        log = Log(app, pilot)
        if lines:
            await log.until(lambda shown: any(shown))
        yield log


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
        (
            "[rank0]:[E626 06:24:44.903881913 ProcessGroupNCCL.cpp:683] [Rank 0] Watchdog caught "
            "collective operation timeout: WorkNCCL(SeqNum=808, OpType=ALLREDUCE)",
            "error",
        ),
        ("[W1129 03:45:41.944115856 socket.cpp:764] [c10d] The IPv6 addresses", "warning"),
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


def test_tracebacks_of_two_ranks_that_write_at_once_are_errors_as_a_whole() -> None:
    said = [
        "[rank0]: Traceback (most recent call last):",
        "[rank1]: Traceback (most recent call last):",
        '[rank1]:   File "a.py", line 1, in f',
        "[rank1]: ValueError: a row without an answer",
        '[rank0]:   File "a.py", line 2, in g',
        "[rank0]: torch.distributed.DistBackendError: NCCL error in: NCCLUtils.cpp:94",
        "[rank0]: ncclInternalError: Internal check failed.",
        "[rank0]: Last error:",
        "a word of torchrun",
        "[rank0]: Bootstrap : no socket interface found",
        "[rank0]:[W1129 02:00:00.1 ProcessGroupNCCL.cpp:1524] not destroyed",
    ]
    found = [level_at(i, said.__getitem__) for i in range(len(said))]
    assert found == ["error"] * 8 + ["", "error", "warning"]
    copied = traceback(dict(enumerate(said)).get, len(said) - 1)
    assert copied == [said[at] for at in (1, 2, 3)], "the one that began last"
    copied = traceback(dict(enumerate(said[:1] + said[4:])).get, len(said) - 4)
    assert copied == [said[at] for at in (0, 4, 5, 6, 7, 9)], "with all of its message"


@pytest.mark.parametrize("size", SIZES)
async def test_the_end_is_followed_until_the_user_goes_up(
    path: Path, size: tuple[int, int]
) -> None:
    async with opened(path, lines(0, 100), size) as log:
        await log.ends_with("line 099")
        log.add(*lines(100, 103))
        await log.ends_with("line 102")
        await log.press("up")
        assert not log.view.follow
        before = log.beside_the_bar()
        assert before[-1].startswith("line 101")
        log.add(*lines(103, 200))
        await wait_until(log.pilot, lambda: log.view.max_scroll_y == 200 - size[1])
        assert log.beside_the_bar() == before
        await log.press("end")
        assert log.view.follow
        await log.ends_with("line 199")


async def test_going_down_to_the_end_resumes(path: Path) -> None:
    async with opened(path, lines(0, 100)) as log:
        await log.press("k", "k", "j")
        assert not log.view.follow
        await log.press("j")
        assert log.view.follow


async def test_keys_that_move_nothing_change_nothing(path: Path) -> None:
    async with opened(path, lines(0, 5)) as log:
        await log.press("up", "home", "pageup", "n", "N")
        assert log.view.follow


async def test_the_end_stays_in_view_when_the_window_changes(path: Path) -> None:
    async with opened(path, lines(0, 100), (140, 45)) as log:
        for size in [(80, 10), (80, 30)]:
            await log.pilot.resize_terminal(*size)
            await log.pilot.pause()
            assert log.view.follow
            await log.ends_with("line 099")


async def test_a_large_log_is_read_from_its_end(path: Path) -> None:
    count = 40_000  # 1.3 MB: more than is read at opening, and than is read at once
    numbered = [f"line {n:05} of a log that is long" for n in range(count)]
    async with opened(path, numbered) as log:
        await log.ends_with(f"line {count - 1}")
        file = log.view._reader.file
        # (How little is read at opening: tests/run/test_log_file.py. The view may have read on.)
        assert file is not None and not file.whole
        before = file.first
        await log.press("up")
        held = log.beside_the_bar()
        log.view._reader.before()
        await wait_until(log.pilot, lambda: file.first < before)
        await wait_until(log.pilot, lambda: log.view.max_scroll_y > 30_000)
        assert log.beside_the_bar() == held, "what is read stays where it is"
        await log.press("home")
        await log.until(lambda shown: shown[0].startswith("line 00000"))
        assert file.whole and log.view.max_scroll_y == count - 24
        await log.press("pagedown")
        await log.until(lambda shown: shown[0].startswith("line 00023"))
        await log.press("end")
        await log.ends_with(f"line {count - 1}")


async def test_what_is_read_is_not_drawn_again(path: Path) -> None:
    async with opened(path, lines(0, 100)) as log:
        await log.press("up", "up")
        drawn: list[int] = []
        draw = log.view.render_line
        log.view.render_line = lambda y: drawn.append(y) or draw(y)  # type: ignore[method-assign]
        log.add(*lines(100, 160))
        await wait_until(log.pilot, lambda: log.view.max_scroll_y == 160 - 24)
        assert drawn == [], "the same lines were drawn again"


async def test_search_goes_round_and_marks(path: Path) -> None:
    text = [f"{n} Loss [nan] 损失" if n % 40 == 7 else f"{n}" for n in range(100)]
    async with opened(path, text) as log:
        await log.ends_with("99")
        log.view.search("loss [nan]")
        for key, wanted in [("", "87"), ("n", "7"), ("n", "47"), ("n", "87"), ("N", "47")]:
            if key:
                await log.press(key)
            await log.until(
                lambda _shown, wanted=wanted: (
                    bool(log.marked())  # type: ignore[misc]
                    and log.at_match().split()[0] == wanted
                )
            )
            assert log.marked() == ["Loss [nan]"]
        assert log.view.found == (2, 3, True)
        assert not log.view.follow
        log.view.search("LOSS")
        await wait_until(log.pilot, lambda: log.view.found == (0, 0, True))
        log.view.search("")
        await wait_until(log.pilot, lambda: log.view.found == (0, 0, False))


async def test_search_reaches_what_was_never_read(path: Path) -> None:
    text = ["the needle 针"] + ["x" * 99] * 20_000 + ["\x1b[31mnee\x1b[0mdle"] + ["y"] * 100
    async with opened(path, text) as log:
        await log.ends_with("y")
        log.view.search("needle")
        await wait_until(log.pilot, lambda: log.view.found[1:] == (2, True))
        assert log.at_match() == "needle"
        await log.press("N")
        await log.until(lambda shown: shown[0] == "the needle 针")
        await log.press("n")
        await log.until(lambda _shown: bool(log.marked()) and log.at_match() == "needle")


async def test_only_warnings_and_errors(path: Path) -> None:
    warning = "11/24 21:25:11 - mmengine - WARNING - odd"
    text = [*(INFO.format(n=n) for n in range(50)), warning, *TRACEBACK]
    async with opened(path, text) as log:
        log.view.only([OfLevel(("warning", "error"))])
        await log.until(lambda shown: list(filter(None, shown)) == [warning, *TRACEBACK[:4]])
        log.view.only([OfLevel(("error",))])
        log.add(INFO.format(n=51), "ValueError: 错误")
        wanted = [*TRACEBACK[:4], "ValueError: 错误"]
        await log.until(lambda shown: list(filter(None, shown)) == wanted)
        log.view.only([])
        await log.until(lambda shown: shown[22].startswith(INFO.format(n=51)))


async def test_a_filter_goes_through_the_whole_file(path: Path) -> None:
    text = ["KeyError: 'first'"] + ["calm" * 20] * 20_000 + ["KeyError: 'last'", "calm"]
    async with opened(path, text) as log:
        await log.ends_with("calm")
        log.view.only([OfLevel(("error",))])
        wanted = ["KeyError: 'first'", "KeyError: 'last'"]
        await log.until(lambda shown: list(filter(None, shown)) == wanted)
        log.view.search("FIRST")
        await wait_until(log.pilot, lambda: log.view.found[1:] == (0, True))
        log.view.search("first")
        await wait_until(log.pilot, lambda: log.view.found == (1, 1, True))


async def test_only_the_evaluation(path: Path) -> None:
    answer = [
        "11/24 14:18:04 - mmengine - INFO - Sample output:",
        "<|im_start|>你是谁",
        "我是小助手",
    ]
    text = [INFO.format(n=1), *answer, INFO.format(n=2), "Downloading"]
    async with opened(path, text) as log:
        log.view.only([OfEvaluation()])
        await log.until(lambda shown: list(filter(None, shown)) == answer)


async def test_the_lines_of_one_rank(path: Path) -> None:
    text = ["launcher"]
    for n in range(5):
        text += [f"[default0]:step {n}", f"[rank1]: step {n}", f"2: step {n}"]
    async with opened(path, text) as log:
        assert log.view.ranks() == [0, 1, 2]
        for rank in (0, 1, 2):
            log.view.only([OfRank(rank)])
            wanted = text[1 + rank :: 3]
            await log.until(
                lambda shown, wanted=wanted: list(filter(None, shown)) == wanted  # type: ignore[misc]
            )
            assert len(wanted) == 5


async def test_a_log_that_is_cut_short_replaced_or_deleted(path: Path) -> None:
    async with opened(path, lines(0, 100)) as log:
        await log.ends_with("line 099")
        path.write_text("begun again\n")
        await log.ends_with("begun again")
        assert log.view.begun_anew and not log.view.gone
        path.with_suffix(".new").write_text("another file, longer than the one before it\n")
        path.with_suffix(".new").replace(path)
        await log.ends_with("another file")
        path.unlink()
        await wait_until(log.pilot, lambda: log.view.gone)
        assert log.shown()[0].startswith("another file"), "what was read stays"
        path.write_text("back\n")
        await log.ends_with("back")
        assert not log.view.gone


async def test_a_progress_bar_is_one_line_that_moves(path: Path) -> None:
    async with opened(path, ["start"]) as log:
        log.add("Map:  10%|#  |", end="")
        await log.ends_with("Map:  10%")
        log.add("\rMap:  50%|## |", end="")
        await log.ends_with("Map:  50%")
        log.add("\rMap: 100%|###|", "done")
        shown = await log.ends_with("done")
        assert [line for line in shown if line] == ["start", "Map: 100%|###|", "done"]


async def test_nasty_long_and_wide_lines(path: Path) -> None:
    text = [NASTY, " 10%|#\r 99%|####\r", "a\tb", "汉" * 60, "x" * 100_000]
    async with opened(path, text) as log:
        shown = log.shown()
        assert shown[:3] == ["[/x] [b] 中文 abc", " 99%|####", "a    b"]
        assert shown[3] == "汉" * 40
        await log.press("right")
        for strip in log.app.screen._compositor.render_strips(log.app.size):
            assert cell_len(strip.text) == 80
        assert log.shown()[3] == "汉" * 40
        await log.press("left", "left")
        assert log.shown()[0].startswith("[/x]")


async def test_lines_and_tracebacks_are_copied(path: Path) -> None:
    text = [f"[rank1]: {line}" for line in TRACEBACK]
    text.insert(2, "[rank0]: between")
    async with opened(path, [*lines(0, 50), *text, *lines(50, 60)]) as log:
        await log.ends_with("line 059")
        await log.press("C")
        assert log.app.copied == lines(59, 60)[0]
        await log.press("T")
        assert log.app.copied.splitlines() == [f"[rank1]: {line}" for line in TRACEBACK[:4]]
        log.view.search("line 007")
        await log.until(lambda _shown: log.marked() == ["line 007"])
        await log.press("C")
        assert log.app.copied == lines(7, 8)[0]


async def test_levels_have_their_colours_and_another_log_takes_its_place(
    path: Path, tmp_path: Path
) -> None:
    async with opened(path, ["plain", "W1124 x", "KeyError: 'x'"]) as log:
        assert len({segments_of(log.app, y)[0].style.color for y in range(3)}) == 3
        log.view.open(lambda: tmp_path / "none.log")
        await log.until(lambda shown: not any(shown))
        await wait_until(log.pilot, lambda: log.view.gone)
