"""Starting a run: the command, the folder, the supervisor."""

from __future__ import annotations

import fcntl
import getpass
import hashlib
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from engine import files
from engine.errors import Failed, Problem
from engine.i18n import _
from engine.machine import doctor
from engine.run import beside, inputs, processes, program, queue, state
from engine.run import nodes as by_hand
from engine.run.folder import RunFolder
from engine.run.launchers import MAKERS, Wish
from engine.run.slurm import client, script, submission
from engine.run.state import Cause, Expected, Launcher, Order, RunRecord, RunState, Wait
from engine.settings import Settings, Slurm
from engine.worker.client import command, environment
from engine.workspace import Workspace

CONFIRM = 30.0
"""Seconds that a supervisor may take to report (its own start takes about half of one)."""
LEAVE = 3.0
"""Seconds that the last supervisor of a run may take to leave after it wrote the end."""
_BUILDS_ON = re.compile(r"^\s*(?:_base_\s*=|with\s+read_base\(\s*\)\s*:)", re.MULTILINE)


class LaunchPlan(msgspec.Struct, frozen=True):
    """What a start will do; nothing is written yet."""

    name: str
    dir: Path
    config: Path
    """The file that will be frozen into the folder."""
    command: list[str]
    env: dict[str, str]
    """What is added to the user's own environment."""
    gpus: list[int]
    """Numbers as the driver counts; empty: on the CPU."""
    processes: int
    deepspeed: str
    workspace: Path
    resume: str = ""
    wait: Wait | None = None
    """What it waits for in the queue; None starts it at once."""
    launcher: Launcher = "local"
    nodes: int = 1
    lines: list[str] = []
    """For "nodes": what is typed on each; the first runs here, under our supervisor."""
    script: str = ""
    """For "slurm": the batch script."""
    slurm: Slurm | None = None
    """For "slurm": what it is asked for."""
    source: Path | None = None
    """The file that `config` is a copy of, with other settings."""
    then_export: bool = False
    """Whether its last checkpoint is exported when it has succeeded."""
    expected: Expected | None = None
    """The GPU memory that it will take, where that was reckoned."""

    @property
    def shown(self) -> str:
        """The command as one would type it in the workspace's folder."""
        if self.launcher == "slurm":
            return script.shown(self.dir)
        values = [f"{name}={shlex.quote(value)}" for name, value in self.env.items()]
        return " ".join([*values, shlex.join(self.command)])


def plan(
    config: Path,
    *,
    workspace: Workspace,
    settings: Settings,
    source: Path | None = None,
    name: str | None = None,
    work_dir: Path | None = None,
    gpus: list[int] | None = None,
    deepspeed: str | None = None,
    processes: int | None = None,
    resume: str | None = None,
    launcher: Launcher = "local",
    nodes: int = 1,
    slurm: Slurm | None = None,
    wait: Wait | None = None,
    then_export: bool = False,
) -> LaunchPlan:
    """How to run `config`.

    Args:
        config: a config file that stands alone.
        workspace: where the run's folder is made, and where it runs.
        settings: names the training interpreter.
        source: the file that `config` is a copy of, with other settings; that file is
            what the run's record names.
        name: the run's name; None makes one from the config's.
        work_dir: the run's folder; None puts it into the workspace's runs.
        gpus: which GPUs (on each node); None takes the one with the most free
            memory, none at all where there is no GPU; an empty list trains on the
            CPU. Slurm chooses itself: there `slurm` says how many.
        deepspeed: a stage ("2", "zero2_offload", …), XTuner's name or a JSON
            file; None or "" trains without.
        processes: how many on all nodes; None means one for each GPU.
        resume: a checkpoint to go on from.
        launcher: who starts the trainer.
        nodes: on how many machines; more than one takes "nodes" or "slurm".
        slurm: what Slurm is asked for; None takes the settings'.
        wait: what it waits for before it starts; None starts it at once.
        then_export: make a checked model of its last checkpoint when it has succeeded.
    """
    config = _readable(config)
    if name:
        check_name(name)
    elif work_dir is not None and not (workspace.runs / work_dir.name).exists():
        name = work_dir.resolve().name
    else:
        name = _next_name(workspace, config.stem)
    folder = (work_dir or workspace.runs / name).resolve()
    asked = slurm or settings.slurm
    devices = list(range(asked.gpus)) if launcher == "slurm" else program.devices(gpus)
    each = by_hand.per_node(processes, len(devices), nodes)
    stage = program.stage(deepspeed, workspace)
    arguments = [str(folder / state.CONFIG_FOLDER / config.name), "--work-dir", str(folder)]
    arguments += ["--deepspeed", stage] if stage else []
    arguments += ["--resume", resume] if resume else []
    distributed = each * nodes > 1 or bool(stage)
    arguments += ["--launcher", "pytorch"] if distributed else []
    wait = None if wait is None else queue.placed(wait, folder, devices, launcher)
    wish = Wish(
        settings, folder, workspace.root, arguments, devices, stage, nodes, each, asked, wait
    )
    made = MAKERS[launcher](wish)
    return LaunchPlan(
        name=name,
        dir=folder,
        config=config,
        command=made.command,
        env=made.env,
        gpus=devices,
        processes=each * nodes,
        deepspeed=stage,
        workspace=workspace.root,
        resume=resume or "",
        wait=wait,
        launcher=launcher,
        nodes=nodes,
        lines=list(made.lines),
        script=made.script,
        slurm=asked if launcher == "slurm" else None,
        source=source if source is not None and source != config else None,
        then_export=then_export,
    )


def start(plan: LaunchPlan, settings: Settings) -> RunFolder:
    """Make the run's folder and start its supervisor; return when that has taken over.

    With Slurm: when it has taken the job. Raises `Problem` when the folder is in
    use, `Failed` when nothing started.
    """
    if plan.launcher == "slurm":
        client.trial(plan.script)  # before there is a folder
    with files.in_words(_cannot_start(plan)):
        _make_folder(plan)
        try:
            text = plan.config.read_bytes()
            frozen = beside.lay(plan.config, text, plan.dir / state.CONFIG_FOLDER)
            files.write_json(plan.dir / state.RECORD, _record(plan, settings, text))
            inputs.write(plan.dir, frozen, plan.workspace)
        except BaseException:  # half of it is no run, and would hold its name
            shutil.rmtree(plan.dir, ignore_errors=True)
            raise
    return begin(plan, settings, attempt=1)


def begin(plan: LaunchPlan, settings: Settings, attempt: int) -> RunFolder:
    """Start a supervisor on a folder that is ready (for a start and for a resume)."""
    with files.in_words(_cannot_start(plan)), locked(plan.dir, plan.name) as lock:
        for leftover in (state.STOP, state.KILL, state.FACTS):
            (plan.dir / leftover).unlink(missing_ok=True)
        order = Order(
            command=plan.command,
            environment=plan.env,
            unset=["PYTHONPATH"] if settings.interpreter else [],
            folder=str(plan.workspace),
            gpus=plan.gpus,
            resume=plan.resume,
            wait=plan.wait,
        )
        files.write_json(plan.dir / state.ORDER, order)
        files.write_json(plan.dir / state.STATE, RunState("queued", time.time(), attempt))
        if plan.launcher == "slurm":
            _submit(plan, attempt)
        else:
            _supervise(plan.dir, lock, settings)
    return RunFolder(plan.dir)


def _cannot_start(plan: LaunchPlan) -> str:
    return _("The run {name} cannot be started").format(name=plan.name)


def attend(run: RunFolder) -> None:
    """Start a supervisor on a run that has lost its own, and whose trainer goes on.

    Does nothing for a run that is not lost any more. Raises `Problem` when another
    one was faster, `Failed` when it does not come up.
    """
    with locked(run.path, run.name) as lock:
        if run.state.state == "lost":
            _supervise(run.path, lock, Settings())


@contextmanager
def locked(folder: Path, name: str) -> Iterator[int]:
    """The lock of the run `name`, as a descriptor: who holds it, and nobody else, may start it.

    It passes on to a supervisor, which holds it as long as it lives. Raises
    `Problem` when one does.
    """
    lock = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _take(lock, name)
        yield lock
    finally:
        os.close(lock)


def _readable(config: Path) -> Path:
    what = _("Cannot train with {path}").format(path=config)
    todo = _("Give a config file (a .py); `tunedeck config list` shows the stock ones.")
    try:
        text = config.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise Problem(what, _("There is no such file."), todo) from error
    except IsADirectoryError as error:
        raise Problem(what, _("It is a folder."), todo) from error
    except (OSError, UnicodeDecodeError) as error:
        raise Problem(what, str(error), todo) from error
    if config.suffix != ".py":
        raise Problem(what, _("XTuner's configs are Python files (.py)."), todo)
    if _BUILDS_ON.search(text):
        raise Problem(
            what,
            _("It builds on another config file, which a run could not take along."),
            _("Write all values into one file (mmengine's Config.dump does), and train with that."),
        )
    return config.resolve()


def check_name(name: str) -> None:
    """Raise `Problem` when no run can be called so."""
    if not re.fullmatch(r"[\w][\w.\-]*", name):
        raise Problem(
            _("{name} cannot be a run's name").format(name=name),
            _("It becomes a folder: letters, digits, - _ and . only."),
            _("Choose another name."),
        )


def _next_name(workspace: Workspace, stem: str) -> str:
    """``assistant-01``, or the next number that no run of the workspace has."""
    stem = re.sub(r"[^\w.\-]+", "-", stem).lstrip(".-") or "run"
    taken = {entry.name for entry in workspace.runs.iterdir()} if workspace.runs.is_dir() else set()
    number = 1
    while f"{stem}-{number:02}" in taken:
        number += 1
    return f"{stem}-{number:02}"


def _make_folder(plan: LaunchPlan) -> None:
    # On other nodes the user may have typed their lines already.
    if plan.launcher == "local" and processes.of_run(plan.dir):
        raise Problem(
            _("{path} is in use already").format(path=plan.dir),
            _("Processes of a run that lay there before still go on."),
            _("Choose another name or folder, or kill that run first."),
        )
    files.private_folder(plan.dir.parent)
    try:
        plan.dir.mkdir(mode=0o700)
    except FileExistsError as error:
        if not plan.dir.is_dir() or any(plan.dir.iterdir()):
            raise Problem(
                _("{path} is in use already").format(path=plan.dir),
                _("A run gets a folder of its own, or its files would mix with others."),
                _("Choose another name or folder, or resume the run that is there."),
            ) from error
    except OSError as error:
        raise Problem(
            _("Cannot make the folder {path}").format(path=plan.dir),
            error.strerror or str(error),
            _("Choose another place, or correct its permissions."),
        ) from error
    known = Workspace(plan.workspace).runs / plan.name
    if known != plan.dir and not known.exists():
        # A run elsewhere is listed in its workspace all the same.
        files.private_folder(known.parent)
        known.symlink_to(plan.dir, target_is_directory=True)


def _record(plan: LaunchPlan, settings: Settings, config: bytes) -> RunRecord:
    try:
        python, versions = doctor.packages(settings)
    except (OSError, subprocess.SubprocessError, ValueError):
        python, versions = "", {}
    source = plan.source or plan.config
    return RunRecord(
        run=plan.name,
        created=time.time(),
        user=getpass.getuser(),
        host=platform.node(),
        source=str(source),
        config=f"{state.CONFIG_FOLDER}/{plan.config.name}",
        config_hash=hashlib.sha256(config).hexdigest(),
        source_hash=hashlib.sha256(source.read_bytes()).hexdigest() if plan.source else "",
        workspace=str(plan.workspace),
        python=settings.python,
        gpus=plan.gpus,
        processes=plan.processes,
        deepspeed=plan.deepspeed,
        command=plan.command,
        environment=plan.env,
        versions={"python": python}
        | {name: version for name, version in versions.items() if version is not None},
        git=_git(plan.workspace),
        launcher=plan.launcher,
        nodes=plan.nodes,
        slurm=plan.slurm,
        then_export=plan.then_export,
        expected=plan.expected,
    )


def _git(folder: Path) -> str:
    def ask(*words: str) -> str:
        answer = subprocess.run(
            ["git", "-C", str(folder), *words], capture_output=True, text=True, timeout=10
        )
        return answer.stdout.strip() if answer.returncode == 0 else ""

    try:
        commit = ask("rev-parse", "HEAD")
        return commit + ("+changes" if commit and ask("status", "--porcelain") else "")
    except (OSError, subprocess.SubprocessError):
        return ""


def _take(lock: int, name: str) -> None:
    # A supervisor that has just written the end of its run may need a moment to go.
    until = time.monotonic() + LEAVE
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError as error:
            if time.monotonic() > until:
                raise Problem(
                    _("The run {name} is running already").format(name=name),
                    _("Another start of it has not ended."),
                    _("`tunedeck runs {name}` shows how far it is.").format(name=name),
                ) from error
        time.sleep(0.05)


def _submit(plan: LaunchPlan, attempt: int) -> None:
    try:
        submission.submit(plan.dir, plan.script)
    except client.Refused as refused:
        cause = Cause("slurm-refused", {"error": refused.why})
        ended = RunState("failed", time.time(), attempt, ended=time.time(), cause=cause)
        files.write_json(plan.dir / state.STATE, ended)
        raise


def _supervise(folder: Path, lock: int, settings: Settings) -> None:
    # The supervisor runs under our own Python, whatever the trainer runs under.
    ours = environment(msgspec.structs.replace(settings, interpreter=""))
    run = RunFolder(folder)
    before = run.written_state()
    log = os.open(
        folder / state.SUPERVISOR_LOG, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600
    )
    try:
        process = subprocess.Popen(
            command(sys.executable, "engine.run.supervisor", str(folder), str(lock)),
            cwd="/",
            env=ours,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            pass_fds=(lock,),
        )
    finally:
        os.close(log)
    status = process.wait()
    until = time.monotonic() + CONFIRM
    while status == 0 and time.monotonic() < until:
        if run.written_state() != before:
            return
        time.sleep(0.05)
    said = (folder / state.SUPERVISOR_LOG).read_text(encoding="utf-8", errors="replace")
    raise Failed(
        _("The run in {path} did not start").format(path=folder),
        said.strip().rpartition("\n")[2] or _("Its supervisor does not answer."),
        _("{path} says more.").format(path=folder / state.SUPERVISOR_LOG),
        said,
    )
