"""Renaming in a dataset by keys."""

from __future__ import annotations

import pytest

from engine.workspace import Workspace
from tests.support.data_pane import remember, write
from tests.support.driver import opened


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
