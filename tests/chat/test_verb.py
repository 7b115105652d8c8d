"""``tunedeck chat`` as a process, with and without a terminal."""

from __future__ import annotations

import argparse
import io
import json
import os
import pty
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.chat import transcripts
from engine.chat.conversation import Conversation
from engine.chat.session import Answer, ModelSpec, Sampling, Token
from engine.cli import chat_options
from engine.cli.chat_verbs import _Talk
from engine.cli.main import main
from engine.cli.output import Output
from engine.errors import Failed
from engine.settings import Settings
from tests.support.chat_server import serving

TUNEDECK = [sys.executable, "-m", "tui"]


def chat(*arguments: str | Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*TUNEDECK, "chat", *map(str, arguments)], input=stdin, capture_output=True, text=True
    )


def test_json_has_the_keys_of_the_contract(tiny_model: Path, adapter: Path) -> None:
    done = chat(
        *(tiny_model, "--adapter", adapter, "--against", tiny_model, "--json"),
        *("--prompt", "Who are you?", "--prompt", "你是谁?", "--max-new-tokens", "6"),
        *("--chances", "2"),
    )
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout)
    assert [(one["prompt"], one["adapter"]) for one in answers] == [
        ("Who are you?", str(adapter)),
        ("Who are you?", None),
        ("你是谁?", str(adapter)),
        ("你是谁?", None),
    ]
    keys = {"model", "prompt", "answer", "tokens", "first_token_s", "tokens_per_s"}
    assert all(keys <= set(one) for one in answers)
    assert all(one["model"] == str(tiny_model) and one["tokens"] <= 6 for one in answers)
    assert answers[0]["answer"] != answers[1]["answer"]
    for one in answers:
        assert len(one["chances"]) == one["tokens"]
        assert all(len(chance["others"]) == 2 for chance in one["chances"])
    assert "(memory)" in done.stderr or "GPU" in done.stderr, "whether it fits is said"
    assert "template qwen_chat" in done.stderr and "template tokenizer" in done.stderr


class Escaping:
    """A session whose model answers with what a terminal would obey."""

    def stop(self) -> None:
        """Nobody stops it."""

    def generate(self, *_request: object) -> Iterator[Token | Answer]:
        pieces = ["one\x1b", "[2J", "\x1b]0;title\x07two", "\x9b31m", "\tthree"]
        yield from map(Token, pieces)
        yield Answer("".join(pieces), 5, 0.1, 9.0, "end", "", 3)


def test_no_escape_sequence_of_a_model_reaches_the_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    slots = {"A": ModelSpec("model")}
    session: Any = Escaping()
    talk = _Talk(session, slots, Sampling(), Output(Settings()), Conversation())
    assert talk.prompts(["Who?"]) == 0
    shown = capsys.readouterr().out
    assert shown == "> Who?\none[2Jtwo\tthree\n"


class Failing(Escaping):
    """A session whose model answers one question and is gone then."""

    dead = False

    def __init__(self) -> None:
        self.asked = 0

    def generate(self, *_request: object) -> Iterator[Token | Answer]:
        self.asked += 1
        if self.asked > 1:
            raise Failed("The model is gone")
        yield Answer("Nova", 1, 0.1, 9.0, "end", "", 3)


def test_what_was_answered_before_a_failure_is_told_as_well(
    capsys: pytest.CaptureFixture[str],
) -> None:
    session: Any = Failing()
    slots = {"A": ModelSpec("model")}
    talk = _Talk(session, slots, Sampling(), Output(Settings(), json=True), Conversation())
    with pytest.raises(Failed):
        talk.prompts(["Who?", "Why?"])
    assert [one["answer"] for one in json.loads(capsys.readouterr().out)] == ["Nova"]


def test_a_talk_that_cannot_be_written_down_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    with serving("one", "two") as server:
        monkeypatch.setattr("sys.stdin", io.StringIO("a\nb\n"))
        assert main(["chat", server.address, "--transcript", "file/talk.jsonl"]) == 2
    shown = capsys.readouterr()
    assert "one\n" in shown.out and "two\n" in shown.out
    assert shown.err.count("Cannot make the folder file") == 5, "at each line, and at the end"


def test_a_transcript_that_is_none_is_told_before_a_model_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("talk.jsonl").write_text("{}\n")
    with serving("one") as server:
        assert main(["chat", server.address, "--transcript", "talk.jsonl"]) == 2
    assert capsys.readouterr().err.startswith("Cannot read the conversation")


def test_lines_of_a_pipe_are_questions(tiny_model: Path) -> None:
    done = chat(tiny_model, "--max-new-tokens", "4", stdin="One?\n\nTwo?\n/quit\nThree?\n")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("  4 tokens · first") == 2


@pytest.mark.parametrize("wrong", ["adapter", "nothing", "file"])
def test_what_is_no_model_is_one_message_and_status_2(
    wrong: str, adapter: Path, tmp_path: Path
) -> None:
    alone = tmp_path / "alone"
    shutil.copytree(adapter, alone)
    settings = json.loads((alone / "adapter_config.json").read_text())
    settings["base_model_name_or_path"] = "/gone"
    (alone / "adapter_config.json").write_text(json.dumps(settings))
    path = {"adapter": alone, "nothing": tmp_path / "x", "file": adapter / "README.md"}[wrong]
    done = chat(path, "--prompt", "Who?")
    assert done.returncode == 2
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert 1 <= len(lines) <= 3 and str(path) in lines[0]
    if wrong == "adapter":
        assert f"--adapter {path}" in done.stderr


@pytest.mark.parametrize(
    ("line", "models"),
    [
        ("M", {"M": None}),
        ("M --adapter a", {"M": "a"}),
        ("--adapter a M", {"M": "a"}),
        ("M --against N --adapter b", {"M": None, "N": "b"}),
        ("M --adapter a --against N --against O --adapter c", {"M": "a", "N": None, "O": "c"}),
    ],
)
def test_an_adapter_belongs_to_the_model_before_it(line: str, models: dict[str, str]) -> None:
    parser = argparse.ArgumentParser()
    chat_options.add(parser)
    args = parser.parse_args(line.split())
    named = [args.model, *args.against]
    assert {model: args.adapter.get(number) for number, model in enumerate(named)} == models


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("-o", "x.md"), "-o needs --set"),
        (("--set", "none.txt"), "Cannot read the questions"),
        (("--set", "q.txt", "-o", "x.xlsx"), "Cannot write x.xlsx"),
        (("--set", "q.txt", "-o", "q.json"), "exists already"),
        (("--set", "q.txt", "--transcript", "t.jsonl"), "do not go together"),
        (("--top-p", "2"), "sampling settings"),
        (("--against", "http://127.0.0.1:9/v1", "--adapter", "x"), "cannot be given an adapter"),
    ],
)
def test_a_wrong_order_is_told_before_anything_is_loaded(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tiny_model: Path,
    options: tuple[str, ...],
    told: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "q.txt").write_text("Who?\n")
    (tmp_path / "q.json").write_text("[]")
    assert main(["chat", str(tiny_model), *options]) == 2
    assert told in capsys.readouterr().err


QUESTIONS = """\
{"question": "Who are you?", "pattern": "Nova"}
{"question": "2 + 2?", "expected": "4"}
"""


def test_a_set_over_three_models_a_server_among_them(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tiny_model: Path,
    adapter: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "q.jsonl").write_text(QUESTIONS)
    with serving("I am Nova.", "It is 4.") as server:
        order = [server.address, "--against", str(tiny_model), "--against", str(adapter)]
        order += ["--set", "q.jsonl", "-o", "out.md", "--max-new-tokens", "4", "--no-merge"]
        assert main(["chat", *order, "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert [one["model"] for one in made["models"]] == [
        server.address, tiny_model.name, f"{tiny_model.name} + {adapter.name}"
    ]  # fmt: skip
    assert made["models"][0]["score"] == {"right": 2, "of": 2}
    answers = [[cell["answer"] for cell in row["answers"]] for row in made["rows"]]
    assert [row[0] for row in answers] == ["I am Nova.", "It is 4."]
    assert all(len(row) == 3 for row in answers) and made["complete"]
    assert "✓ I am Nova." in (tmp_path / "out.md").read_text()


def test_a_server_that_fails_is_in_the_table_and_the_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "q.txt").write_text("Who?\nWhy?\nWhat?\n")
    with serving("here") as good, serving("x") as bad:
        bad.broken = True
        order = [good.address, "--against", bad.address, "--set", "q.txt", "-o", "o.json"]
        assert main(["chat", *order]) == 1
    shown = capsys.readouterr()
    assert "gave no answer" in shown.out and "3 of 6 answers came" in shown.err
    assert shown.out.count("gave no answer") == 2, "then it is asked no more"
    kept = json.loads((tmp_path / "o.json").read_text())
    assert not kept["complete"] and len(kept["rows"][2]["answers"]) == 1


def test_a_talk_is_written_down_and_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with serving("one", "two", "three") as server:
        for lines in ("a\nb\n", "c\n/quit\n"):
            monkeypatch.setattr("sys.stdin", io.StringIO(lines))
            assert main(["chat", server.address, "--transcript", "new/talk.jsonl"]) == 0
        asked = [one["content"] for one in server.asked[-1]["messages"]]
    assert asked == ["a", "one", "b", "two", "c"]
    branch = transcripts.read(tmp_path / "new" / "talk.jsonl").branch
    assert [reply.text for node in branch if (reply := node.reply("A"))] == ["one", "two", "three"]


class Terminal:
    """The program in a terminal of its own."""

    def __init__(self, *arguments: str | Path) -> None:
        self.pid, self.screen = pty.fork()
        if self.pid == 0:
            os.environ["TERM"] = "xterm"
            os.execv(sys.executable, [*TUNEDECK, "chat", *map(str, arguments)])
        self.text = ""

    def type(self, text: str) -> None:
        os.write(self.screen, text.encode())

    def until(self, wanted: str, seconds: float = 120) -> str:
        """Wait for `wanted`; what came since the last time."""
        end = time.monotonic() + seconds
        while wanted not in self.text:
            assert time.monotonic() < end, self.text
            if select.select([self.screen], [], [], 0.2)[0]:
                self.text += os.read(self.screen, 65536).decode("utf-8", "replace")
        seen, _found, self.text = self.text.partition(wanted)
        return seen

    def status(self) -> int:
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def test_a_conversation_in_a_terminal(tiny_model: Path) -> None:
    terminal = Terminal(tiny_model, "--max-new-tokens", "900")
    terminal.until("> ")
    terminal.type("Who are you?\n")
    time.sleep(1)
    terminal.until("Who are you?\r\n")
    terminal.type("\x03")
    stopped = terminal.until("> ")
    assert "stopped" in stopped, stopped
    terminal.type("/clear\n")
    terminal.until("> ")
    terminal.type("\x04")
    assert terminal.status() == 0
