"""``tunedeck chat`` as a process, with and without a terminal."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.chat.session import Answer, ModelSpec, Sampling, Token
from engine.cli.chat_verbs import _Talk
from engine.cli.output import Output
from engine.settings import Settings

TUNEDECK = [sys.executable, "-m", "tui"]


def chat(*arguments: str | Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*TUNEDECK, "chat", *map(str, arguments)], input=stdin, capture_output=True, text=True
    )


def test_json_has_the_keys_of_the_contract(tiny_model: Path, adapter: Path) -> None:
    done = chat(
        *(tiny_model, "--adapter", adapter, "--against", tiny_model, "--json"),
        *("--prompt", "Who are you?", "--prompt", "你是谁?", "--max-new-tokens", "6"),
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
    assert "(memory)" in done.stderr or "GPU" in done.stderr, "whether it fits is said"
    assert "template qwen_chat" in done.stderr and "template tokenizer" in done.stderr


class Escaping:
    """A session whose model answers with what a terminal would obey."""

    def generate(self, *_request: object) -> Iterator[Token | Answer]:
        pieces = ["one\x1b", "[2J", "\x1b]0;title\x07two", "\x9b31m", "\tthree"]
        yield from map(Token, pieces)
        yield Answer("".join(pieces), 5, 0.1, 9.0, "end", "", 3)


def test_no_escape_sequence_of_a_model_reaches_the_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    slots = {"A": ModelSpec("model")}
    talk = _Talk(Escaping(), slots, Sampling(), Output(Settings()))  # type: ignore[arg-type]
    assert talk.prompts(["Who?"]) == 0
    shown = capsys.readouterr().out
    assert shown == "> Who?\none[2Jtwo\tthree\n"


def test_lines_of_a_pipe_are_questions(tiny_model: Path) -> None:
    done = chat(tiny_model, "--max-new-tokens", "4", stdin="One?\n\nTwo?\n/quit\nThree?\n")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("  4 tokens · first") == 2


@pytest.mark.parametrize("wrong", ["adapter", "nothing", "file"])
def test_what_is_no_model_is_one_message_and_status_2(
    wrong: str, adapter: Path, tmp_path: Path
) -> None:
    path = {"adapter": adapter, "nothing": tmp_path / "x", "file": adapter / "README.md"}[wrong]
    done = chat(path, "--prompt", "Who?")
    assert done.returncode == 2
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert 1 <= len(lines) <= 3 and str(path) in lines[0]
    if wrong == "adapter":
        assert f"--adapter {path}" in done.stderr


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
