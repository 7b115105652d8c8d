"""The app as a process in a real terminal: drawing, keys, and how it leaves."""

from __future__ import annotations

import json
import os
import shlex
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest
from rich.cells import cell_len

sys.path.insert(0, str(Path(__file__).parent.parent / "docs"))
from terminal_picture import Terminal

SIZES = [(80, 24), (140, 45)]
ROWS = [
    {"conversation": [{"input": f"请介绍一下你自己{n}", "output": "我是尖米的小助手。" * 9}]}
    for n in range(50)
]


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A folder with a Chinese name and a dataset that is open."""
    root = tmp_path / "小助手"
    (root / "data").mkdir(parents=True)
    data = root / "data" / "小助手.json"
    data.write_text(json.dumps(ROWS, ensure_ascii=False), encoding="utf-8")
    (root / ".tunedeck").mkdir()
    (root / ".tunedeck/last.json").write_text(json.dumps({"data": str(data)}))
    return root


@contextmanager
def tunedeck(
    folder: Path, size: tuple[int, int] = (80, 24), **environment: str
) -> Iterator[Terminal]:
    """The app in a terminal, which says afterwards how it left and in what state."""
    values = " ".join(f"{name}={value}" for name, value in environment.items())
    after = 'echo "status $?"; stty -a | grep -qw -- "-echo" || echo "echo is on"'
    program = shlex.join([sys.executable, "-m", "tui", str(folder)])
    script = f"env {values} {program}; {after}; exec sleep 60"
    with Terminal(shlex.join(["sh", "-c", script]), *size) as terminal:
        yield terminal


def app_pid(terminal: Terminal) -> int:
    """The app's own process, below the shell of the terminal."""
    (child,) = psutil.Process(terminal.pid()).children()
    return child.pid


def left_with(terminal: Terminal, status: int, seconds: float) -> None:
    """The app has gone within `seconds`, and the terminal is as it was before."""
    shown = terminal.wait("echo is on", seconds=seconds)
    assert f"status {status}\n" in shown, shown
    assert "Traceback" not in shown, shown
    assert "F1 keys" not in shown, "the screen before the app is back"
    terminal.type("typed")
    assert "typed" in terminal.text()


@pytest.mark.parametrize("size", SIZES)
def test_it_draws_and_hears_keys(workspace: Path, size: tuple[int, int]) -> None:
    with tunedeck(workspace, size) as terminal:
        shown = terminal.wait("请介绍一下你自己0")
        lines = shown.split("\n")
        assert lines[0].startswith(" Tunedeck  小助手/")
        assert "data/小助手.json" in shown
        assert max(cell_len(line) for line in lines) <= size[0]
        # The terminal's own idea of widths is the app's: numbers and words in their columns.
        rows = [line for line in lines if "请介绍一下你自己" in line and '"' not in line[:30]]
        assert len(rows) >= 5
        for number, line in enumerate(rows):
            assert line.startswith(f"{number:>9}     1      - 请介绍一下你自己{number}")
        terminal.keys("Down", "j", "PageDown", "Home", "Down")
        terminal.wait('"请介绍一下你自己1"')
        for key, words in (("F5", "Hand over"), ("2", "config"), ("F2", "请介绍一下你自己0")):
            terminal.keys(key)
            terminal.wait(words)
        terminal.keys("F1")
        terminal.wait("In this pane")
        terminal.keys("Escape", "C-p")
        terminal.wait("type to narrow")
        terminal.keys("Escape", "s")
        terminal.wait("Substitute in")
        terminal.type("尖米")
        terminal.wait("450 places in 50 of 50 rows")
        terminal.keys("Enter", pause=1)  # nothing on the screen tells that the focus has moved
        terminal.type("新星")
        terminal.wait("我是新星")
        terminal.keys("Escape", "q")
        left_with(terminal, 0, seconds=10)


def test_without_colours_no_colour_is_sent(workspace: Path) -> None:
    with tunedeck(workspace, NO_COLOR="1") as terminal:
        terminal.wait("请介绍一下你自己0")
        coloured = terminal._tmux("capture-pane", "-p", "-e")
        assert "\x1b[38;" not in coloured and "\x1b[48;" not in coloured
        assert "\x1b[7m" in coloured or "\x1b[1;7m" in coloured or ";7m" in coloured


def test_the_language_changes_and_stays(workspace: Path, tmp_path: Path) -> None:
    home = tmp_path / "config"
    with tunedeck(workspace, XDG_CONFIG_HOME=str(home), LC_ALL="C.UTF-8") as terminal:
        terminal.wait("F1 keys")
        terminal.keys("F9")
        terminal.wait("English")
        terminal.keys("Down", "Enter")
        terminal.wait("1 数据")
        terminal.keys("q")
        left_with(terminal, 0, seconds=10)
    assert 'language = "zh"' in (home / "tunedeck/settings.toml").read_text()
    with tunedeck(workspace, XDG_CONFIG_HOME=str(home), LC_ALL="C.UTF-8") as terminal:
        terminal.wait("1 数据")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_restores_the_terminal(workspace: Path, number: signal.Signals) -> None:
    with tunedeck(workspace) as terminal:
        terminal.wait("请介绍一下你自己0")
        os.kill(app_pid(terminal), number)
        left_with(terminal, 128 + number, seconds=10)


def test_ctrl_c_in_the_editor_ends_the_editor_alone(workspace: Path, tmp_path: Path) -> None:
    editor = tmp_path / "editor"
    editor.write_text("#!/bin/sh\necho the editor is open\nsleep 60\n")
    editor.chmod(0o755)
    # Without a shell around it, which Ctrl-C would end as well.
    program = ["env", f"EDITOR={editor}", sys.executable, "-m", "tui", str(workspace)]
    with Terminal(shlex.join(program), 80, 24) as terminal:
        terminal.wait("请介绍一下你自己0")
        for key in ("C-c", "C-\\"):
            terminal.keys("e")
            terminal.wait("the editor is open")
            terminal.keys(key)
            terminal.wait("请介绍一下你自己0")


def test_an_editor_that_is_not_there_leaves_the_screen_as_it_was(workspace: Path) -> None:
    with tunedeck(workspace, EDITOR="/nowhere/editor") as terminal:
        terminal.wait("请介绍一下你自己0")
        terminal.keys("e")
        terminal.wait("Cannot start the editor /nowhere/editor")
        terminal.keys("Escape", "q")
        left_with(terminal, 0, seconds=20)


def test_the_app_ends_with_its_terminal(workspace: Path) -> None:
    with tunedeck(workspace) as terminal:
        terminal.wait("请介绍一下你自己0")
        process = psutil.Process(app_pid(terminal))
        terminal.close()
        process.wait(10)


def held(terminal: Terminal, doing: str, least: int) -> list[psutil.Process]:
    """The processes that the app works with while it says `doing`: that, they do for ever now."""
    app, until = psutil.Process(app_pid(terminal)), time.monotonic() + 30
    while True:
        workers = app.children(recursive=True)
        for worker in workers:
            with suppress(psutil.NoSuchProcess):
                worker.suspend()
        if len(workers) >= least and doing in terminal.text():
            return workers
        assert time.monotonic() < until, (workers, terminal.text())
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize("busy", ["sample", "check", "templates"])
def test_leaving_does_not_wait_for_work(workspace: Path, tiny_model: Path, busy: str) -> None:
    last = json.loads((workspace / ".tunedeck/last.json").read_text())
    if busy != "templates":
        last["base"] = str(tiny_model)
    (workspace / ".tunedeck/last.json").write_text(json.dumps(last))
    with tunedeck(workspace) as terminal:
        terminal.wait("请介绍一下你自己0")
        if busy == "sample":
            workers = held(terminal, "Starting the tokenizer", 1)
        elif busy == "check":
            terminal.keys("c")
            workers = held(terminal, "Checking every row", 2)  # one is the sample's
        else:
            terminal.keys("t")
            terminal.type(str(tiny_model))
            terminal.keys("Enter")
            workers = held(terminal, "Reading XTuner's templates", 1)
        terminal.keys("q")
        left_with(terminal, 0, seconds=10)
        __gone, alive = psutil.wait_procs(workers, 15)
        assert not alive
