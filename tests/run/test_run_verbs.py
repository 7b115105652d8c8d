"""The verbs of a run, called as the command line calls them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest

from engine import files
from engine.cli import run_lines
from engine.cli.main import main
from engine.errors import Problem
from engine.run import control, history
from engine.run.folder import RunFolder
from engine.run.state import LIVING, ORDER, Order, Wait, Word
from engine.workspace import Workspace
from tests.support import tiny_config
from tests.support.run_files import write_run

RUNS = Path(__file__).parent.parent / "fixtures" / "runs"


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a work dir that plain XTuner made."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(RUNS / "lora", tmp_path / "work_dirs" / "lora")
    return tmp_path


def answer(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0) -> Any:
    assert main([*arguments, "--json"]) == status
    return json.loads(capsys.readouterr().out)


def test_runs_has_the_contracts_keys(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    [run] = answer(capsys, "runs")
    assert {
        "run", "dir", "state", "step", "steps", "loss", "started", "ended", "exit", "reason",
        "checkpoints",
    } <= run.keys()  # fmt: skip
    assert (run["run"], run["state"], run["step"]) == ("lora", "finished", 72)
    assert answer(capsys, "runs", "lora") == [run]


def test_one_run_in_words(
    trained_run: RunFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(trained_run.path.parent.parent)
    assert main(["runs", "assistant-01"]) == 0
    said = capsys.readouterr().out
    assert "✓  assistant-01  finished  12/12  loss" in said and "iter_12.pth" in said


def test_a_broken_run_does_not_hide_the_others(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = workspace / "runs" / "broken"
    broken.mkdir(parents=True)
    (broken / "state.json").write_text("{")
    assert main(["runs", "--json"]) == 0
    told = capsys.readouterr()
    assert [run["run"] for run in json.loads(told.out)] == ["lora"]
    assert "broken" in told.err


@pytest.mark.parametrize("encoding", ["ascii", "gbk"])
def test_a_terminal_that_lacks_a_character_is_told_all_the_same(
    workspace: Path, encoding: str
) -> None:
    history.note(RunFolder(write_run(Workspace(workspace), "one", "failed")), "好 é")

    def told(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", "from engine.cli.main import main; exit(main())", *words],
            env=os.environ | {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"},
            capture_output=True,
        )
        assert done.returncode == 0 and not done.stderr, done.stderr
        return done.stdout.decode(encoding)

    assert "?  lora  finished  72/72" in told("runs"), "the mark is in neither"
    assert "好 é" in [one["note"] for one in json.loads(told("runs", "--json"))]


def as_somebody(*command: str) -> subprocess.CompletedProcess[str]:
    """Run a verb without root's right to read everything."""
    plain = [sys.executable, "-c", "from engine.cli.main import main; exit(main())", *command]
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("root may read everything, and no setpriv is here to take that away")
        plain = ["setpriv", "--inh-caps=-all", "--bounding-set=-all", *plain]
    return subprocess.run(plain, capture_output=True, text=True)


def test_another_users_runs_hide_none_of_ones_own(workspace: Path) -> None:
    """Each user's runs are private: two may work in one folder."""
    theirs = workspace / "runs" / "theirs"
    theirs.mkdir(parents=True)
    (theirs / "state.json").write_text("{}")
    theirs.chmod(0)
    try:
        listed = as_somebody("runs", "--json")
        assert [run["run"] for run in json.loads(listed.stdout)] == ["lora"], listed.stderr
        assert "Left out" in listed.stderr and "theirs" in listed.stderr
        assert as_somebody("queue", "--json").stdout == "[]\n"
        asked = as_somebody("stop", "theirs")
        assert asked.returncode == 2 and "another user's" in asked.stderr
        theirs.chmod(0o755)
        (theirs / "state.json").chmod(0)
        asked = as_somebody("runs", "theirs")
        assert asked.returncode == 2 and "another user's" in asked.stderr
    finally:
        theirs.chmod(0o700)


@pytest.mark.parametrize("mode", [0o700, 0o777], ids=["private", "open to all"])
def test_another_user_was_here_first(workspace: Path, mode: int) -> None:
    """What Tunedeck keeps of a workspace is private as well: the second has it beside that."""
    if os.geteuid() != 0:
        pytest.skip("only root can give a folder to another user")
    write_run(Workspace(workspace), "one", "finished")
    for first in (workspace / ".tunedeck", workspace / "runs" / ".trash"):
        first.mkdir()
        lock = first / "queue.lock"
        lock.touch(0o600)
        for path in (first, lock):
            os.chown(path, 65534, 65534)
        first.chmod(mode)
    renamed = as_somebody("rename", "one", "two")
    assert renamed.returncode == 0, renamed.stderr
    assert (workspace / ".tunedeck-0").stat().st_mode & 0o777 == 0o700
    listed = as_somebody("runs", "--json")
    assert len(json.loads(listed.stdout)) == 2 and listed.stderr == ""
    for words in (("two",), ("--restore", "two"), ("two",), ("--empty",)):
        done = as_somebody("trash", *words)
        assert done.returncode == 0, done.stderr
    assert not any((workspace / "runs" / ".trash-0").iterdir())


def test_a_link_that_another_user_made_leads_nowhere(workspace: Path) -> None:
    """Else they would say where the second one's files are written."""
    if os.geteuid() != 0:
        pytest.skip("only root can give a link to another user")
    (mine := workspace / "mine").mkdir()
    state = workspace / ".tunedeck"
    state.symlink_to(mine)
    assert Workspace(workspace).state == state, "one's own link is followed"
    os.chown(state, 65534, 65534, follow_symlinks=False)
    assert Workspace(workspace).state == workspace / ".tunedeck-0"


def test_a_disk_that_gives_all_to_one_user_is_no_other_users(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As NFS does that squashes users: what one makes oneself is somebody else's there."""
    (workspace / ".tunedeck").mkdir(0o700)
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    assert Workspace(workspace).state == workspace / ".tunedeck"
    assert sorted(one.name for one in workspace.iterdir()) == [".tunedeck", "work_dirs"]


def test_the_first_users_runs_and_configs_are_private_as_a_whole(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever trains first in a folder makes ``runs/``: the second could not even ask."""
    if os.geteuid() != 0:
        pytest.skip("only root can give a folder to another user")
    write_run(Workspace(workspace), "theirs", "finished")
    (workspace / "configs").mkdir()
    for part in ("configs", "runs"):
        (workspace / part).chmod(0o700)
        os.chown(workspace / part, 65534, 65534)
    for verb in ("runs", "queue"):
        listed = as_somebody(verb, "--json")
        assert listed.returncode == 0, listed.stderr
        assert "theirs" not in listed.stdout
    copied = as_somebody("config", "copy", "llama3_8b_instruct_qlora_custom_sft_e3", "--json")
    assert copied.returncode == 0, copied.stderr
    own = workspace / "configs-0"
    assert Path(json.loads(copied.stdout)["path"]).parent == own
    found = json.loads(as_somebody("config", "list", "custom", "--json").stdout)
    assert str(next(own.glob("*.py"))) in [one["path"] for one in found]
    (workspace / "runs").chmod(0o755)
    assert "theirs" in as_somebody("runs", "--json").stdout, "what may be read is seen"
    (workspace / "a.py").write_text("lr = 1e-4\n")
    monkeypatch.setenv("TUNEDECK_INTERPRETER", "/bin/true")
    as_somebody("train", "a.py", "--gpus", "cpu", "--no-preflight", "--attach")
    listed = as_somebody("runs", "--json")
    assert {run["run"] for run in json.loads(listed.stdout)} == {"a-01", "theirs", "lora"}
    assert (workspace / "runs-0" / "a-01").is_dir(), "and nothing is put where it may not be"
    assert as_somebody("runs", "theirs").returncode == 0
    assert as_somebody("trash", "a-01").returncode == 0
    (workspace / "work_dirs").chmod(0)
    for verb in ("runs", "queue", "trash --empty"):
        asked = as_somebody(*verb.split())
        assert asked.returncode == 0, asked.stderr
    assert "Left out" in as_somebody("runs").stderr
    (workspace / "work_dirs").chmod(0o755)


def test_what_somebody_else_put_in_place_of_ones_own_is_not_used(workspace: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a folder to another user")
    for name, mode in ((".tunedeck", 0o700), (".tunedeck-0", 0o777)):
        (workspace / name).mkdir()
        (workspace / name).chmod(mode)
        os.chown(workspace / name, 65534, 65534)
    asked = as_somebody("runs")
    assert asked.returncode == 2 and len(asked.stderr.splitlines()) == 3
    assert "is another user's" in asked.stderr
    (workspace / ".tunedeck-0").rmdir()
    (workspace / ".tunedeck-0").symlink_to(workspace)
    os.chown(workspace / ".tunedeck-0", 65534, 65534, follow_symlinks=False)
    assert as_somebody("runs").returncode == 2


def test_the_lines_of_the_other_nodes_are_told_where_there_are_others() -> None:
    """`--launcher nodes` may be for one, whose title had nothing below it."""
    assert list(run_lines.others([])) == list(run_lines.others(["here"])) == []
    assert list(run_lines.others(["here", "there"])) == ["Start this on the other nodes:", "there"]


def test_logs_of_a_plain_work_dir(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["logs", "lora", "-f"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any("Iter(train) [72/72]" in line for line in lines)


def test_logs_errors_only(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = next(workspace.glob("work_dirs/lora/*/*.log"))
    shutil.copy(RUNS.parent / "logs" / "oom-deepspeed-torchrun.log", log)
    assert main(["logs", "lora", "--errors"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "OutOfMemoryError: CUDA out of memory" in lines[0]
    assert lines[1] == "Traceback (most recent call last):" and "ChildFailedError" in lines[-1]
    assert not any("Iter(train)" in line for line in lines)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["train", "nowhere.py"], "no such file"),
        (["train", "work_dirs"], "It is a folder"),
        (["runs", "nobody"], "no run nobody"),
        (["logs", "nobody"], "no run nobody"),
        (["stop", "lora"], "not started by Tunedeck"),
        (["kill", "lora"], "not started by Tunedeck"),
        (["resume", "lora"], "not started by Tunedeck"),
        (["resume", "lora", "--set", "lr"], "not KEY=VALUE"),
    ],
)
def test_bad_input_is_one_message_and_status_2(
    workspace: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    (workspace / "work_dirs" / "lora" / "lora.py").write_text("lr = 1e-4\n")
    assert main(arguments) == 2
    told = capsys.readouterr()
    assert says in told.err and not told.out and "Traceback" not in told.err
    assert len(told.err.splitlines()) <= 3
    assert not (workspace / "runs").exists()


@pytest.mark.parametrize("option", [["--launcher", "pbs"], ["--nodes", "two"], ["--gpus", "one"]])
def test_what_it_cannot_do_is_refused(workspace: Path, option: list[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["train", "x.py", *option])
    assert end.value.code == 2


@pytest.mark.trains
def test_a_run_that_fails_says_why(tmp_path: Path, tiny_model: Path) -> None:
    """The warm-up trap, for real: XTuner loads the model, then gives up."""
    config = tiny_config.write(tmp_path, tiny_model)
    config.write_text(config.read_text().replace("warmup_ratio = 0.25", "warmup_ratio = 0.03"))

    def tunedeck(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", "from engine.cli.main import main; exit(main())"]
        return subprocess.run(
            [*command, *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=300
        )

    checked = tunedeck("train", "assistant.py", "--gpus", "cpu")
    assert checked.returncode == 1 and "warmup_ratio" in checked.stderr
    assert not (tmp_path / "runs").exists(), "preflight stands before anything is written"

    ran = tunedeck("train", "assistant.py", "--gpus", "cpu", "--no-preflight", "--attach")
    assert ran.returncode == 1
    assert "ValueError: end should be larger than begin" in ran.stdout
    assert "The warm-up rounds to zero steps" in ran.stdout
    shown = tunedeck("runs", "assistant-01", "--json")
    [run] = json.loads(shown.stdout)
    assert shown.returncode == 1 and (run["state"], run["exit"]) == ("failed", 1)
    errors = tunedeck("logs", "assistant-01", "--errors").stdout
    assert errors.startswith("Traceback") and "Iter(train)" not in errors


@pytest.mark.parametrize("word", sorted({*get_args(Word)} - LIVING))
@pytest.mark.parametrize("saved", [(), (3,)])
@pytest.mark.parametrize("ours", [True, False])
def test_what_is_possible_with_a_run_is_what_is_not_refused(
    tmp_path: Path, word: Word, saved: tuple[int, ...], ours: bool
) -> None:
    path = write_run(Workspace(tmp_path), "one", word, step=5, saved=saved)
    if not ours:
        for file in ("run.json", "state.json"):
            (path / file).unlink()
    run = RunFolder(path)

    def refused(deed: Callable[[RunFolder], object]) -> bool:
        try:
            deed(run)
        except Problem:
            return True
        return False

    deeds = {"stop": control.stop, "kill": control.kill, "resume": control.checkpoint_for}
    done = {name for name, deed in deeds.items() if not refused(deed)}
    assert control.possible(run.summary(), ours) == done


def test_what_is_possible_with_a_run_in_progress(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    told = {}
    for word in sorted(LIVING):
        run = write_run(workspace, word, word, step=5, saved=(3,))
        if word == "queued":
            wait = Wait(after="other")
            files.write_json(run / ORDER, Order([], {}, [], str(tmp_path), [], wait=wait))
        told[word] = control.possible(RunFolder(run).summary(), True)
    assert told == {
        "queued": {"stop", "kill", "move"},
        "starting": {"stop", "kill"},
        "training": {"stop", "kill"},
        "stopping": {"kill"},
    }
