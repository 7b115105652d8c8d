"""The kernel's kills for lack of memory: told from files like its own, and by a real one."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.run import oom, reasons
from engine.run.folder import RunFolder
from engine.run.state import Cause

# The kernel's words about a process in a memory cgroup of 64 MB.
RECORDS = (Path(__file__).parent.parent / "fixtures/logs/kernel-oom-cgroup.log").read_text()
KILLED = Cause("signal-9")


class Kernel:
    """A kernel's files: what it counts, and what it logs."""

    def __init__(self, root: Path, cgroup: str, counter: str) -> None:
        (root / "own").write_text(cgroup)
        self.counter = root / "mounts" / counter
        self.counter.parent.mkdir(parents=True)
        self.log = root / "kmsg"
        self.log.write_text("6,1,5,-;Out of memory: Killed process 1 (older) anon-rss:8kB\n")
        self.places = oom.Places(root / "own", root / "mounts", self.log)
        self.count(2)

    def count(self, kills: int) -> None:
        self.counter.write_text(f"low 0\noom 9\noom_kill {kills}\noom_group_kill 0\n")

    def say(self, text: str) -> None:
        with self.log.open("a") as log:
            log.write(text)


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    return Kernel(tmp_path, "0::/user/me\n", "user/me/memory.events")


def test_the_victim_is_named(kernel: Kernel) -> None:
    watch = oom.Watch(kernel.places)
    kernel.count(3)
    kernel.say(RECORDS)
    cause = watch.explain(KILLED, 14164)
    assert cause == Cause("oom-host", {"pid": "14164", "name": "python3", "size": "69.4 MB"})
    assert "the kernel killed process 14164 (python3, 69.4 MB)" in reasons.say(cause).reason


@pytest.mark.parametrize(
    ("cgroup", "counter"),
    [
        ("5:cpu:/x\n4:memory:/x/job_7\n0::/\n", "memory/x/job_7/memory.oom_control"),
        ("9:cpu,memory:/x\n0::/\n", "memory/x/memory.oom_control"),
        ("4:memory:/docker/of-the-host\n", "memory/memory.oom_control"),
        ("0::/\n", "memory.events"),
    ],
)
def test_a_kill_is_counted_where_the_log_may_not_be_read(
    tmp_path: Path, cgroup: str, counter: str
) -> None:
    kernel = Kernel(tmp_path, cgroup, counter)
    kernel.log.unlink()
    watch = oom.Watch(kernel.places)
    kernel.count(3)
    cause = watch.explain(Cause("connection", {"rank": "0"}), None)
    assert cause == Cause("oom-host-unnamed", {"rank": "0"})


def test_a_container_does_not_know_the_hosts_numbers(kernel: Kernel) -> None:
    watch = oom.Watch(kernel.places)
    kernel.count(3)
    kernel.say(RECORDS)
    assert watch.explain(Cause("worker-killed", {"pid": "8"}), 7).values["pid"] == "14164"


def test_a_victim_that_nobody_counted_must_be_ours(kernel: Kernel) -> None:
    watch, other = oom.Watch(kernel.places), oom.Watch(kernel.places)
    kernel.say(RECORDS)
    assert watch.explain(KILLED, 7) == KILLED
    assert other.explain(Cause("worker-killed", {"pid": "14164"}), 7).code == "oom-host"


def test_another_cause_stays(kernel: Kernel) -> None:
    watch = oom.Watch(kernel.places)
    kernel.count(3)
    assert watch.explain(Cause("disk-full"), 7) == Cause("disk-full")


def test_what_was_before_the_start_does_not_count(kernel: Kernel) -> None:
    assert oom.Watch(kernel.places).explain(KILLED, 1) == KILLED


def test_without_any_of_the_files(tmp_path: Path) -> None:
    nowhere = oom.Places(tmp_path / "a", tmp_path / "b", tmp_path / "c")
    assert oom.Watch(nowhere).explain(KILLED, 7) == KILLED


_GREEDY = """
import sys
import msgspec
from pathlib import Path
from engine.run import launch, planning
from engine.settings import Settings
from engine.workspace import Workspace

workspace = Workspace(Path(sys.argv[1]))
plan = planning.plan(workspace.root / "a.py", workspace=workspace, settings=Settings(), gpus=[])
eat = [sys.executable, "-c", "rows = [b'1' * (1 << 20) for _ in range(2000)]"]
print(launch.start(msgspec.structs.replace(plan, command=eat), Settings()).path)
"""


@pytest.fixture
def cgroup() -> Iterator[Path]:
    """A memory cgroup of 256 MB."""
    folder = Path(f"/sys/fs/cgroup/memory/tunedeck-test-{os.getpid()}")
    limit = "memory.limit_in_bytes"
    if not folder.parent.is_dir():
        folder, limit = Path("/sys/fs/cgroup") / folder.name, "memory.max"
    try:
        folder.mkdir()
    except OSError as error:
        pytest.skip(f"no memory cgroup can be made here: {error}")
    try:
        (folder / limit).write_text(str(256 << 20))
        yield folder
    except OSError as error:
        pytest.skip(f"no memory limit can be set here: {error}")
    finally:
        _leave(folder)


def _leave(folder: Path) -> None:
    """Remove a cgroup when its last process has ended."""
    until = time.monotonic() + 20
    while (folder / "cgroup.procs").read_text() and time.monotonic() < until:
        time.sleep(0.1)
    folder.rmdir()


def test_a_real_kill(cgroup: Path, tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("lr = 1e-4\n")
    enter = f'echo $$ > {cgroup}/cgroup.procs && exec "$0" "$@"'
    started = subprocess.run(
        ["sh", "-c", enter, sys.executable, "-c", _GREEDY, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
    )
    run = RunFolder(Path(started.stdout.strip()))
    until = time.monotonic() + 60
    while run.state.living and time.monotonic() < until:
        time.sleep(0.1)
    now = run.state
    assert (now.state, now.exit) == ("failed", -9)
    assert now.cause is not None and now.cause.code in ("oom-host", "oom-host-unnamed")
    if now.cause.code == "oom-host":
        assert now.cause.values["pid"] == str(now.pid)
