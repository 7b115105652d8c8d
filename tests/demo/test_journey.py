"""The whole journey with the tiny model in place of the real one, and its stages' manners."""

from __future__ import annotations

import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from engine.cli import demo_verbs
from engine.cli.output import Output
from engine.demo import base, journey, training
from engine.demo.ledger import Ledger
from engine.demo.stages import Stages
from engine.errors import Failed, Problem
from engine.settings import Settings
from engine.workspace import Workspace
from tests.support.run_files import write_run


def run_verb(*arguments: str) -> int:
    from engine.cli.main import main

    return main(["demo", *arguments])


@pytest.mark.trains
def test_the_whole_journey_and_then_nothing_is_done_twice(
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(base, "make", lambda out, *_rest: shutil.copytree(tiny_model, out))
    folder = tmp_path / "demo"
    # A random model learns no name in 90 steps: that is said, by the exit status too.
    assert run_verb(str(folder), "--cpu", "--json") == 1
    said = capsys.readouterr()
    first = json.loads(said.out)
    assert first["dir"] == str(folder) and first["ok"] is False and first["device"] == "cpu"
    assert len(first["base"]) == len(first["tuned"]) == len(first["questions"]) == 3
    assert first["base"] != first["tuned"], "training changed the answers"
    assert any("does not say Super Nova" in one for one in first["missed"])
    assert [step["step"] for step in first["steps"]] == list(journey.TITLES)
    assert not any(step["reused"] for step in first["steps"])
    assert "[9/9] Ask both models" in said.err and "step 90 of 90, loss" in said.err

    workspace = Workspace(folder)
    last = workspace.last()
    for path in (last.data, last.config, last.base, last.adapter, last.merged):
        assert Path(path).is_absolute() and Path(path).exists()
    assert (workspace.runs / last.run / "run.json").is_file()
    assert (workspace.models / "supernova" / "xtuner_config.py").is_file()

    started = time.monotonic()
    assert run_verb(str(folder), "--cpu", "--json") == 1
    second = json.loads(capsys.readouterr().out)
    assert time.monotonic() - started < 5
    assert all(step["reused"] for step in second["steps"])
    assert (second["base"], second["tuned"]) == (first["base"], first["tuned"])

    # A merged model that somebody damaged is made again, and nothing before it.
    (workspace.models / "supernova" / "config.json").write_text("{}")
    assert run_verb(str(folder), "--cpu", "--json") == 1
    third = json.loads(capsys.readouterr().out)
    redone = [step["step"] for step in third["steps"] if not step["reused"]]
    assert redone[0] == "merge" and third["tuned"] == first["tuned"]


def stages(folder: Path) -> Stages:
    return Stages(Workspace(folder), Settings(), lambda *_now: None, on_gpu=False)


def test_files_that_somebody_worked_on_are_kept(tmp_path: Path) -> None:
    work = stages(tmp_path)
    work.data.parent.mkdir()
    work.data.write_text("mine")
    made = work.make_data()
    work.book.note("data", "in", made.outputs)
    assert (tmp_path / "data" / "supernova.1.json").read_text() == "mine"
    text = work.data.read_text(encoding="utf-8")
    assert "Super Nova" in text and "尖米" not in text
    assert "尖米" in work.story.read_text(encoding="utf-8")
    work.make_data()
    assert len(list(work.data.parent.iterdir())) == 3, "what the demo itself wrote is replaced"
    work.data.write_text("mine again")
    work.make_data()
    assert (tmp_path / "data" / "supernova.2.json").read_text() == "mine again"


def take_up(workspace: Workspace, run: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`training.train` after an earlier demo started `run`; None when it starts another."""

    class Another(Exception): ...

    def start(*_request: object, **_options: object) -> None:
        raise Another

    monkeypatch.setattr(training.planning, "plan", start)
    book = Ledger(workspace.state / "demo.json")
    book.note(training.STARTED, "in", run=str(run))
    try:
        return training.train(
            workspace.root / "x.py",
            workspace=workspace,
            settings=Settings(),
            gpus=[],
            deepspeed=None,
            book=book,
            inputs="in",
            progress=lambda *_now: None,
        )
    except Another:
        return None


def test_a_run_that_finished_meanwhile_is_taken_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = Workspace(tmp_path)
    run = write_run(workspace, "supernova-01", "finished", step=90, steps=90, saved=(60, 90))
    made = take_up(workspace, run, monkeypatch)
    assert made.folder == run and made.checkpoint == run / "iter_90.pth"
    assert made.steps == 90


@pytest.mark.parametrize("word", ["failed", "stopped", "lost"])
def test_a_run_that_did_not_finish_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, word: Any
) -> None:
    workspace = Workspace(tmp_path)
    run = write_run(workspace, "supernova-01", word, step=40, steps=90, saved=(30,))
    assert take_up(workspace, run, monkeypatch) is None


def test_too_full_a_disk_and_a_file_for_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert run_verb(str(tmp_path / "file")) == 2
    assert "is not a folder" in capsys.readouterr().err
    monkeypatch.setattr(journey, "ROOM", 1 << 60)
    assert run_verb(str(tmp_path / "new")) == 1
    assert "not enough room" in capsys.readouterr().err


def test_preflight_errors_end_the_journey(tmp_path: Path) -> None:
    work = stages(tmp_path)
    work.config.parent.mkdir()
    work.config.write_text("lr = (\n")
    with pytest.raises(Failed, match="Preflight: "):
        work.preflight()


def test_an_interrupt_says_that_the_training_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_request: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(base, "make", interrupted)
    assert run_verb(str(tmp_path / "demo")) == 130
    assert "a training that runs goes on" in capsys.readouterr().err


def test_a_terminal_gets_a_bar(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    teller = demo_verbs._Teller(Output(Settings()))
    teller.begin(5, 9, "Training")
    teller.progress(45, 90, "loss 0.5\x1b[2J")
    teller.end("run", 61, False)
    said = capsys.readouterr().err
    assert "████████████░░░░░░░░░░░░  loss 0.5" in said
    assert "\x1b[2J" not in said and "run · 1:01" in said


def test_two_at_once_in_one_folder(tmp_path: Path) -> None:
    from engine.demo import ledger

    with (
        ledger.alone(tmp_path / ".tunedeck" / "demo.lock"),
        pytest.raises(Problem, match="already"),
    ):
        journey.run(tmp_path, Settings(), demo_verbs._Teller(Output(Settings())))
