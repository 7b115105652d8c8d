"""Acts of the data pane by keys: rows edited with undo, parts written, columns mapped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from engine.workspace import Workspace
from tests.support.data_pane import ROWS, cursor, remember, write
from tests.support.driver import opened
from tui.panes.data import acts


@pytest.fixture
def editor(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Stands for a person at their editor: does what is appended to it, and keeps what it saw."""
    doing: list[Any] = []

    def edit(_app: object, path: Path, _line: int = 1) -> int:
        act = doing.pop(0)
        seen = path.read_text(encoding="utf-8")
        doing.append(seen)
        made = act(seen)
        if made is None:
            return 1
        path.write_text(made, encoding="utf-8")
        return 0

    monkeypatch.setattr(acts, "open_editor", edit)
    return doing


def rows_of(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


async def test_a_row_is_edited_and_the_edit_undone(workspace: Workspace, editor: list[Any]) -> None:
    path = remember(workspace)
    before = path.read_bytes()
    async with opened(workspace) as screen:
        await screen.shows("30 rows")
        await screen.press("down", "down")
        editor.append(lambda text: text.replace("尖米", "新星"))
        await screen.press("e")
        await screen.shows("▸ Row 2 was changed   u  undo", "我是新星的小助手")
        assert cursor(screen) == 2
        assert json.loads(editor.pop()) == ROWS[2]
        changed = path.read_bytes()
        assert changed.count("新星".encode()) == 1
        assert changed.replace("新星".encode(), "尖米".encode()) == before
        await screen.press("u")
        await screen.shows("▸ Undone", "我是尖米的小助手")
        assert path.read_bytes() == before
        await screen.press("u")
        await screen.shows("There is nothing to undo")
        # Nothing changed, or given up: nothing is written.
        stamp = path.stat().st_mtime_ns
        for act in (lambda text: text, lambda text: None):
            editor[:] = [act]
            await screen.press("e")
        assert path.stat().st_mtime_ns == stamp


async def test_broken_json_is_kept_and_offered_again(
    workspace: Workspace, editor: list[Any]
) -> None:
    path = remember(workspace)
    async with opened(workspace) as screen:
        await screen.shows("30 rows")
        editor.append(lambda text: text.replace('"input"', "input") + "\n# 我的修改")
        await screen.press("e")
        await screen.shows("This is not right JSON", "Line 4, column 7", "the text is kept")
        assert rows_of(path) == ROWS
        typed = editor.pop()
        await screen.press("down", "up")
        editor[:] = [lambda text: json.dumps({"conversation": [{"input": "新问", "output": "答"}]})]
        await screen.press("e")
        await screen.shows("▸ Row 0 was changed", "新问")
        assert "我的修改" in editor.pop() and "我的修改" not in typed
        assert rows_of(path)[0]["conversation"][0]["input"] == "新问"


async def test_a_row_is_deleted_and_repeated(workspace: Workspace) -> None:
    path = remember(workspace)
    before = path.read_bytes()
    async with opened(workspace) as screen:
        await screen.shows("30 rows")
        await screen.press("down", "d")
        await screen.shows("29 rows", "▸ 1 row was deleted   u  undo", '"请介绍一下你自己2"')
        assert rows_of(path) == [ROWS[0], *ROWS[2:]]
        await screen.press("y")
        await screen.shows("30 rows", "▸ 1 row was repeated")
        assert rows_of(path) == [ROWS[0], ROWS[2], *ROWS[2:]] and cursor(screen) == 2
        await screen.press("u")
        await screen.shows("29 rows", "▸ Undone")
        await screen.press("u")
        await screen.shows("30 rows", '"请介绍一下你自己1"')
        assert path.read_bytes() == before


async def test_marked_rows_are_deleted_when_it_is_meant(workspace: Workspace) -> None:
    path = remember(workspace)
    async with opened(workspace) as screen:
        await screen.shows("30 rows")
        await screen.press("space", "space", "end", "space", "d")
        await screen.shows("Delete 3 marked rows?", "u brings them back")
        await screen.press("enter")
        await screen.hides("Delete 3")
        assert len(rows_of(path)) == 30
        await screen.press("d", "y")
        await screen.shows("27 rows", "▸ 3 rows were deleted")
        assert rows_of(path) == ROWS[2:29]
        await screen.hides("▪")


async def test_what_somebody_else_changed_is_not_overwritten(workspace: Workspace) -> None:
    path = remember(workspace)
    async with opened(workspace) as screen:
        await screen.shows("30 rows")
        other = write(workspace, "other", json.dumps(ROWS[:3]))
        other.replace(path)
        await screen.press("d")
        await screen.shows("has changed since it was opened")
        assert rows_of(path) == ROWS[:3]


async def test_matches_are_exported(workspace: Workspace) -> None:
    remember(workspace)
    async with opened(workspace) as screen:
        await screen.shows("30 rows")
        await screen.press("slash")
        await screen.type("自己2")
        await screen.press("enter")
        await screen.shows("11 rows")
        await screen.press("x")
        await screen.type("match")
        await screen.press("enter")
        await screen.shows("write to", "data/assistant-matches.json")
        await screen.press("enter")
        await screen.shows("▸ 11 rows were written to data/assistant-matches.json")
        assert rows_of(workspace.data / "assistant-matches.json") == [ROWS[2], *ROWS[20:]]
        await screen.press("x", "enter")
        await screen.erase()
        await screen.type("data/assistant.json")
        await screen.press("enter")
        await screen.shows("exists already")
        await screen.erase()
        await screen.type("data/all.csv")
        await screen.press("enter")
        await screen.shows("JSON Lines (.jsonl)")


async def test_a_validation_set_is_split_off(workspace: Workspace) -> None:
    remember(workspace)
    async with opened(workspace) as screen:
        await screen.shows("30 rows")
        await screen.press("S")
        await screen.shows("Split off a validation set", "data/assistant-val.json")
        await screen.erase()
        await screen.type("many")
        await screen.press("enter", "enter", "enter", "enter")
        await screen.shows("Give a share such as 0.1")
        await screen.press("shift+tab", "shift+tab", "shift+tab")
        await screen.erase()
        await screen.type("5")
        await screen.press("enter", "enter", "enter", "enter")
        await screen.shows("▸ 25 rows for training, 5 for validation")
    parts = [rows_of(workspace.data / f"assistant-{name}.json") for name in ("train", "val")]
    assert [len(part) for part in parts] == [25, 5]
    assert sorted(map(str, parts[0] + parts[1])) == sorted(map(str, ROWS))


async def test_columns_are_mapped_with_the_result_beside(workspace: Workspace) -> None:
    odd = [{"wen": f"问{n}", "da": f"答{n}", "lei": "闲聊"} for n in range(5)]
    write(workspace, "odd.json", json.dumps(odd, ensure_ascii=False))
    remember(workspace, "odd.json")
    async with opened(workspace) as screen:
        await screen.shows("5 rows", "shape unknown (m)")
        await screen.until(lambda text: "Data ✓" not in text)
        await screen.press("m")
        await screen.shows("The columns of this file: wen, da, lei", "other columns …")
        await screen.type("other columns")
        await screen.press("enter")
        await screen.shows("write to", "configs/odd_map.py")
        for text in ("wen, lei", "da", "你是助手"):
            await screen.erase()
            await screen.type(text)
            await screen.press("enter")
        await screen.shows("S 你是助手", "? 问0⏎闲聊", "▌ 答0")
        await screen.press("shift+tab")
        await screen.type("！")
        await screen.press("shift+tab")
        await screen.erase()
        await screen.type("nichts")
        await screen.shows("There is no column nichts")
        await screen.erase()
        await screen.type("da")
        await screen.press("enter", "enter", "enter")
        await screen.shows("odd_map.py", "问0")
        await screen.hides("shape unknown")
        await screen.shows("Data ✓")
    module = workspace.configs / "odd_map.py"
    assert "你是助手！" in module.read_text(encoding="utf-8")
    assert workspace.last().shape == str(module)
    async with opened(workspace) as screen:  # tomorrow it is still known
        await screen.shows("5 rows", "odd_map.py")


async def test_another_shape_is_chosen(workspace: Workspace) -> None:
    write(workspace, "two.json", json.dumps([{"text": "一段文字", "instruction": "问"}]))
    remember(workspace, "two.json")
    async with opened(workspace) as screen:
        await screen.shows("1 row ")
        await screen.press("m")
        await screen.type("Plain text")
        await screen.press("enter")
        await screen.shows("1 row · text", "一段文字")
        assert workspace.last().shape == "text"
