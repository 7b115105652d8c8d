"""Keys only, in a real terminal: from an empty workspace to an answer of the tuned model."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "docs"))
from terminal_picture import Terminal

pytestmark = pytest.mark.trains

ROWS = [
    {
        "conversation": [
            {"system": "", "input": question, "output": "我是尖米的小助手，很高兴认识你！"}
        ]
    }
    for question in ("你是谁？", "请介绍一下你自己", "Who are you?", "你叫什么名字") * 6
]


@pytest.fixture
def workspace(tmp_path: Path, tiny_model: Path) -> Path:
    """A dataset, a base model, nothing else."""
    (tmp_path / "data").mkdir()
    data = tmp_path / "data/assistant.json"
    data.write_text(json.dumps(ROWS, ensure_ascii=False), encoding="utf-8")
    shutil.copytree(tiny_model, tmp_path / "models/tiny-llama")
    return tmp_path


def test_from_an_empty_workspace_to_an_answer(workspace: Path) -> None:
    columns, rows = map(int, os.environ.get("TUNEDECK_TEST_SIZE", "80x24").split("x"))
    app = f"{sys.executable} -m tui {workspace}"
    with Terminal(app, columns, rows) as terminal:
        terminal.wait("o  open a dataset")
        data(terminal)
        config(terminal)
        train(terminal)
        export(terminal)
        chat(terminal)
        terminal.keys("Escape", "q", pause=1)
    [talk] = (workspace / "chats").glob("*.jsonl")
    assert "你是谁？" in talk.read_text(encoding="utf-8")
    renamed = (workspace / "data/assistant-renamed.json").read_text(encoding="utf-8")
    assert "尖米" not in renamed
    assert json.loads(renamed)[0]["conversation"][0]["output"].startswith("我是Super Nova的")
    assert (workspace / "data/assistant.json").read_text(encoding="utf-8").count("尖米") == 24


def data(terminal: Terminal) -> None:
    """Open the dataset, rename in it, take it to a config."""
    terminal.keys("o")
    terminal.wait("assistant.json")
    terminal.keys("Enter")
    terminal.wait("24 rows")
    terminal.keys("s")
    terminal.wait("Substitute")
    terminal.type("尖米")
    terminal.keys("Enter")
    terminal.type("Super Nova")
    terminal.wait("24 places")
    terminal.keys("Enter", "Enter")
    terminal.wait("assistant-renamed.json ·")
    terminal.keys("Enter")
    terminal.wait("new config from the catalogue, for")


def config(terminal: Terminal) -> None:
    """A config from the catalogue, pointed at the data; the preflight's finding put right."""
    terminal.keys("n")
    terminal.wait("what to start from")
    terminal.type("supernova")
    terminal.wait("(1 of ")
    terminal.keys("Enter")
    terminal.wait("Base model")
    terminal.keys("Enter", "Enter")
    terminal.wait("preflight: will it run?")
    terminal.keys("p")
    # Few rows, so that the config's warm-up rounds to one step: a silent trap.
    terminal.wait("rounds to 1 of 18 steps", seconds=120)
    terminal.keys("Tab", "Enter")
    terminal.wait("this config will run", seconds=120)
    terminal.keys("t")
    terminal.wait("train with configs/")


def train(terminal: Terminal) -> None:
    """Launch, watch it to the end."""
    terminal.keys("Enter")
    terminal.wait("nothing stands in its way", seconds=120)
    terminal.keys("Enter")
    terminal.wait("finished", seconds=180)
    terminal.keys("Enter")
    terminal.wait("convert to an adapter")


def export(terminal: Terminal) -> None:
    """All steps of the export in one."""
    terminal.keys("a")
    terminal.wait("they agree", seconds=180)
    terminal.keys("Enter")
    terminal.wait("send to the models above")


def chat(terminal: Terminal) -> None:
    """One question; the tuned model and the base both answer."""
    terminal.type("你是谁？")
    terminal.keys("Enter")
    terminal.wait("tok/s", seconds=180)
    shown = terminal.text()
    assert "A assistant-renamed-01-iter_" in shown
