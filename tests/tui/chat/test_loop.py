"""The Chat pane's prompt sets, blind votes, and corrected answers for the dataset."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from engine.chat.answer import Sampling
from engine.chat.sets import Item
from engine.joined.candidates import named
from engine.settings import Settings
from engine.workspace import Workspace
from tests.support import chat_pane
from tests.support.chat_server import serving
from tests.support.driver import Driver, opened
from tui.panes.chat.asking import Asking
from tui.panes.chat.set_screen import SetScreen

QUESTIONS = """\
{"question": "Who are you?", "pattern": "Nova"}
{"question": "你是谁?", "expected": "我是"}
{"question": "Say something"}
"""
GOOD = ("I am Nova.\x1b[2J", "我是 Nova", "same [red]thing[/red]")
BAD = ("A model.", "行" * 5_000, "same [red]thing[/red]")


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    found = Workspace(tmp_path)
    found.remember(tab="chat")
    (tmp_path / "prompts").mkdir()
    (tmp_path / "prompts" / "name.jsonl").write_text(QUESTIONS, encoding="utf-8")
    return found


async def choose(screen: Driver, *addresses: str) -> None:
    """Take models, and leave the field: a letter is a key then."""
    await chat_pane.choose(screen, *addresses)
    await screen.press("escape")


async def run_set(screen: Driver, name: str) -> None:
    await screen.press("p")
    await screen.shows("Prompt set", "one question a line")
    await screen.type(name)
    await screen.press("enter")


@pytest.mark.parametrize("size", [(80, 24), (140, 45)])
async def test_a_set_fills_a_table_to_walk_through_save_and_vote_on(
    workspace: Workspace, size: tuple[int, int]
) -> None:
    with serving(*GOOD) as good, serving(*BAD) as bad:
        async with opened(workspace, size) as screen:
            await choose(screen, good.address, bad.address)
            await run_set(screen, "name.jsonl")
            await screen.shows("6 of 6 answers", "2/2 right", "0/2 right", "≠", "v  vote blind")
            await screen.press("enter")
            await screen.shows("1/3  Who are you?", "I am Nova.", "A model.", "differs")
            await screen.press("right")
            await screen.shows("2/3  你是谁?", "right: 我是", "我是 Nova", "行行行")
            await screen.press("escape")
            await screen.shows("6 of 6 answers")
            await screen.press("s")
            await screen.shows("Save the answers")
            await screen.erase()
            await screen.type("out.xlsx")
            await screen.press("enter")
            await screen.shows("Cannot write")
            await screen.erase()
            await screen.type("out.json")
            await screen.press("enter")
            await screen.hides("Save the answers")
            await screen.press("v")
            text = await screen.shows("1/2", "[1]", "[2]")
            assert good.address not in text and bad.address not in text
            await screen.press("1")
            await screen.shows("2/2", "[1]", "[2]")
            await screen.press("u")
            await screen.shows("1/2", "[1]")
            for _pair in range(2):
                text = screen.text()
                first = text.find("Nova") < max(text.find("A model."), text.find("行行"))
                await screen.press("1" if first else "2")
            await screen.shows("How you voted", "2 won   0 lost", "0 won   2 lost", "1 pair of")
            await screen.press("escape")
            await screen.shows("6 of 6 answers")
            await screen.press("escape")
            await screen.hides("6 of 6 answers")
    made = json.loads((workspace.root / "out.json").read_text())
    assert made["complete"] and made["models"][0]["score"] == {"right": 2, "of": 2}
    [kept] = (workspace.root / "chats").glob("votes-*.json")
    tally = {one["model"]: one["wins"] for one in json.loads(kept.read_text())["tally"]}
    assert tally == {good.address: 2, bad.address: 0}


async def test_a_stopped_set_keeps_its_answers_and_a_model_that_is_down_is_told(
    workspace: Workspace,
) -> None:
    with serving(*GOOD) as server:
        async with opened(workspace) as screen:
            await choose(screen, server.address, "http://127.0.0.1:9/v1")
            server.gate.clear()
            await run_set(screen, "name.jsonl")
            await screen.shows("0 of 6 answers", "No model answers at", "Esc  stop")
            await screen.until(lambda _text: len(server.asked) == 1)
            await screen.press("escape")
            await screen.shows("0 of 6 answers", "not all were asked", "Esc  close")
            await screen.press("escape")
            await screen.hides("0 of 6 answers")
            server.gate.set()
            await screen.press("i")
            await screen.type("Still here?")
            await screen.press("enter")
            await screen.shows("Still here?", "tok/s", "我是 Nova")


async def test_more_than_three_models_show_their_marks_and_stand_below_each_other(
    workspace: Workspace,
) -> None:
    with serving("I am Nova.") as good, serving("A model.") as bad:
        addresses = [good.address, bad.address, good.address, bad.address, "http://127.0.0.1:9"]
        chosen = {slot: named(one, workspace) for slot, one in zip("ABCDE", addresses, strict=True)}
        asking = Asking(workspace, Settings())
        items = [Item("1", "Who are you?", pattern="Nova")]
        async with opened(workspace) as screen:
            table = SetScreen("many", items, chosen, asking, Sampling(), None, workspace)
            screen.app.push_screen(table)
            text = await screen.shows("4 of 5 answers", "E  No model answers", "Esc  close")
            [row] = [line for line in text.splitlines() if "Who are you?" in line]
            assert row.split("?")[1].strip(" │").split() == ["✓", "✗≠", "✓", "✗≠"]
            assert f"{good.address} (A)" in text and f"{good.address} (C)" in text, "told apart"
            await screen.press("enter")
            await screen.shows("right: /Nova/", f"D {bad.address} (D)")
            await screen.press("pagedown")
            await screen.shows("not asked yet")
        asking.close()


async def test_a_set_that_cannot_be_read_is_told_with_its_line(workspace: Workspace) -> None:
    (workspace.root / "bad.jsonl").write_text('"a"\n{')
    with serving("x") as server:
        async with opened(workspace) as screen:
            await choose(screen, server.address)
            await run_set(screen, "./bad.jsonl")
            await screen.shows("Cannot read the questions", "Line 2")


DATA = [{"conversation": [{"system": "Be brief.", "input": "a", "output": "b"}]}] * 2


@pytest.mark.parametrize("key", ["ctrl+s", "ctrl+n"])
async def test_a_corrected_answer_goes_into_the_dataset_or_a_file_beside_it(
    workspace: Workspace, key: str
) -> None:
    data = workspace.root / "data.json"
    before = json.dumps(DATA, indent=2)
    data.write_text(before)
    workspace.remember(data=str(data))
    with serving("I am a modle.") as server:
        async with opened(workspace) as screen:
            await choose(screen, server.address)
            await screen.press("c")
            await screen.shows("There is no answer yet.")
            await screen.press("i")
            await screen.type("Who?")
            await screen.press("enter")
            await screen.shows("I am a modle.", "tok/s")
            await screen.press("escape", "c")
            await screen.shows("Who?", "The right answer", "^S  as the last row of data.json")
            await screen.press(*["backspace"] * 4)
            await screen.type("del.")
            await screen.press("enter")
            await screen.type("我")
            await screen.press(key)
            where = {"ctrl+s": "Row 2 of data.json", "ctrl+n": "Row 0 of data-corrected.jsonl"}
            await screen.shows(where[key])
    made = {"system": "Be brief.", "input": "Who?", "output": "I am a model.\n我"}
    if key == "ctrl+s":
        assert json.loads(data.read_text()) == [*DATA, {"conversation": [made]}]
        [kept] = (workspace.state / "trash").iterdir()
        assert kept.read_text() == before
    else:
        assert data.read_text() == before
        beside = workspace.root / "data-corrected.jsonl"
        assert json.loads(beside.read_text()) == {"conversation": [made]}


async def test_without_an_open_dataset_it_says_how_to_open_one(workspace: Workspace) -> None:
    with serving("x") as server:
        async with opened(workspace) as screen:
            await choose(screen, server.address)
            await screen.press("i")
            await screen.type("Who?")
            await screen.press("enter")
            await screen.shows("tok/s")
            await screen.press("escape", "c")
            await screen.shows("No dataset is open", "Open one there first (F2)")
