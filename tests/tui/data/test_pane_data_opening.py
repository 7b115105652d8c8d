"""Opening in the Data pane: what is chosen, typed, remembered, and what cannot be read."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest

from engine.workspace import Workspace
from tests.support.data_pane import ROWS, remember, write
from tests.support.driver import opened


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
