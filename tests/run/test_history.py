"""Names, notes, the trash and the order of runs, our own and those of plain XTuner."""

from __future__ import annotations

import os
import shutil
import stat
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest

from engine import files
from engine.errors import Failed, Problem
from engine.run import history, launch, processes, queue
from engine.run.folder import RunFolder, RunSummary
from engine.run.listing import list_runs, open_run
from engine.run.state import Order, RunRecord, RunState, Wait
from engine.workspace import Workspace
from tests.support import mounts

RUNS = Path(__file__).parent.parent / "fixtures" / "runs"


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """A finished run ``one``, one on another disk (``far``), a plain work dir (``lora``)."""
    (tmp_path / "work").mkdir()
    workspace = Workspace(tmp_path / "work")
    made(workspace, workspace.runs / "one")
    made(workspace, tmp_path / "disk" / "far-away", name="far")
    (workspace.runs / "far").symlink_to(tmp_path / "disk" / "far-away")
    shutil.copytree(RUNS / "lora", workspace.root / "work_dirs" / "lora")
    return workspace


def made(workspace: Workspace, folder: Path, name: str = "", word: str = "finished") -> RunFolder:
    """A run's folder as it lies there afterwards."""
    folder.mkdir(parents=True)
    name = name or folder.name
    record = RunRecord(
        run=name, created=time.time(), user="me", host="here", source="a.py", config="config/a.py",
        config_hash="", workspace=str(workspace.root), python="python", gpus=[0], processes=1,
        deepspeed="", command=["x"], environment={}, versions={},
    )  # fmt: skip
    files.write_json(folder / "run.json", record)
    state = msgspec.convert({"state": word, "changed": time.time()}, RunState)
    files.write_json(folder / "state.json", state)
    (folder / "iter_4.pth").write_bytes(b"0" * 5000)
    (folder / "last_checkpoint").write_text(str(folder / "iter_4.pth"))
    return RunFolder(folder)


def open_one(workspace: Workspace, name: str) -> RunFolder:
    run = open_run(workspace, name)
    assert run.name == name
    return run


def names(workspace: Workspace) -> list[str]:
    return sorted(run.name for run in list_runs(workspace))


# Names


@pytest.mark.parametrize("name", ["one", "far", "lora"])
def test_a_run_is_renamed_where_it_lies(workspace: Workspace, name: str) -> None:
    before = open_one(workspace, name)
    after = history.rename(workspace, before, "new-name")
    assert open_one(workspace, "new-name").path == after.path
    assert "new-name" in names(workspace) and name not in names(workspace)
    if name == "far":
        assert after.path == before.path, "what lies elsewhere stays there"
        assert (workspace.runs / "new-name").is_symlink()
    else:
        assert after.path == before.path.with_name("new-name") and not before.path.exists()
    if name != "lora":
        assert (after.path / "last_checkpoint").read_text() == str(after.path / "iter_4.pth")


def test_names_that_cannot_be(workspace: Workspace) -> None:
    run = open_one(workspace, "one")
    for name, says in (("../x", "cannot be a run's name"), ("far", "taken")):
        with pytest.raises(Problem, match=says):
            history.rename(workspace, run, name)
    assert names(workspace) == ["far", "lora", "one"]


def test_whoever_waits_for_it_is_told_its_new_place(workspace: Workspace) -> None:
    one, waiting = (
        open_one(workspace, "one"),
        made(workspace, workspace.runs / "two", word="queued"),
    )
    order = Order([], {}, [], "", [0], wait=Wait(after=str(one.path), place=5.0))
    files.write_json(waiting.path / "order.json", order)
    after = history.rename(workspace, one, "eins")
    [found] = queue.waiting(workspace)
    wait = found.wait()
    assert wait is not None and wait.after == str(after.path) and wait.place == 5.0


@pytest.mark.parametrize("word", ["training", "queued", "stopping"])
def test_a_run_in_use_stays_as_it_is(workspace: Workspace, word: str) -> None:
    run = open_one(workspace, "one")
    me = processes.Identity.of(os.getpid())
    state = msgspec.convert({"state": word, "changed": time.time()}, RunState)
    files.write_json(run.path / "state.json", msgspec.structs.replace(state, supervisor=me))
    for change in (
        lambda: history.rename(workspace, run, "other"),
        lambda: history.trash(workspace, run),
    ):
        with pytest.raises(Problem, match="in use") as caught:
            change()
        assert "Stop it first" in caught.value.todo
    history.note(run, "a note is no matter")
    assert names(workspace) == ["far", "lora", "one"]


def test_a_run_just_being_started_stays(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "LEAVE", 0.1)
    run = open_one(workspace, "one")
    with launch.locked(run.path, "one"), pytest.raises(Problem, match="running already"):
        history.trash(workspace, run)
    assert run.path.is_dir()


def test_a_plain_work_dir_that_still_writes_stays(workspace: Workspace) -> None:
    run = open_one(workspace, "lora")
    [scalars] = run.path.glob("*/vis_data/scalars.json")
    lines = scalars.read_text().splitlines(keepends=True)
    scalars.write_text("".join(lines[: len(lines) // 2]))
    [log] = run.path.glob("*/*.log")
    log.touch()
    with pytest.raises(Problem, match="in use"):
        history.trash(workspace, RunFolder(run.path))


# Notes


@pytest.mark.parametrize("name", ["one", "lora"])
def test_notes_lie_in_the_folder(workspace: Workspace, name: str) -> None:
    run = open_one(workspace, name)
    history.note(run, " 学习率太高 \n")
    history.tag(run, add=["客服", "v2", "v2"])
    history.archive(run)
    summary = RunFolder(run.path).summary()
    assert (summary.note, summary.tags, summary.archived) == ("学习率太高", ["客服", "v2"], True)
    assert stat.S_IMODE((run.path / "notes.json").stat().st_mode) == 0o600
    history.tag(run, add=["v3"], remove=["v2", "unknown"])
    history.archive(run, on=False)
    summary = RunFolder(run.path).summary()
    assert (summary.note, summary.tags, summary.archived) == ("学习率太高", ["客服", "v3"], False)
    assert summary.state == "finished"


def test_notes_that_are_broken_hide_nothing(workspace: Workspace) -> None:
    run = open_one(workspace, "one")
    (run.path / "notes.json").write_text('{"note": "ha')
    assert run.summary().note == ""
    history.note(run, "whole again")
    assert run.summary().note == "whole again"


def test_notes_that_cannot_be(workspace: Workspace) -> None:
    run = open_one(workspace, "one")
    for tag in ("", "two words", "a,b", "#x"):
        with pytest.raises(Problem, match="cannot be a tag"):
            history.tag(run, add=[tag])
    shutil.rmtree(run.path)
    run.path.write_text("no folder")
    with pytest.raises(Failed, match="notes of the run"):
        history.note(run, "x")


# The trash


@pytest.mark.parametrize("name", ["one", "far", "lora"])
def test_thrown_away_and_put_back(workspace: Workspace, name: str) -> None:
    run = open_one(workspace, name)
    held = {path.relative_to(run.path): path.read_bytes() for path in run.path.rglob("*.*")
            if path.is_file()}  # fmt: skip
    size = history.size(run)
    there = history.trash(workspace, run)
    assert not run.path.exists() and there.is_dir() and there.parent.parent == run.path.parent
    assert name not in names(workspace)
    [thrown] = history.trashed(workspace)
    assert (thrown.name, thrown.was) == (run.path.name, str(run.path))
    assert size <= thrown.bytes < size + 1000 and size > 5000
    with pytest.raises(Problem, match="no run"):
        open_run(workspace, name)

    back = history.restore(workspace, thrown.name)
    assert back.path == run.path and open_one(workspace, name).path == run.path
    assert not history.trashed(workspace)
    assert {path: (run.path / path).read_bytes() for path in held} == held
    assert not (run.path / "trash.json").exists()


def test_a_place_that_was_taken_meanwhile(workspace: Workspace) -> None:
    for _time in range(2):
        history.trash(workspace, open_one(workspace, "one"))
        made(workspace, workspace.runs / "one")
    assert {one.name for one in history.trashed(workspace)} == {"one", "one.2"}
    with pytest.raises(Problem, match="one is taken"):
        history.restore(workspace, "one.2")
    history.rename(workspace, open_one(workspace, "one"), "other")
    history.restore(workspace, "one.2")
    assert names(workspace) == ["far", "lora", "one", "other"]
    with pytest.raises(Problem, match=r"no run one\.2 in the trash"):
        history.restore(workspace, "one.2")


def test_the_trash_is_emptied_and_nothing_else(workspace: Workspace, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "rows.json").write_text("[]")
    one, far = open_one(workspace, "one"), open_one(workspace, "far")
    (one.path / "data").symlink_to(data)
    history.trash(workspace, one)
    history.trash(workspace, far)
    strange = workspace.runs / ".trash" / "strange"
    strange.mkdir()
    (workspace.runs / ".trash" / "link").symlink_to(data)

    held = {thrown.name: thrown.bytes for thrown in history.trashed(workspace)}
    assert set(held) == {"one", "far-away"}
    assert history.empty(workspace, "far-away") == held["far-away"]
    assert not (tmp_path / "disk" / ".trash" / "far-away").exists()
    assert history.empty(workspace) == held["one"]
    assert not history.trashed(workspace) and history.empty(workspace) == 0
    assert (data / "rows.json").exists() and strange.is_dir(), "not put there by us"
    assert names(workspace) == ["lora"]


def test_what_cannot_be_moved_stays_whole(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = open_one(workspace, "one")

    def busy(self: Path, target: Path) -> Path:
        raise OSError(16, "Device or resource busy")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", busy)
        with pytest.raises(Failed, match="Cannot throw away the run one") as caught:
            history.trash(workspace, run)
    assert "busy" in caught.value.why
    assert names(workspace) == ["far", "lora", "one"] and not (run.path / "trash.json").exists()


def full_disk(tmp_path: Path, work: Callable[[Workspace, Path], None]) -> None:
    """Do `work` in a workspace on a disk without room, which the file given takes."""

    def apart() -> None:
        mounts.small(tmp_path / "full", 64 << 10)
        workspace = Workspace(tmp_path / "full")
        one = made(workspace, workspace.runs / "one")
        waiting = made(workspace, workspace.runs / "two", word="queued")
        order = Order([], {}, [], "", [0], wait=Wait(after=str(one.path), place=5.0))
        files.write_json(waiting.path / "order.json", order)
        rest = workspace.root / "rest"
        fill(rest)
        work(workspace, rest)

    mounts.apart(apart)


def fill(rest: Path) -> None:
    """Let `rest` take all the room that there is."""
    with rest.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))


@pytest.mark.parametrize("spared", [(), ("order.json",)])
def test_a_rename_on_a_full_disk_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spared: tuple[str, ...]
) -> None:
    """Whether the first file finds no room, or the one after it."""

    def rename(workspace: Workspace, rest: Path) -> None:
        write = files.write_json

        def stingy(path: Path, value: object) -> None:
            if path.name in spared:
                rest.unlink()
            write(path, value)
            fill(rest)

        monkeypatch.setattr(files, "write_json", stingy)
        run = open_one(workspace, "one")
        with pytest.raises(Failed, match="No space left"):
            history.rename(workspace, run, "eins")
        assert sorted(entry.name for entry in workspace.runs.iterdir()) == ["one", "two"]
        note = open_one(workspace, "one").path / "last_checkpoint"
        assert note.read_text() == str(run.path / "iter_4.pth")
        [waiting] = queue.waiting(workspace)
        wait = waiting.wait()
        assert wait is not None and wait.after == str(run.path)

    full_disk(tmp_path, rename)


def test_on_a_full_disk_runs_can_be_thrown_away_to_make_room(tmp_path: Path) -> None:
    def make_room(workspace: Workspace, _rest: Path) -> None:
        run = open_one(workspace, "one")
        history.trash(workspace, run)
        [thrown] = history.trashed(workspace)
        assert (thrown.name, thrown.was) == ("one", str(run.path))
        assert history.restore(workspace, "one").path == run.path
        history.trash(workspace, open_one(workspace, "one"))
        assert history.empty(workspace) > 5000
        (workspace.root / "room").write_bytes(bytes(5000))

    full_disk(tmp_path, make_room)


# A list


def summary(run: str, **values: object) -> RunSummary:
    known = {
        "dir": "/", "state": "finished", "step": 0, "steps": None, "loss": None, "started": None,
        "ended": None, "exit": 0, "reason": "", "checkpoints": [],
    }  # fmt: skip
    return msgspec.convert({**known, **values, "run": run}, RunSummary)


def test_search_looks_at_all_that_is_told() -> None:
    runs = [
        summary("qwen-10", note="学习率太高", tags=["v2", "Client"]),
        summary("qwen-2", state="failed", reason="CUDA ran out of memory"),
        summary("assistant-01", tags=["v22"]),
    ]

    def found(text: str) -> list[str]:
        return [run.run for run in history.search(runs, text)]

    assert found("") == ["qwen-10", "qwen-2", "assistant-01"]
    assert found("QWEN") == ["qwen-10", "qwen-2"]
    assert found("qwen 学习率") == ["qwen-10"]
    assert found("failed memory") == ["qwen-2"]
    assert found("v2") == ["qwen-10", "assistant-01"] and found("#v2") == ["qwen-10"]
    assert found("#client") == ["qwen-10"] and found("nothing") == []


def test_orders() -> None:
    runs = [
        summary("qwen-10", created=1.0, loss=0.5, step=10, ended=5.0),
        summary("qwen-2", created=3.0, loss=None, step=30, state="failed", ended=9.0),
        summary("alpha", created=2.0, loss=0.1, step=20, state="training"),
    ]

    def order(by: str) -> list[str]:
        return [run.run for run in history.ordered(runs, by)]

    assert order("created") == ["qwen-2", "alpha", "qwen-10"]
    assert order("name") == ["alpha", "qwen-2", "qwen-10"]
    assert order("loss") == ["alpha", "qwen-10", "qwen-2"]
    assert order("state") == ["alpha", "qwen-2", "qwen-10"]
    assert order("steps") == ["qwen-2", "alpha", "qwen-10"]
    assert order("ended") == ["qwen-2", "qwen-10", "alpha"]
    with pytest.raises(Problem, match="cannot be ordered by colour"):
        order("colour")
