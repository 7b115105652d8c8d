"""The Data pane by keys, on real files and the real tokenizer's process."""

from __future__ import annotations

import contextlib
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
from engine.hub import client
from engine.workspace import Workspace
from tests.support.data_pane import ROWS, cursor, remember, table, write
from tests.support.driver import opened
from tests.support.screen import NASTY, segments_of
from tui.palette import actions
from tui.panes.data.segments import BAR


async def test_open_by_choosing_and_open_again_tomorrow(workspace: Workspace) -> None:
    write(workspace, "other.json", json.dumps(ROWS[:2]))
    async with opened(workspace) as screen:
        await screen.shows("No dataset is open", "▸ o  open a dataset")
        await screen.press("o")
        await screen.shows("data/assistant.json", "data/other.json")
        await screen.type("assis")
        await screen.hides("other.json")
        await screen.press("enter")
        text = await screen.shows("30 rows", "xtuner", "▸ Enter  use this dataset in a config")
        assert "请介绍一下你自己0" in text
        assert "1 Data ✓" in text
    async with opened(workspace) as screen:
        await screen.shows("data/assistant.json", "30 rows", "请介绍一下你自己0")


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


async def test_open_a_typed_path(workspace: Workspace, tmp_path: Path) -> None:
    alpaca = [{"instruction": "Say [b]hi[/b]", "input": "", "output": "hi"}]
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "one.jsonl").write_text(json.dumps(alpaca[0]) + "\n")
    async with opened(workspace) as screen:
        await screen.press("o")
        await screen.type("far/one.jsonl")  # from the workspace's root
        await screen.press("enter")
        await screen.shows("far/one.jsonl", "jsonl", "1 row ", "alpaca", "Say [b]hi[/b]")
        await screen.press("o")
        await screen.type(str(workspace.data / "assistant.json"))
        await screen.press("enter")
        await screen.shows("data/assistant.json", "30 rows")


async def test_a_part_of_a_listed_path_means_the_one_shown(workspace: Workspace) -> None:
    async with opened(workspace) as screen:
        await screen.press("o")
        await screen.type("data/assi")
        await screen.press("enter")
        await screen.shows("data/assistant.json", "30 rows")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("./none.json", ["Cannot read", "There is no such file."]),
        ("./empty", ["Cannot read"]),
        ("./data/words.json", ["Line 1, column 1"]),
        ("./data/empty.json", ["The file is empty."]),
        ("./data/utf16.json", ["It is written in UTF-16."]),
    ],
)
async def test_what_cannot_be_opened_says_why(
    workspace: Workspace, name: str, words: list[str]
) -> None:
    write(workspace, "words.json", "not JSON at all")
    write(workspace, "empty.json", "")
    (workspace.root / "empty").mkdir()
    (workspace.data / "utf16.json").write_bytes('[{"a": 1}]'.encode("utf-16"))
    remember(workspace)
    async with opened(workspace) as screen:
        await screen.shows("30 rows")
        await screen.press("o")
        await screen.type(name)
        await screen.press("enter")
        await screen.shows(*words)
        await screen.press("escape")
        await screen.hides(*words)
        await screen.shows("30 rows")  # what was open stays open


async def test_a_file_without_rows(workspace: Workspace) -> None:
    write(workspace, "none.json", "[]")
    remember(workspace, "none.json")
    async with opened(workspace) as screen:
        await screen.shows("0 rows", "This file holds no rows.")
        await screen.press("c")
        await screen.shows("holds no rows", "The check could not be made")
        await screen.press("n", "u", "down", "enter")


@pytest.mark.parametrize("count", [1, 2])
async def test_a_dataset_of_a_hub_is_called_by_its_name(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    files = [write(workspace, f"part-{at}.json", json.dumps(ROWS[:2])) for at in range(count)]
    monkeypatch.setattr(client, "dataset", lambda _repo, **_told: files)
    async with opened(workspace) as screen:
        own = "data/assistant.json"
        for typed, called in (("hf:me/talks", "hf:me/talks"), (f"./{own}", own)):
            await screen.press("o")
            await screen.shows("Open a dataset")
            await screen.type(typed)
            await screen.press("enter")
            await screen.shows(f" {called} · ")
            await screen.press("r")
            await screen.shows(f" {called} · ")


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


async def test_rename_in_the_data(workspace: Workspace) -> None:
    source = remember(workspace)
    before = source.read_bytes()
    target = workspace.data / "assistant-renamed.json"
    async with opened(workspace) as screen:
        await screen.shows("30 rows")
        await screen.press("s")
        await screen.shows("Substitute in assistant.json", "data/assistant-renamed.json")
        await screen.type("尖米")
        await screen.press("enter")
        await screen.type("Super Nova")
        text = await screen.shows("30 places in 30 of 30 rows", "我是Super Nova的小助手")
        assert "我是尖米的小助手" in text, "how it reads before stands beside"
        assert not target.exists()
        await screen.press("enter", "enter")
        await screen.shows("data/assistant-renamed.json", "30 rows", "我是Super Nova的小助手")
        assert target.read_bytes() == before.replace("尖米".encode(), b"Super Nova")
        assert source.read_bytes() == before
        assert workspace.last().data == str(target)

        await screen.press("u")
        await screen.shows("data/assistant.json", "我是尖米的小助手")
        assert target.exists()
        await screen.press("u")
        await screen.shows("There is nothing to undo")


async def test_rename_by_a_pattern(workspace: Workspace) -> None:
    remember(workspace)
    async with opened(workspace) as screen:
        await screen.shows("30 rows")
        await screen.press("s")
        await screen.type("自己1(\\d)")
        await screen.shows("0 places in 0 of 30 rows (literal)")
        await screen.press("ctrl+r")
        await screen.shows("10 places in 10 of 30 rows (regular expression)")
        await screen.type("(")
        await screen.shows("is not a regular expression", "at position 7")
    assert sorted(path.name for path in workspace.data.iterdir()) == ["assistant.json"]


async def test_nothing_is_written_when_nothing_matches(workspace: Workspace) -> None:
    remember(workspace)
    async with opened(workspace) as screen:
        await screen.shows("30 rows")
        await screen.press("s")
        await screen.press("enter", "enter", "enter")
        await screen.shows("Nothing to replace")
        await screen.press("shift+tab", "shift+tab")
        await screen.type("大米")
        await screen.shows("0 places")
        await screen.press("enter", "enter", "enter")
        await screen.shows("Nothing matches, so nothing was written", "大米")
        await screen.press("escape")
        await screen.hides("Substitute in")
        await screen.shows("data/assistant.json")
    assert sorted(path.name for path in workspace.data.iterdir()) == ["assistant.json"]


@pytest.mark.parametrize("name", ["data/there.json", "data/assistant.json", "data"])
async def test_what_exists_is_not_overwritten(workspace: Workspace, name: str) -> None:
    there = write(workspace, "there.json", "mine")
    source = remember(workspace)
    before = source.read_bytes()
    async with opened(workspace) as screen:
        await screen.shows("30 rows")
        await screen.press("s")
        await screen.type("尖米")
        await screen.press("enter")
        await screen.type("新星")
        await screen.press("enter")
        await screen.erase()
        await screen.type(name)
        await screen.shows("30 places")
        await screen.press("enter")
        said = {"data/there.json": "exists already", "data": "It is a folder."}
        await screen.shows(said.get(name, "is the file that is read"), "尖米", "新星", name)
        # Nothing typed is lost: another name, and it is done.
        await screen.type("-2.json")
        await screen.press("enter")
        await screen.shows("我是新星的小助手")
    assert there.read_text() == "mine" and source.read_bytes() == before
    assert (workspace.root / f"{name}-2.json").exists()


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


async def test_keys_without_a_dataset_say_what_is_missing(workspace: Workspace) -> None:
    async with opened(workspace) as screen:
        for key in ["s", "c"]:
            await screen.press(key)
            await screen.shows("No dataset is open", "Press o to open one.")
            await screen.press("escape")
        await screen.press("n", "v", "enter")
        await screen.shows("▸ o  open a dataset")


async def test_a_file_that_went_is_no_trouble(workspace: Workspace) -> None:
    remember(workspace, "gone.json")
    async with opened(workspace) as screen:
        await screen.shows("No dataset is open.")


async def test_files_are_closed_that_nobody_looks_at(workspace: Workspace) -> None:
    remember(workspace)
    async with opened(workspace) as screen:
        await screen.shows("30 rows")
        for name in ("one", "two", "three"):
            write(workspace, f"{name}.json", json.dumps(ROWS[:1]))
            await screen.press("o")
            await screen.type(f"{name}.json")
            await screen.press("enter")
            await screen.shows(f"data/{name}.json")
        # A thread that reads a file's rows closes it a moment after it has left the screen.
        last = str(workspace.data / "three.json")
        await screen.until(lambda _text: _open_files(workspace.data) == [last])


def _open_files(folder: Path) -> list[str]:
    found = []
    for fd in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found.append(str(fd.readlink()))
    return sorted(name for name in set(found) if name.startswith(str(folder)))


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
