"""What the command line tells whatever it is given: words, an exit status, no traceback."""

from __future__ import annotations

import errno
import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from engine import files, settings, unforeseen
from engine.cli.main import main
from engine.cli.output import Output
from engine.errors import Failed, Problem
from engine.paths import expanded
from engine.workspace import Workspace
from tests.support import mounts
from tests.support.run_files import write_run
from tui import opening

LONG = "a" * 300
"""No file system takes such a name."""
VERBS = [
    ("data", "show", "{}"), ("data", "check", "{}"), ("config", "show", "{}"), ("train", "{}"),
    ("data", "replace", "{}", "--from", "a", "--to", "b", "-o", "{}"), ("config", "copy", "{}"),
    ("config", "get", "{}", "lr"), ("preflight", "{}"), ("runs", "{}"), ("logs", "{}"),
    ("stop", "{}"), ("kill", "{}"), ("resume", "{}"), ("note", "{}"), ("trash", "{}"),
    ("convert", "{}"), ("merge", "{}", "{}", "{}"), ("verify", "{}", "{}", "{}"),
    ("handover", "{}"), ("chat", "{}", "--prompt", "hi"),
]  # fmt: skip


@pytest.mark.parametrize("name", [LONG, "~nobody-has-this-name/x", "\udcff"])
@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: " ".join(verb))
def test_a_path_that_cannot_be_asked_for_is_told(
    verb: tuple[str, ...], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert main([word.format(name) for word in verb] + ["--json"]) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and 1 <= len(printed.err.splitlines()) <= 3
    assert "inside Tunedeck" not in printed.err
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("verb", [("runs",), ("config", "list"), ("doctor",)])
def test_in_a_folder_that_is_gone(
    verb: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert main([*verb]) == 2
    assert "current folder does not exist any more" in capsys.readouterr().err


def test_a_name_that_is_not_utf8(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As an archive from a machine with another encoding leaves them (here: GBK)."""
    made = tmp_path / "made"
    made.mkdir()
    write_run(Workspace(made), "one", "finished")
    monkeypatch.chdir(made.rename(tmp_path / os.fsdecode("数据".encode("gbk"))))
    rows = Path(os.fsdecode("问答.json".encode("gbk")))
    rows.write_text('[{"instruction": "a", "input": "", "output": "b"}]')
    assert main(["data", "show", str(rows), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["files"] == [str(rows)], "none of its bytes is lost"
    Output(json=True).result({"dir": str(rows), "loss": math.nan, "best": [-math.inf]}, list)
    written = capsys.readouterr().out
    assert "NaN" not in written and "Infinity" not in written, "which are no JSON"
    assert json.loads(written) == {"dir": str(rows), "loss": None, "best": [None]}
    assert main(["trash", "one"]) == 2 and Path("runs/one").is_dir()
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "A name is not UTF-8" and "convmv" in said[2]


def test_a_link_to_itself_and_a_pipe_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody writes into the pipe: who reads it waits for ever."""
    monkeypatch.chdir(tmp_path)
    Path("loop").symlink_to("loop")
    os.mkfifo("pipe.pth")
    for verb in (("runs", "loop"), ("convert", "pipe.pth"), ("chat", "pipe.pth", "--prompt", "a")):
        assert main([*verb]) == 2
        said = capsys.readouterr().err.splitlines()
        assert len(said) == 3 and "inside Tunedeck" not in said[0]


@pytest.mark.parametrize("folder", [LONG, "none", "a\nb"])
def test_the_app_on_a_folder_that_cannot_be_asked_for(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert opening.run([folder]) == 2
    assert 2 <= len(capsys.readouterr().err.splitlines()) <= 3


@pytest.mark.parametrize("words", [["preflihgt", "my.py"], ["doctr"], ["chta", "models/a"]])
def test_a_verb_that_is_misspelt_is_not_taken_for_a_folder(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert opening.run(words) == 2
    said = capsys.readouterr().err.splitlines()
    assert words[0] in said[0] and "Did you mean" in said[1]


def test_a_name_with_a_line_break_is_told_on_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["runs", "one\ntwo"]) == 2
    assert capsys.readouterr().err.splitlines()[0] == "There is no run one⏎two"


@pytest.mark.parametrize(
    ("number", "kind", "todo"),
    [
        (errno.ENAMETOOLONG, Problem, "shorter"),
        (errno.EACCES, Problem, "permissions"),
        (errno.ENOSPC, Failed, "room"),
        (errno.EIO, Failed, "damaged"),
    ],
)
def test_what_the_system_refuses_is_told_as_it_says_it(
    number: int, kind: type[Problem], todo: str
) -> None:
    said = unforeseen.as_problem(OSError(number, os.strerror(number), "/x/y"), "")
    assert type(said) is kind and said.what == "Cannot use /x/y"
    assert said.why == os.strerror(number) and todo in said.todo


def test_what_a_network_or_a_library_refuses_is_no_file() -> None:
    assert unforeseen.refused(ConnectionRefusedError(errno.ECONNREFUSED, "refused")) is None
    assert unforeseen.refused(OSError("tiny does not appear to have a file named x")) is None
    assert unforeseen.refused(OSError(errno.ENOSPC, "No room")) is not None


def test_a_fault_of_ours_is_told_as_one() -> None:
    said = unforeseen.as_problem(KeyError("shape"), "--debug shows the details")
    assert isinstance(said, Failed) and "inside Tunedeck" in said.what
    assert said.why == "KeyError: 'shape'" and said.todo.startswith("--debug shows the details; ")
    problem = Problem("as it is")
    assert unforeseen.as_problem(problem, "") is problem


def nobody_at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container: no HOME, and a user id that the system does not know."""
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(os, "getuid", lambda: 2**30)


def test_without_a_home_it_works_with_the_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    nobody_at_home(monkeypatch)
    monkeypatch.chdir(tmp_path)
    for name in ("XDG_CONFIG_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name)
    assert main(["runs", "--json"]) == 0 and capsys.readouterr().out == "[]\n"
    assert expanded("~/x") == Path("~/x")
    with pytest.raises(Problem, match="HOME"):
        settings.save(theme="nord")
    assert not any(tmp_path.iterdir()), "no folder named ~"


def test_settings_that_cannot_be_kept_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    settings.save(theme="nord")
    file = tmp_path / "tunedeck" / "settings.toml"
    file.write_text("theme =", encoding="utf-8")
    with pytest.raises(Problem, match="Cannot read the settings"):
        settings.save(theme="dracula")
    assert file.read_text(encoding="utf-8") == "theme =", "what the user is writing stays"

    def full() -> None:
        mounts.small(tmp_path / "full", 4096)
        (tmp_path / "full" / "tunedeck").mkdir()
        with pytest.raises(OSError):
            (tmp_path / "full" / "rest").write_bytes(bytes(9000))
        monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "full"))
        with pytest.raises(Failed, match="Cannot keep the settings"):
            settings.save(theme="dracula")

    mounts.apart(full)


def test_what_cannot_be_written_is_told_by_the_name_that_was_given(tmp_path: Path) -> None:
    def full() -> None:
        place = tmp_path / "full"
        mounts.small(place, 8192)
        for make in (_write_file, _write_folder):
            with pytest.raises(OSError) as caught:
                make(place / "made")
            said = unforeseen.as_problem(caught.value, "")
            assert said.what == f"Cannot use {place / 'made'}" and "room" in said.todo
        assert not any(place.iterdir()), "what was begun is gone"
        mounts.read_only(place)
        for make in (_write_file, _write_folder):
            with pytest.raises(OSError) as caught:
                make(place / "made")
            said = unforeseen.as_problem(caught.value, "")
            assert said.what == f"Cannot use {place / 'made'}" and "damaged" in said.todo

    mounts.apart(full)


def _write_file(path: Path) -> None:
    with files.replacing(path) as file:
        file.write(bytes(20000))


def _write_folder(path: Path) -> None:
    with files.replacing_folder(path) as folder:
        (folder / "weights").write_bytes(bytes(20000))


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_stream_that_is_closed_leads_nowhere(tmp_path: Path, closed: str) -> None:
    """As some who start programs leave them."""
    verb = f"{sys.executable} -m tui runs --json {closed}"
    done = subprocess.run(["sh", "-c", verb], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == ("" if ">&- " in f"{closed} " and closed != "2>&-" else "[]\n")
    app = f"{sys.executable} -m tui . {closed}"
    assert subprocess.run(["sh", "-c", app], cwd=tmp_path, capture_output=True).returncode == 2


_WRITES = """\
import signal, sys, types
from pathlib import Path
from engine import files
from engine.cli import main

def work(*_asked):
    with files.replacing(Path("out.json")) as file:
        file.write(b"half")
        file.flush()
        print("writes", flush=True)
        while True:
            signal.pause()

asked = types.SimpleNamespace(json=False, run=work)
main.parser = lambda _groups: types.SimpleNamespace(parse_args=lambda _words: asked)
sys.exit(main.main([]))
"""


@pytest.mark.parametrize(
    ("numbers", "ignored", "status"),
    [
        ([signal.SIGTERM], False, 128 + signal.SIGTERM),
        ([signal.SIGHUP], False, 128 + signal.SIGHUP),
        ([signal.SIGHUP, signal.SIGTERM], True, 128 + signal.SIGTERM),  # as nohup starts it
        ([signal.SIGINT], False, 130),
    ],
)
def test_a_signal_leaves_nothing_half_written(
    tmp_path: Path, numbers: list[signal.Signals], ignored: bool, status: int
) -> None:
    command = [sys.executable, "-c", _WRITES]
    command = ["env", "--ignore-signal=HUP", *command] if ignored else command
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"writes\n"
        assert any(tmp_path.iterdir())
        for number in numbers:
            process.send_signal(number)
        assert process.wait(30) == status
    assert not any(tmp_path.iterdir())
