"""Several GPUs of one machine: each way to train on them, and what befalls the ranks.

    python -m pytest tests/gpu/test_several.py -m gpu -s
    TUNEDECK_RANKS_ON_CPU=1 python -m pytest tests/gpu/test_several.py -s

The first wants two GPUs. Where there is one, both ranks share it (``one_card``), and the rows
about the choice of GPUs are left out. The second trains a tiny model in two processes on the
CPU, which speak through gloo, without the rows that only a GPU has.

At the end there is a table, in $OUT/several.md as well where OUT is set, with the logs of the
faults beside it.
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest

from engine.joined import resuming
from engine.machine import gpu
from engine.run import control, processes, reasons
from engine.run.folder import RunFolder
from engine.run.listing import list_runs
from engine.settings import Settings
from engine.workspace import Workspace
from tests.support import card, rank_exports, rank_faults, rank_runs
from tests.support.rank_runs import CARDS, ON_CPU, SHARED, STEPS, WAYS, InTurn, Way, why_not

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not (CARDS or ON_CPU), reason="no GPU on this machine"),
    pytest.mark.timeout(600),
]


def took(run: RunFolder) -> float:
    """Seconds of its last start."""
    state = run.state
    return (state.ended or 0.0) - (state.started or 0.0)


class Row(NamedTuple):
    """A line of the table."""

    what: str
    result: str
    seconds: float
    peaks: str = ""
    """MiB of each rank's tensors at their peak / as estimated."""


TABLE: list[Row] = []


@pytest.fixture(scope="module", autouse=True)
def table() -> Iterator[None]:
    """Print the table when all is done."""
    yield
    where = "CPU, gloo" if ON_CPU else f"{len(CARDS)} × {CARDS[0].name}"
    text = f"{time.strftime('%Y-%m-%d')}, {where}, 2 ranks\n\n"
    text += "| what | result | s | peak MiB of the ranks / estimated |\n|---|---|---|---|\n"
    text += "".join(f"| {r.what} | {r.result} | {r.seconds:.0f} | {r.peaks} |\n" for r in TABLE)
    print("\n" + text)
    if out := os.environ.get("OUT"):
        Path(out, "several.md").write_text(text)


def keep_log(run: RunFolder, name: str) -> None:
    """Put the log of a fault beside the table."""
    if out := os.environ.get("OUT"):
        shutil.copy(run.log, Path(out, f"{'gloo' if ON_CPU else 'nccl'}-{name}.log"))


@pytest.fixture(scope="module")
def model(request: pytest.FixtureRequest) -> Path:
    """What is trained: of 0.4e9 parameters on a GPU, tiny on a CPU."""
    found: Path = request.getfixturevalue("tiny_model" if ON_CPU else "llama")
    return found


@pytest.fixture(scope="module", autouse=True)
def one_card() -> Iterator[None]:
    """Let two ranks share the card where there is one."""
    with pytest.MonkeyPatch.context() as patch:
        if SHARED:
            patch.setenv("PYTHONPATH", str(Path(__file__).parent / "one_card"), prepend=os.pathsep)
        yield


@pytest.fixture(scope="module", autouse=True)
def leaves_nothing(table: None, one_card: None, workspace: Workspace) -> Iterator[None]:
    """After all of it each card is as it was."""
    before = used()
    yield
    runs = list_runs(workspace)
    end_all(workspace)
    assert not any(processes.of_run(run.path) for run in runs)
    card.until(lambda: all(freed(before)), 30)
    left = "no process left" if ON_CPU else "no process, no GPU memory left"
    TABLE.append(Row(f"after all {len(runs)} runs", left, 0.0))


def end_all(workspace: Workspace) -> None:
    """Kill what still runs: of a test that failed, or that was to have it beside another."""
    for run in list_runs(workspace):
        if run.state.living:
            control.kill(run)


def used() -> list[int]:
    """Bytes in use on each card."""
    return [] if ON_CPU else [one.used for one in gpu.read().gpus]


def freed(before: list[int]) -> list[bool]:
    """Whether each card is as it was."""
    return [now - then < card.ROOM for now, then in zip(used(), before, strict=True)]


RESUMED = ("lora", "lora-zero2", "full-zero3")
"""Ways that are also stopped and resumed."""


@pytest.fixture(scope="module")
def started(workspace: Workspace, model: Path) -> InTurn:
    """Of each way that can be tried here NAME-whole, and NAME-parts, which is to be stopped."""

    def start(key: str) -> RunFolder:
        name, _, part = key.rpartition("-")
        # The one that is interrupted stays at a step until it is told to stop: it cannot
        # have ended by then.
        fault = "waits" if part == "parts" else ""
        return rank_runs.begin(workspace, model, key, WAYS[name], fault)

    order = [f"{name}-whole" for name, way in WAYS.items() if not why_not(name, way)]
    order += [f"{name}-parts" for name in RESUMED]
    return InTurn(order, start, threads=2)  # each looks at its config first


def finish(run: RunFolder) -> None:
    end = control.wait(run, 300)
    assert end.state == "finished", run.log.read_text(errors="replace")[-6000:]


def until(what: Callable[[], bool], run: RunFolder) -> None:
    """Wait until `what()` holds of a run that lives."""
    end = time.monotonic() + 240
    while not what():
        log = run.log.read_text(errors="replace")[-4000:] if run.log.exists() else ""
        assert run.state.living, log
        assert time.monotonic() < end, log
        time.sleep(0.05)


def told_by_ranks(run: RunFolder) -> dict[int, tuple[str, int]]:
    """The card that each rank sat on (its uuid), and its tensors' peak in bytes."""
    found = re.findall(r"RANK (\d+) card (\S+) peak (\d+)", run.log.read_text(errors="replace"))
    return {int(rank): (uuid, int(peak)) for rank, uuid, peak in found}


@pytest.mark.parametrize("name", WAYS)
def test_a_way_trains(name: str, started: InTurn) -> None:
    way = WAYS[name]
    if why := why_not(name, way):
        TABLE.append(Row(way.what, why, 0.0))
        pytest.skip(why)
    run = started(f"{name}-whole")
    finish(run)
    at = run.progress()
    assert at.step == at.steps == (STEPS * 2 if name == "sequence" else STEPS)
    assert at.tokens_per_s is not None and at.tokens_per_s > 0
    assert all(map(math.isfinite, at.history["loss"]))
    assert max(at.history["lr"]) > 1e-4  # a warm-up of one step would leave it where it begins
    assert not processes.of_run(run.path)
    peaks = ""
    if CARDS:
        ranks = told_by_ranks(run)
        assert ranks.keys() == {0, 1}
        if not SHARED:
            wanted = [CARDS[place].uuid for place in way.order]
            assert all(ranks[rank][0] in uuid for rank, uuid in enumerate(wanted)), (ranks, wanted)
        expected = run.record and run.record.expected
        each = " and ".join(f"{ranks[rank][1] >> 20}" for rank in sorted(ranks))
        peaks = f"{each} / {expected.allocated >> 20 if expected else '?'}"
    TABLE.append(Row(way.what, f"{at.step} steps", took(run), peaks))


@pytest.mark.parametrize("name", RESUMED)
def test_stopped_and_resumed_equals_uninterrupted(name: str, started: InTurn) -> None:
    began = time.monotonic()
    run, whole = started(f"{name}-parts"), started(f"{name}-whole")
    until(lambda: run.progress().step == rank_faults.AFTER["waits"] - 1, run)
    control.stop(run)
    end = control.wait(run, 120)
    assert end.state == "stopped", run.log.read_text(errors="replace")[-4000:]
    saved = run.last_checkpoint()
    assert saved is not None and saved.complete
    assert saved.step == run.progress().step == rank_faults.AFTER["waits"]
    assert saved.kind == ("deepspeed" if WAYS[name].stage else "file")
    assert resuming.resume_differences(run).differences == []
    resuming.resume(run, Settings())
    finish(run)
    finish(whole)
    ours, theirs = run.progress().history, whole.progress().history
    assert list(ours.step) == list(theirs.step) == list(range(1, STEPS + 1))
    worst = max(abs(a / b - 1) for a, b in zip(ours["loss"], theirs["loss"], strict=True))
    assert worst < (1e-6 if ON_CPU else 5e-3)
    assert list(ours["lr"]) == pytest.approx(list(theirs["lr"]), rel=1e-9)
    assert list(ours["tokens"]) == list(theirs["tokens"])
    result = f"stopped after step {saved.step}, resumed: loss differs by {worst:.0e} at most"
    TABLE.append(Row(WAYS[name].what, result, time.monotonic() - began))


@pytest.mark.parametrize("name", ["lora-zero2", "qlora-zero2", "full-zero3"])
def test_what_two_ranks_saved_is_exported(name: str, started: InTurn, model: Path) -> None:
    if why := why_not(name, WAYS[name]):
        pytest.skip(why)
    run = started(f"{name}-whole")
    finish(run)
    began = time.monotonic()
    result = rank_exports.export(run, model)
    TABLE.append(Row(f"{WAYS[name].what}: exported", result, time.monotonic() - began))


class Fault(NamedTuple):
    """What befalls the ranks, and what is to be said of it."""

    what: str
    codes: frozenset[str]
    """Of the cause: one of these."""
    rank: str = "1"
    """Which it names; "" where any will do."""
    shown: str = ""
    """In the last line of the traceback that is shown; "" where there is none."""
    kind: str = ""
    """Of `rank_faults.hook`."""
    timeout: int = 0
    environment: Mapping[str, str] = {}
    """Of the start."""


_INTERFACE = "GLOO_SOCKET_IFNAME" if ON_CPU else "NCCL_SOCKET_IFNAME"
FAULTS = {
    "raises": Fault(
        "rank 1 raises an error", frozenset({"exception"}), shown="an answer: 17", kind="raises"
    ),
    "memory": Fault(
        "rank 1 is out of memory", frozenset({"oom-gpu"}), shown="out of memory", kind="memory"
    ),
    "hangs": Fault(
        "rank 1 hangs until the time-out",
        frozenset({"gloo-timeout"} if ON_CPU else {"nccl-behind"}),
        rank="0" if ON_CPU else "1",
        shown="Timed out" if ON_CPU else "",
        kind="hangs",
        timeout=20,
        environment={"TORCH_NCCL_WAIT_TIMEOUT_DUMP_MILSEC": "10000"},  # a minute, if it is unset
    ),
    "broken": Fault(
        f"{_INTERFACE}=nowhere0",
        frozenset({"gloo-interface" if ON_CPU else "nccl-interface"}),
        rank="",
        shown="",
        environment={_INTERFACE: "nowhere0"},
    ),
}
ENDLESS = 10_000


@pytest.fixture(scope="module")
def befallen(workspace: Workspace, model: Path) -> InTurn:
    """The runs that a fault befalls."""

    def start(name: str) -> RunFolder:
        fault = FAULTS.get(name, Fault("", frozenset()))
        with pytest.MonkeyPatch.context() as patch:
            for name_value in fault.environment.items():
                patch.setenv(*name_value)
            return rank_runs.begin(
                workspace,
                model,
                f"fault-{name}",
                Way("", "2", order=(0, 1) if SHARED else (1, 0)),
                fault=fault.kind or "none",
                epochs=ENDLESS,
                timeout=fault.timeout,
            )

    return InTurn([*FAULTS, "killed", "kill"], start)  # one at a time: each has its variables


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_of_one_rank(name: str, befallen: InTurn) -> None:
    fault, run = FAULTS[name], befallen(name)
    end = control.wait(run, 240)
    keep_log(run, name)
    log = run.log.read_text(errors="replace")
    assert end.state == "failed", log[-4000:]
    cause = end.cause
    assert cause is not None and cause.code in fault.codes, (cause, log[-6000:])
    assert not fault.rank or cause.values.get("rank") == fault.rank, (cause, log[-6000:])
    if name == "memory" and CARDS:  # the GPUs were given in the order 1,0
        assert cause.values["gpu"] == str(CARDS[0].id)
    lines = reasons.traceback(reasons.tail(run.log, end.log_start), cause)
    assert fault.shown in "".join(lines[-1:])
    assert not processes.of_run(run.path)
    _row(fault.what, run)


def _row(what: str, run: RunFolder) -> None:
    TABLE.append(Row(what, f"“{run.summary().reason}”", took(run)))


def test_one_rank_is_killed(befallen: InTurn) -> None:
    run = befallen("killed")
    until(lambda: run.progress().step >= 2, run)
    os.kill(rank_runs.ranks(run)[1], signal.SIGKILL)
    end = control.wait(run, 60)
    keep_log(run, "killed")
    assert end.state == "failed" and end.cause is not None
    assert (end.cause.code, end.cause.values["rank"]) == ("worker-killed", "1"), end.cause
    assert not processes.of_run(run.path)
    _row("rank 1 is killed (SIGKILL)", run)


def test_kill_leaves_nothing(befallen: InTurn) -> None:
    run = befallen("kill")
    until(lambda: run.progress().step >= 2, run)
    assert rank_runs.ranks(run).keys() == {0, 1}
    pids = {one.pid for one in run.processes()}
    control.kill(run)
    assert run.state.state == "stopped" and not processes.of_run(run.path)
    assert not any(psutil.pid_exists(pid) for pid in pids)
    _row("kill", run)


@pytest.mark.skipif(ON_CPU or SHARED, reason="only with two GPUs")
def test_another_program_fills_one_of_the_cards(
    workspace: Workspace, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Late: nobody else has room on that card meanwhile."""
    end_all(workspace)
    with monkeypatch.context() as patch:
        patch.setenv("CUDA_VISIBLE_DEVICES", str(CARDS[1].index))
        hog = card.Hog()
    try:
        hog.leave_free(700 << 20)
        run = rank_runs.begin(
            workspace, model, "fault-full", Way("", "2"), fault="none", epochs=ENDLESS
        )
        end = control.wait(run, 180)
        keep_log(run, "full")
        assert end.state == "failed" and end.cause is not None
        assert end.cause.code in ("oom-gpu", "oom-gpu-of-rank"), end.cause
        told = end.cause.values
        assert (told.get("rank"), told.get("gpu")) == ("1", str(CARDS[1].id)), end.cause
        assert not processes.of_run(run.path)
        _row("another program fills GPU 1", run)
    finally:
        hog.close()


def test_scaling(workspace: Workspace) -> None:
    """Last, alone: from one GPU to two, through plain torchrun in the same run."""
    end_all(workspace)
    began = time.monotonic()
    command = [sys.executable, "benchmarks/scaling.py", "--ranks", "1", "2", "--rounds", "1"]
    done = subprocess.run(
        command + (["--cpu"] if ON_CPU else []), cwd=card.ROOT, stdout=subprocess.PIPE, text=True
    )
    print(done.stdout)
    assert done.returncode == 0
    told = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    rates = {(one["ranks"], one["who"]): one["tokens_s"] for one in told}
    assert all(rates[ranks, who] > 0 for ranks in (1, 2) for who in ("plain", "ours"))
    of_plain = [f"{rates[ranks, 'ours'] / rates[ranks, 'plain']:.3f}" for ranks in (1, 2)]
    twice = [f"{rates[2, who] / rates[1, who] / 2:.2f}" for who in ("plain", "ours")]
    result = f"ours through plain {of_plain[0]} on one, {of_plain[1]} on two; "
    result += f"two through twice one {twice[0]} plain, {twice[1]} ours"
    TABLE.append(Row("scaling, benchmarks/scaling.py", result, time.monotonic() - began))
