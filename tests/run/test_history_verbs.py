"""The verbs of the queue and of the history, called as the command line calls them."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from engine import files
from engine.cli import history_verbs
from engine.cli.main import main
from engine.errors import Problem
from engine.joined import run_configs
from engine.run import control, history, processes
from engine.run.folder import RunFolder
from engine.run.listing import open_run
from engine.run.state import Order, RunState, Wait
from engine.workspace import Workspace
from tests.run.test_history import made


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """The current folder: ``one`` has finished, ``two`` and ``three`` wait for it."""
    monkeypatch.chdir(tmp_path)
    workspace = Workspace(tmp_path)
    one = made(workspace, workspace.runs / "one")
    (one.path / "config").mkdir()
    (one.path / "config" / "a.py").write_text("lr = 1e-4  # 学习率\nmax_epochs = 3\n")
    me = processes.Identity.of(os.getpid())
    for place, name in enumerate(("two", "three")):
        run = made(workspace, workspace.runs / name)
        state = RunState("queued", time.time(), supervisor=me)
        order = Order([], {}, [], "", [0], wait=Wait(after=str(one.path), place=float(place)))
        files.write_json(run.path / "state.json", state)
        files.write_json(run.path / "order.json", order)
    return workspace


def answer(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert main([*arguments, "--json"]) == 0, capsys.readouterr().err
    return json.loads(capsys.readouterr().out)


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main([*arguments]) == 0, capsys.readouterr().err
    return capsys.readouterr().out


def test_the_list_tells_what_waits(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    training = RunState(
        "training", time.time(), supervisor=processes.Identity.of(os.getpid()), started=1.0
    )
    files.write_json(workspace.runs / "one" / "state.json", training)
    text = said(capsys, "runs", "--sort", "name")
    assert "⏸  two  queued — after one\n" in text and "◐  one  training" in text
    assert said(capsys, "queue").splitlines() == [
        "1  ⏸ two  It waits: after one.",
        "2  ⏸ three  It waits: after one.",
    ]
    moved = answer(capsys, "queue", "three", "--by", "-1")
    assert [(one["run"], one["state"]) for one in moved] == [("three", "queued"), ("two", "queued")]
    [two] = answer(capsys, "runs", "two")
    assert (two["state"], two["waits"]) == ("queued", "after one")


def test_search_sort_and_what_is_put_away(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    noted = answer(capsys, "note", "one", "最好的一次", "--tag", "客服", "--archive")
    assert noted == {"run": "one", "note": "最好的一次", "tags": ["客服"], "archived": True}
    assert said(capsys, "note", "one") == "one  #客服  archived  最好的一次\n"

    def names(*options: str) -> list[str]:
        return [run["run"] for run in answer(capsys, "runs", *options)]

    assert names("--sort", "name") == ["three", "two"]
    assert names("--archived") == ["one"]
    assert names("--search", "#客服") == names("--search", "最好") == ["one"]
    assert "#客服  最好的一次" in said(capsys, "runs", "one")
    answer(capsys, "note", "one", "", "--untag", "客服", "--unarchive")
    assert names("--sort", "name") == ["one", "three", "two"]
    assert tuple(history.ORDERS) == history_verbs.SORTS


def test_renamed_thrown_away_taken_back_deleted(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "one is called best now" in said(capsys, "rename", "one", "best")
    text = said(capsys, "trash", "best")
    assert text.startswith("1 run is in the trash (") and "--restore" in text
    [thrown] = answer(capsys, "runs", "--trashed")
    assert thrown["name"] == "best" and thrown["bytes"] > 5000
    assert "best is back" in said(capsys, "trash", "--restore", "best")
    answer(capsys, "trash", "best")
    assert answer(capsys, "trash", "--empty")["freed"] > 5000
    assert answer(capsys, "runs", "--trashed") == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["trash", "two"], "in use"),
        (["trash"], "No run is named"),
        (["trash", "--restore", "nobody"], "no run nobody in the trash"),
        (["rename", "one", "two"], "two is taken"),
        (["note", "one", "--tag", "a b"], "cannot be a tag"),
        (["queue", "one", "--by", "1"], "does not wait"),
        (["queue", "one"], "moved by some places"),
        (["train"], "either a config or a run"),
        (["train", "x.py", "--set", "lr=1"], "either a config or a run"),
        (["train", "--like", "nobody"], "no run nobody"),
        (["train", "--like", "one", "--set", "lr"], "not KEY=VALUE"),
        (["train", "--like", "one", "--set", "rl=1"], "no setting rl"),
        (["train", "--like", "one", "--set", "lr=1", "rl=1"], "no setting rl"),
        (["train", "--like", "one", "--set", "lr=1", "--set", "rl=1"], "no setting rl"),
        (["train", "--like", "one", "--gpus", "cpu", "--even-if-it-fails"], "needs a run"),
        (["train", "--like", "one", "--gpus", "cpu", "--after", "nobody"], "no run nobody"),
        (["train", "--like", "one", "--gpus", "cpu", "--when-free"], "no GPU to wait for"),
    ],
)
def test_what_cannot_be_is_one_message(
    workspace: Workspace, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    assert main(arguments) == 2
    told = capsys.readouterr()
    assert says in told.err and not told.out and len(told.err.splitlines()) <= 3


def test_once_more_with_a_change_after_another(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    files.write_json(
        workspace.runs / "one" / "state.json",
        RunState("training", time.time(), supervisor=processes.Identity.of(os.getpid())),
    )
    arguments = ["train", "--like", "one", "--set", "lr=5e-5", "--gpus", "cpu", "--after", "one"]
    assert main([*arguments, "--no-preflight"]) == 0
    told = capsys.readouterr()
    assert "lr: 1e-4 → 5e-5" in told.err
    assert "a-01 waits (after one) in runs/a-01" in told.out
    run = open_run(workspace, "a-01")
    try:
        assert run.state.state == "queued" and run.record is not None
        assert run.record.source == str(workspace.runs / "one" / "config" / "a.py")
        assert run.config is not None
        assert run.config.read_text() == "lr = 5e-5  # 学习率\nmax_epochs = 3\n"
        found = run_configs.differences([RunFolder(workspace.runs / "one"), run])
        assert found == [run_configs.Difference("lr", ["1e-4", "5e-5"])]
    finally:
        control.kill(run)


def test_differences_of_several(workspace: Workspace) -> None:
    texts = ("lr = 1\nseed = 2\n", "lr = 1.0\nseed = 2\nextra = 'x'\n", "lr = 1\nseed = 2\n")
    runs = [RunFolder(workspace.runs / name) for name in ("one", "two", "three")]
    for run, text in zip(runs, texts, strict=True):
        (run.path / "config").mkdir(exist_ok=True)
        (run.path / "config" / "a.py").write_text(text)
    assert [(one.name, one.values) for one in run_configs.differences(runs)] == [
        ("lr", ["1", "1.0", "1"]),
        ("extra", [None, "'x'", None]),
    ]
    assert run_configs.differences(runs[::2]) == []
    used = run_configs.used([*runs, RunFolder(workspace.root)])
    assert used["lr"] == [("1", 2), ("1.0", 1)] and used["extra"] == [("'x'", 1)]
    plain = workspace.root / "work_dirs" / "plain"
    plain.mkdir(parents=True)
    with pytest.raises(Problem, match="no config"):
        run_configs.differences([runs[0], RunFolder(plain)])
