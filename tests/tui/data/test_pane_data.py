"""A dataset in the Data pane by keys: its rows, checked and as the model sees them."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

from engine.dataset.checking import check
from engine.dataset.files.offsets import Progress
from engine.dataset.reader import Dataset
from engine.workspace import Workspace
from tests.support.data_pane import ROWS, cursor, remember, table, write
from tests.support.driver import opened
from tests.support.screen import NASTY, segments_of
from tui.palette import actions
from tui.panes.data.segments import BAR


async def test_the_keys_offered_are_those_that_mean_something(workspace: Workspace) -> None:
    on_data = {"c check all", "s substitute", "e edit", "/ find", "f filter"}

    def told() -> set[str]:
        return {key for key in [*on_data, "o open"] if key in screen.keys_line()}

    def found() -> set[str | None]:
        return {one.binding.id for ones in actions(screen.app).values() for one in ones}

    async with opened(workspace) as screen:
        await screen.shows("No dataset is open")
        assert told() == {"o open"} and "data.split" not in found()
        await screen.press("v")
        await screen.shows("The rows are not counted yet")
    remember(workspace)
    async with opened(workspace) as screen:
        await screen.until(lambda _: told() == {*on_data, "o open"})
        assert "data.split" in found() and not {"data.undo", "data.findings"} & found()
        await screen.press("y")
        await screen.shows("1 row was repeated", "31 rows")
        assert "data.undo" in found()


@pytest.mark.parametrize("size", [(80, 24), (140, 45)])
async def test_chinese_rows_stand_in_their_columns(
    workspace: Workspace, size: tuple[int, int]
) -> None:
    words = ["你好", "a" + "汉字" * 80, "汉字" * 80, "，。！？" * 40, NASTY * 9]
    rows = [{"instruction": one, "input": "", "output": "好"} for one in words]
    write(workspace, "wide.json", json.dumps(rows))
    remember(workspace, "wide.json")
    async with opened(workspace, size) as screen:
        await screen.shows("5 rows", "你好")
        for strip in screen.app.screen._compositor.render_strips(screen.app.size):
            assert cell_len(strip.text) == size[0]
        first = table(screen).region.y + 1
        for number, line in enumerate(screen.lines()[first : first + len(rows)]):
            # Number, turns, tokens, words: right edges at 9, 15 and 22, words from 23 on.
            assert line[:23] == f"{number:>9} {1:>5} {'-':>6} "
            own = line[23 : 23 + table(screen).size.width]
            assert own.startswith(words[number][:2] if number != 4 else "[/x] [b] 中文")
        # A character that does not fit whole is left out.
        assert re.search("[汉字] ?…", screen.lines()[first + 1])
        assert re.search("[汉字] ?…", screen.lines()[first + 2])


async def test_moving_shows_the_row(workspace: Workspace) -> None:
    remember(workspace)
    async with opened(workspace) as screen:
        await screen.shows('"请介绍一下你自己0"')
        await screen.press("down", "j")
        await screen.shows('"请介绍一下你自己2"')
        await screen.press("G")
        await screen.shows('"请介绍一下你自己29"')
        await screen.press("tab")
        assert screen.app.focused is not None and screen.app.focused.id == "sample-scroll"


async def test_check_finds_broken_rows_and_n_goes_there(workspace: Workspace) -> None:
    rows = [dict(one) for one in ROWS]
    rows[7] = {"conversation": [{"input": "写一首诗", "output": None}]}
    rows[21] = {"conversation": "no list"}
    write(workspace, "broken.json", json.dumps(rows, ensure_ascii=False))
    remember(workspace, "broken.json")
    async with opened(workspace) as screen:
        await screen.shows("30 rows", "Not checked yet", "/ find  f filter")
        await screen.press("c")
        await screen.shows("28 good · 2 broken: row 7", "/ find  n next  f filter")
        await screen.press("n")
        assert cursor(screen) == 7
        await screen.shows("写一首诗", "✗ 'output' is null", '"output": null', "Write a text there")
        await screen.press("n")
        assert cursor(screen) == 21
        await screen.press("n")
        assert cursor(screen) == 7, "around the end"
        await screen.press("v")
        await screen.shows("Findings", "       21  ")


async def test_a_check_that_runs_can_be_cancelled(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slowly(dataset: Dataset, *, progress: Progress, **wishes: Any) -> check.CheckReport:
        def heard(done: int, total: int) -> None:
            progress(done, total)
            time.sleep(0.1)

        return real(dataset, progress=heard, **wishes)

    real = check.check
    monkeypatch.setattr(check, "check", slowly)
    write(workspace, "many.jsonl", (json.dumps(ROWS[0]) + "\n") * 100_000)
    remember(workspace, "many.jsonl")
    async with opened(workspace) as screen:
        await screen.shows("100,000 rows")
        await screen.press("c")
        await screen.shows("Checking every row")
        await screen.press("c")
        await screen.shows("The check was cancelled")
        await screen.press("end")
        assert cursor(screen) == 99_999
        # Another file does not hear of a check that was begun before it.
        await screen.press("c")
        await screen.shows("Checking every row")
        await screen.press("o")
        await screen.type("assis")
        await screen.press("enter")
        await screen.shows("30 rows", "Not checked yet")
        await screen.pilot.pause(0.3)
        await screen.shows("Not checked yet")


async def test_broken_json_names_line_and_column(workspace: Workspace) -> None:
    text = json.dumps(ROWS[:3], ensure_ascii=False, indent=1).split("\n")
    bad = next(number for number, line in enumerate(text) if '"output"' in line)
    text[bad] = '     "output": 尖米'
    write(workspace, "bad.json", "\n".join(text))
    remember(workspace, "bad.json")
    async with opened(workspace) as screen:
        await screen.shows(f"line {bad + 1}, column 16")
        await screen.press("down")
        await screen.shows('"请介绍一下你自己1"')
        await screen.press("c")
        await screen.shows("2 good", "1 broken: row 0", f"line {bad + 1}, column 16")


async def test_a_torn_file_says_so(workspace: Workspace) -> None:
    write(workspace, "torn.json", json.dumps(ROWS, ensure_ascii=False)[:-40])
    remember(workspace, "torn.json")
    async with opened(workspace) as screen:
        await screen.shows("30 rows")
        await screen.press("c")
        await screen.shows("29 good", "1 broken: row 29", "line 1, column")


async def test_nasty_rows_are_shown_as_text(workspace: Workspace) -> None:
    rows = [{"instruction": NASTY, "input": NASTY, "output": NASTY}] * 2
    write(workspace, "nasty.json", json.dumps(rows))
    remember(workspace, "nasty.json")
    async with opened(workspace) as screen:
        text = await screen.shows("[/x] [b] 中文 abc")
        assert all(line.isprintable() for line in text.split("\n"))


async def test_enter_takes_the_data_to_the_config(workspace: Workspace) -> None:
    path = remember(workspace)
    async with opened(workspace) as screen:
        await screen.shows("30 rows")
        workspace.remember(data="")
        await screen.press("enter")
        await screen.until(lambda _: screen.app.current == "config")
    last = workspace.last()
    assert (last.data, last.tab) == (str(path), "config")


async def test_a_model_that_is_none_is_named_at_once(workspace: Workspace) -> None:
    remember(workspace)
    async with opened(workspace) as screen:
        await screen.shows("30 rows")
        await screen.press("t")
        await screen.type("./data")
        await screen.press("enter")
        await screen.shows("It holds no tokenizer files.", "Give a model's folder")


async def test_a_model_that_went_leaves_the_rows_readable(workspace: Workspace) -> None:
    remember(workspace)
    workspace.remember(base=str(workspace.models / "gone"))
    async with opened(workspace) as screen:
        await screen.shows("There is no such folder.", '"请介绍一下你自己0"')
        assert "xtuner\n" in screen.text(), "no model is named that is not looked through"
        await screen.press("down", "down")
        await screen.shows('"请介绍一下你自己2"')
        assert len(screen.app.notices) == 1, "said once, not for each row"


@pytest.mark.slow
async def test_a_row_as_the_model_sees_it(workspace: Workspace, tiny_model: Path) -> None:
    rows = [dict(one) for one in ROWS]
    rows[2] = {"conversation": [{"input": "写", "output": "一" * 3000}]}
    rows[3] = {"conversation": "no list"}
    rows[4] = {"conversation": [{"input": "一" * 3000, "output": "好"}]}
    write(workspace, "assistant.json", json.dumps(rows, ensure_ascii=False))
    remember(workspace)
    async with opened(workspace) as screen:
        await screen.shows("30 rows")
        await screen.press("t")
        await screen.type(str(tiny_model))
        await screen.press("enter")
        await screen.shows("Prompt template", seconds=90)
        await screen.type("qwen_chat")
        await screen.press("enter")
        answer = f"{BAR}我是尖米的小助手，内在是书生<|im_end|>"
        text = await screen.shows("<|im_start|>user⏎", "tokens carry loss", answer, seconds=90)
        assert "<|im_start|>assistant⏎" in text and BAR + "<|im_start|>" not in text
        assert "tiny-llama · qwen_chat" in text
        bold = {"prompt": False, "answer": False}
        for y in range(24):
            for piece in segments_of(screen.app, y):
                if "内在是书生" in piece.text and y > 10:
                    bold["answer"] |= bool(piece.style and piece.style.bold)
                if "<|im_start|>user" in piece.text:
                    bold["prompt"] |= bool(piece.style and piece.style.bold)
        assert bold == {"prompt": False, "answer": True}

        # The worker is warm now: keys held down end at the row of the last one.
        await screen.press(*["down"] * 6)
        await screen.shows("请介绍一下你自己6<|im_end|>")
        await screen.press("home", "down", "down", "down")
        await screen.hides("tokens carry loss")  # XTuner cannot take this row: said in its place
        await screen.press("c")
        await screen.shows("27 good · 1 cut at max_length (row 2) · 1 dropped", "packed samples")
        await screen.press("G")
        await screen.shows(" 29     1     23 ")
        await screen.press("p")
        await screen.shows("28 samples · 28 steps per epoch")
        await screen.press("home", "n")
        assert cursor(screen) == 2
        await screen.shows("cut at max_length", "3016 写", " cut")
        await screen.press("v")
        text = await screen.shows("2  is cut", "4  is dropped")
        assert "3  'conversation' is a text, not a list" in text
        await screen.press("escape", "i")
        await screen.shows("2,048 – 4,095  █", "tokens in 30 rows", "1 row is longer")
        await screen.press("escape", "f")
        await screen.type("longest")
        await screen.press("enter")
        await screen.shows("longest first 30")
        assert table(screen)._row_at(0) in (2, 4) and table(screen)._row_at(2) not in (2, 4)
        # Signs instead of colours for what carries loss.
        await screen.press("f", "enter", "home", "b")
        await screen.shows("«我是尖米的小助手，内在是书生<|im_end|>»⏎")
        # Another length: what was counted is void, and the row in view is cut.
        await screen.press("L")
        await screen.erase()
        await screen.type("20")
        await screen.press("enter")
        await screen.shows("cut at max_length", "Not checked yet", " cut")
    assert workspace.last().template == "qwen_chat"
    async with opened(workspace) as screen:
        await screen.shows("tiny-llama · qwen_chat", "<|im_start|>user⏎", seconds=90)
