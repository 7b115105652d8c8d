"""Starting a run that is planned (`engine.run.planning`): the folder, the supervisor."""

from __future__ import annotations

import fcntl
import getpass
import hashlib
import os
import platform
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
from engine.run import beside, inputs, processes, state
from engine.run.folder import RunFolder
from engine.run.planning import LaunchPlan
from engine.run.slurm import client, submission
from engine.run.state import Cause, Order, RunRecord, RunState
from engine.settings import Settings
from engine.worker.client import command, environment
from engine.workspace import Workspace

CONFIRM = 30.0
"""Seconds that a supervisor may take to report (its own start takes about half of one)."""
LEAVE = 3.0
"""Seconds that the last supervisor of a run may take to leave after it wrote the end."""


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
            _list(plan)
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


def _list(plan: LaunchPlan) -> None:
    """See to it that a run elsewhere is listed in its workspace all the same."""
    known = Workspace(plan.workspace).runs / plan.name
    if known != plan.dir and not known.exists():
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
