"""The Chat pane: models side by side, a conversation that branches, text that cannot do harm."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from engine.chat import transcripts
from engine.workspace import Workspace
from tests.chat.engine_here import gone, hollow_model, install, read
from tests.support.chat_pane import choose
from tests.support.chat_server import serving
from tests.support.driver import Driver, opened
from tui.panes.chat import pane as chat_pane

HOSTILE = (
    "\x1b[2J\x1b]0;owned\x07**bold** [red]markup[/red] \u202eabc \u200bzero\n\n" + "行" * 30_000
)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    found = Workspace(tmp_path)
    found.remember(tab="chat")
    return found


async def ask(screen: Driver, question: str) -> None:
    await screen.type(question)
    await screen.press("enter")


def said(screen: Driver) -> list[str]:
    """What was told in passing, or stays until it is put away."""
    return [problem.what for _when, problem in screen.app.notices]


async def test_without_a_model_it_says_what_to_do_and_keeps_the_question(
    workspace: Workspace,
) -> None:
    async with opened(workspace) as screen:
        await screen.shows("no model chosen", "^O  choose a model")
        await ask(screen, "Who are you?")
        await screen.shows("No model is chosen", "Who are you?")


async def test_what_can_be_done_is_told_by_the_panes_keys(workspace: Workspace) -> None:
    model = hollow_model(workspace.models / "huge")
    os.truncate(model / "model.safetensors", 1 << 42)  # of which nothing lies on the disk
    async with opened(workspace, (140, 45)) as screen:
        await choose(screen, "huge")
        await ask(screen, "Who are you?")
        text = await screen.shows("huge does not fit", "f takes all models out")
        assert "--" not in text, "a flag of the command line"


async def test_the_keys_offered_are_those_that_mean_something(workspace: Workspace) -> None:
    asked = ["^R again", "^E exact prompt", "^S save", "^L new talk"]
    always = ["^O models", "^G sampling"]
    async with opened(workspace) as screen:
        await screen.shows("no model chosen", *always)
        assert not any(key in screen.keys_line() for key in asked)
        await screen.press("ctrl+r")
        await screen.shows("Nothing was asked yet.")
        with serving("one two three four five") as nova:
            await choose(screen, nova.address)
            nova.gate.clear()
            await ask(screen, "Who?")
            await screen.shows("▸ Esc  stop")
            await screen.until(lambda _: "^O" not in screen.keys_line())
            assert "^G sampling" in screen.keys_line() and "^R" not in screen.keys_line()
            await screen.press("ctrl+o")
            nova.gate.set()
            assert said(screen)[-1:] == ["The models are answering; Esc stops them."]
            await screen.until(
                lambda _: all(key in screen.keys_line() for key in [*asked, *always])
            )


async def test_three_models_answer_side_by_side(workspace: Workspace) -> None:
    with (
        serving("I am **Nova**.") as nova,
        serving("A model.") as base,
        serving("我是书生") as other,
    ):
        async with opened(workspace, (140, 45)) as screen:
            await choose(screen, nova.address, base.address, other.address)
            await ask(screen, "Who are you?")
            text = await screen.shows("I am Nova.", "A model.", "我是书生", "tok/s")
            assert text.count("Who are you?") == 3
            await ask(screen, "Why?")
            await screen.until(lambda text: text.count("tok/s") == 6)
        talk = [one["content"] for one in nova.asked[1]["messages"]]
        assert talk == ["Who are you?", "I am **Nova**.", "Why?"]
        assert base.asked[1]["messages"][1]["content"] == "A model."


async def test_one_that_is_down_does_not_keep_the_other_from_answering(
    workspace: Workspace,
) -> None:
    with serving("I am here.") as server:
        async with opened(workspace) as screen:
            await choose(screen, "http://127.0.0.1:9/v1", server.address)
            await ask(screen, "Who?")
            await screen.shows("No model answers at http://127.0.0.1:9/v1", "I am here.", "tok/s")


async def test_an_answer_is_stopped_and_what_had_come_stays(workspace: Workspace) -> None:
    with serving("one two three four five") as server:
        server.gate.clear()
        async with opened(workspace) as screen:
            await choose(screen, server.address)
            await ask(screen, "Count")
            await screen.shows("one", "Esc  stop")
            await screen.type("next question")
            await screen.press("enter")  # it is busy: nothing typed is lost, and that is told
            assert said(screen) == ["The models are answering; Esc stops them."]
            await screen.press("escape")
            await screen.shows("one", "stopped", "next question", "send to the models above")


async def test_a_model_that_was_made_since_begins_a_talk_of_its_own(workspace: Workspace) -> None:
    made = workspace.models / "made-since"
    made.mkdir(parents=True)
    with serving("I am the old one.") as server:
        async with opened(workspace) as screen:
            await choose(screen, server.address)
            await ask(screen, "Who?")
            await screen.shows("I am the old one.", "tok/s")
            workspace.opened(merged=str(made))
            await screen.press("f2", "f6")
            await screen.shows("A made-since", "It is loaded when it is first asked.")
            assert "I am the old one." not in screen.text()
            assert said(screen)[-1].startswith("A new talk with made-since.")
            await screen.press("escape", "h")
            await screen.shows("Earlier talks", "Who?")


async def test_of_one_whose_turn_does_not_come_it_is_said_that_it_was_stopped(
    workspace: Workspace,
) -> None:
    with serving("one two three four five") as first, serving("never") as second:
        first.gate.clear()
        async with opened(workspace, (140, 45)) as screen:
            await choose(screen, first.address, second.address)
            await ask(screen, "Count")
            await screen.shows("one", "Esc  stop")
            await screen.press("escape")
            text = await screen.shows("send to the models above")
            below = text.split("Count")[-1]
            assert below.count("stopped") == 2 and "…" not in below
            assert not second.asked


async def test_the_shells_key_stops_an_answer_and_never_the_app(workspace: Workspace) -> None:
    with serving("one two three four five") as server:
        server.gate.clear()
        async with opened(workspace) as screen:
            await choose(screen, server.address)
            await ask(screen, "Count")
            await screen.shows("one", "Esc  stop")
            await screen.press("ctrl+c")
            await screen.shows("one", "stopped", "send to the models above")
            await screen.press("ctrl+c")  # nothing to stop
            assert said(screen) == ["^Q leaves Tunedeck."]


async def test_the_beginning_is_there_at_once_and_stands_once(workspace: Workspace) -> None:
    with serving("Hello **world** and all that is in it") as server:
        server.gate.clear()
        async with opened(workspace) as screen:
            await choose(screen, server.address)
            await ask(screen, "Hi")
            await screen.shows("Hello", "Esc  stop")
            server.gate.set()
            text = await screen.shows("Hello world and all that is in it", "tok/s")
            assert text.count("Hello") == 1 and "…" not in text.split("Hello")[1].split("tok/s")[0]


async def test_edit_undo_and_branches(workspace: Workspace) -> None:
    with serving("first answer", "second answer", "third answer", "fourth answer") as server:
        async with opened(workspace) as screen:
            await choose(screen, server.address)
            await ask(screen, "One?")
            await screen.shows("first answer", "tok/s")
            await ask(screen, "Two?")
            await screen.shows("second answer")
            await screen.until(lambda text: text.count("tok/s") == 2)
            await screen.press("escape", "e")
            await screen.hides("second answer")
            await screen.shows("Two?")  # in the field again
            await screen.type("!")
            await screen.press("enter")
            await screen.shows("Two?!", "third answer")
            await screen.until(lambda text: text.count("tok/s") == 2)
            assert len(server.asked[2]["messages"]) == 3
            await screen.press("escape", "left_square_bracket")
            await screen.shows("second answer")
            await screen.hides("third answer")
            await screen.press("u")
            await screen.hides("second answer")
            await screen.shows("first answer")
            await screen.press("r")
            await screen.shows("One?", "fourth answer")
    [path] = transcripts.listed(workspace.root / "chats")
    kept = transcripts.read(path)
    assert [node.question for node in kept.nodes] == ["One?", "Two?", "Two?!"]
    assert [one.text for one in kept.nodes[0].replies["A"]] == ["first answer", "fourth answer"]


async def test_an_earlier_talk_is_opened_again_and_goes_on(workspace: Workspace) -> None:
    with serving("first answer", "second answer") as server:
        async with opened(workspace) as screen:
            await choose(screen, server.address)
            await ask(screen, "Remember me?")
            await screen.shows("first answer", "tok/s")
        async with opened(workspace) as screen:
            await choose(screen, server.address)
            await screen.press("escape", "h")
            await screen.shows("Earlier talks", "Remember me?")
            await screen.press("enter")
            await screen.shows("first answer")
            await screen.press("i")
            await ask(screen, "And now?")
            await screen.shows("first answer", "second answer")
            await screen.press("ctrl+s")
            await screen.shows("Saved chats/")
        assert len(server.asked[1]["messages"]) == 3
    [written] = (workspace.root / "chats").glob("*.md")
    assert "## Remember me?" in written.read_text(encoding="utf-8")


async def test_several_lines_paste_and_what_was_asked_before(workspace: Workspace) -> None:
    with serving("ok") as server:
        async with opened(workspace) as screen:
            await choose(screen, server.address)
            await screen.type("a")
            await screen.press("ctrl+j")
            await screen.type("b")
            await screen.press("enter")
            await screen.shows("ok", "tok/s")
            assert server.asked[0]["messages"][0]["content"] == "a\nb"
            await screen.type("draft")
            await screen.press("up")
            await screen.press("down", "down")
            await screen.shows("draft")


async def test_hostile_output_is_shown_and_does_nothing(workspace: Workspace) -> None:
    with serving(HOSTILE) as server:
        async with opened(workspace) as screen:
            await choose(screen, server.address)
            await ask(screen, "Attack")
            text = await screen.shows("tok/s", "行行行")
            assert "owned" not in text and "\x1b" not in text
            server.answers[:] = ["and on it goes"]
            await ask(screen, "Again")
            text = await screen.shows("Again", "and on it goes", "tok/s")
            assert "owned" not in text


@pytest.fixture
def engine(
    workspace: Workspace, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A vllm that is found, and a model in the workspace; what the vllm will be told."""
    hollow_model(workspace.models / "base")
    return install(tmp_path_factory.mktemp("engine"), monkeypatch)


async def test_an_engine_is_chosen_started_used_and_ended(
    workspace: Workspace, engine: Path
) -> None:
    async with opened(workspace) as screen:
        await screen.press("ctrl+o")
        await screen.shows("base", "base · vllm")
        await screen.press("escape")
        await choose(screen, "vllm")
        await ask(screen, "Who?")
        await screen.shows("base · vllm", "the tokenizer's template", "I am model.", "tok/s")
        told = read(engine)
        assert told["argv"][:2] == ["serve", str(workspace.models / "base")]
        await screen.press("escape", "f")
        await screen.shows("The models leave the memory")
        assert gone(told["pids"])
        await screen.press("i")
        await ask(screen, "And now?")  # it is started again
        await screen.until(lambda text: text.count("I am model.") == 2)
    assert gone(read(engine)["pids"]), "it ends with the app"


async def test_an_engine_says_how_it_starts_and_why_it_does_not(
    workspace: Workspace, engine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_VLLM", "slow")
    async with opened(workspace) as screen:
        await choose(screen, "vllm")
        await ask(screen, "Who?")
        await screen.shows("vllm: INFO loading model weights", "Esc  stop")
        await screen.press("escape")
        await screen.shows("It was stopped")
        assert gone(read(engine)["pids"])
        monkeypatch.setenv("FAKE_VLLM", "broken")
        await screen.press("ctrl+r")
        await screen.shows("vllm does not serve", "ValueError: No available memory")


async def test_sampling_is_live_and_wrong_values_are_told(workspace: Workspace) -> None:
    with serving("ok") as server:
        async with opened(workspace) as screen:
            await choose(screen, server.address)
            await screen.press("ctrl+g")
            await screen.shows("temperature 0 is greedy")
            await screen.erase()
            await screen.type("2x")
            for _field in range(6):
                await screen.press("enter")
            await screen.shows("temperature must be a number", "max_new_tokens", "2x")
            await screen.press("shift+tab", "shift+tab", "shift+tab", "shift+tab", "shift+tab")
            await screen.erase()
            await screen.type("0.7")
            for _field in range(6):
                await screen.press("enter")
            await screen.hides("temperature 0 is greedy")
            await ask(screen, "Hi")
            await screen.shows("ok", "tok/s")
        assert server.asked[0]["temperature"] == 0.7


async def test_the_exact_prompt_and_chances_of_a_local_model(
    workspace: Workspace, tiny_model: Path
) -> None:
    shutil.copytree(tiny_model, workspace.models / "tiny")
    async with opened(workspace, (140, 45)) as screen:
        await choose(screen, "tiny")
        await ask(screen, "Who?")
        await screen.shows("A tiny · float32", "tok/s", seconds=120)
        await screen.press("ctrl+e")
        await screen.shows("Exact prompt", "<|im_start|>user", "tokens")
        await screen.press("escape")
        await screen.press("escape", "t")
        await screen.until(lambda text: text.count("tok/s") == 2, seconds=60)
        await screen.press("t")
        await screen.shows("How likely each token was")


@pytest.mark.parametrize("told", [False, True])
async def test_a_question_is_kept_however_soon_the_app_ends(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, told: bool
) -> None:
    monkeypatch.setattr(chat_pane, "KEEP_AFTER", 600.0)
    async with opened(workspace) as screen:
        await screen.type("Who was")
        if told:  # by a signal: `tui.endings`
            screen.app.exit(return_code=129)
        else:
            await screen.press("ctrl+q")
        assert screen.app.return_code is not None
    assert Workspace(workspace.root).last().question == "Who was"


async def test_a_question_half_written_is_there_tomorrow(workspace: Workspace) -> None:
    async with opened(workspace) as screen:
        await screen.press("f6")
        await screen.type("Who was")
        assert "enter" not in screen.app.screen.active_bindings, "it sends, and is the field's own"
        await screen.until(lambda _: workspace.last().question == "Who was")
        await screen.press("f7")  # in a field of Textual's it would select all
        await screen.shows("Notices")
        await screen.press("f7")
        await screen.type("?")
        await screen.until(lambda _: workspace.last().question == "Who was?")
    async with opened(Workspace(workspace.root)) as screen:
        await screen.shows("Who was?")
        assert screen.app.current == "chat"
