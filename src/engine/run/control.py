"""Ending a run, and going on with it. All orders are files in its folder."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Literal

from engine import files
from engine.errors import Failed, Problem
from engine.i18n import _
from engine.machine.devices import GpuId
from engine.run import ending, launch, place, planning, processes, queue, reasons, rewind, state
from engine.run.checkpoints import Checkpoint
from engine.run.folder import RunFolder, RunSummary
from engine.run.slurm import orders
from engine.run.state import Cause, RunRecord, RunState, Wait
from engine.settings import Settings
from engine.workspace import Workspace

Deed = Literal["stop", "kill", "resume", "move"]
"""What a person may do with a run; the last: give it another place in the queue."""
TAKEN = 2.0
"""Seconds to wait for a supervisor to take the order to stop."""
PATIENCE = 20.0
"""Seconds that a supervisor has to carry out a kill before we do it ourselves."""
PATIENCE_AWAY = 90.0
"""The same for one on another machine, which may see the order only after a minute."""


def possible(run: RunSummary, ours: bool) -> frozenset[Deed]:
    """What can be done with `run`, as far as a list of runs tells, to offer that and no more.

    The deeds themselves look closer, and raise `Problem` for what cannot be done.

    Args:
        run: as it was seen last.
        ours: whether Tunedeck started it.
    """
    if not ours:
        return frozenset()
    found: set[Deed] = set()
    living, lost = run.state in state.LIVING, run.state == "lost"
    if (living and run.state != "stopping") or (lost and run.waits) or run.unwatched:
        found.add("stop")
    if living or lost:
        found.add("kill")
    whole = any(one.complete for one in run.checkpoints)
    # One that never began has no checkpoint: it waits again.
    if not living and not run.unwatched and (whole or run.started is None):
        found.add("resume")
    if run.state == "queued" and run.waits and run.launcher != "slurm":
        found.add("move")
    return frozenset(found)


def stop(run: RunFolder) -> RunState:
    """Ask the run to save a checkpoint after its present step and end.

    Returns as soon as its supervisor has taken the order, not when it is
    carried out (see `wait`). A run that has made no step yet just ends, one that
    waits is taken out of the queue. A lost one whose trainer goes on gets a
    supervisor again first. Asking twice changes nothing.
    """
    now = _ours(run)
    if now.state == "lost" and run.wait() is not None:
        return queue.leave(run)
    if now.state == "lost":
        now = _attend(run, now)
    elif not now.living:
        raise _over(run, now)
    if run.launcher == "slurm" and now.state == "queued" and orders.withdraw(run.path):
        return ending.stopped(run, Cause("slurm-withdrawn"), _unwritten(run))
    if now.living:
        _order(run, state.STOP)
    until = time.monotonic() + TAKEN
    while (now := run.state).living and now.state != "stopping" and time.monotonic() < until:
        time.sleep(0.05)
    if not now.living:
        ending.clear_orders(run)
    return now


def kill(run: RunFolder) -> RunState:
    """End every process of the run now; returns when none is left.

    Raises `Failed` when one outlives even that (it hangs in the kernel).
    """
    now = _ours(run)
    if not now.living and now.state != "lost":
        raise _over(run, now)
    if now.state == "lost" and run.wait() is not None:
        return queue.leave(run)
    if now.state != "lost" and _told_to_die(run):
        _await_end(run)
    left = _end_unsupervised(run)
    if left:
        raise Failed(
            _("The run {name} could not be ended whole").format(name=run.name),
            _("Still there: {list}").format(list=", ".join(str(pid) for pid in left)),
            _("They hang in the kernel (a driver, a network disk): try again later."),
        )
    return run.state


def wait(run: RunFolder, seconds: float) -> RunState:
    """Wait until the run has ended, at most so long; return how it stands then."""
    until = time.monotonic() + seconds
    now = run.state
    while now.living and time.monotonic() < until:
        time.sleep(0.1)
        now = run.state
    return now


def checkpoint_for(run: RunFolder, wanted: Path | None = None) -> Checkpoint | None:
    """The checkpoint that `resume` would go on from: `wanted`, or the newest whole one.

    None for a run that never left the queue: it would start from nothing.
    Raises `Problem` when the run cannot go on from there, or not now.
    """
    _at_rest(run)
    return _chosen(run, wanted) if wanted is not None or queue.began(run) else None


def _at_rest(run: RunFolder) -> None:
    """Raise `Problem` when the run is not ours to start again, or not now."""
    now = _ours(run)
    if now.living:
        raise Problem(
            _("The run {name} is running already").format(name=run.name),
            _("Its state: {state}.").format(state=state.spoken(now.state)),
            _("Stop it first."),
        )
    if now.state == "lost" and now.supervisor is not None and now.supervisor.elsewhere:
        raise Problem(
            _("The run {name} cannot be resumed yet").format(name=run.name),
            reasons.say(now.cause).reason,
            reasons.say(now.cause).todo,
        )
    if run.torn and (run.launcher == "slurm" or run.order() is None):
        raise Problem(
            _("The run {name} cannot be resumed").format(name=run.name),
            run.torn,
            _("Start a new run with its config: {path}").format(path=run.config),
        )
    if run.processes():
        raise Problem(
            _("The run {name} cannot be resumed yet").format(name=run.name),
            _("Processes of its last start are still there."),
            _("`tunedeck kill {name}` ends what is left of it.").format(name=run.name),
        )


def resume(
    run: RunFolder,
    settings: Settings,
    *,
    checkpoint: Path | None = None,
    config: str | None = None,
    gpus: list[GpuId] | None = None,
    wait: Wait | None = None,
    now: bool = False,
) -> RunFolder:
    """Go on in the same folder, from `checkpoint` or the newest whole one.

    A run that never left the queue (a reboot took its supervisor, or what it
    waited for failed) is put back into it, or started `now`.
    What was saved after that checkpoint is set aside (`engine.run.rewind`).
    Whether the settings fit the checkpoint is not asked here: see `engine.joined.resuming`.

    Args:
        run: one of our own runs that has ended (or is lost).
        settings: names the training interpreter.
        checkpoint: where to go on; None takes the newest that is whole.
        config: the text of a config with other settings; it is frozen in place
            of the one that ran, which is kept beside it.
        gpus: other GPUs than before, one process each; empty: the CPU.
        wait: what it is to wait for first; None: what it waited for, if it still waits.
        now: do not wait.
    """
    chosen = checkpoint_for(run, checkpoint)
    record, attempt = run.record, run.state.attempt
    assert record is not None
    workspace = Workspace(Path(record.workspace))
    plan = planning.plan(
        run.path / record.config,
        workspace=workspace,
        settings=settings,
        name=record.run,
        work_dir=run.path,
        gpus=record.gpus if gpus is None else gpus,
        deepspeed=record.deepspeed,
        processes=record.processes if gpus in (None, record.gpus) else None,
        launcher=record.launcher,
        nodes=record.nodes,
        slurm=record.slurm,
        resume=None if chosen is None else str(chosen.path),
        wait=None if now else wait or queue.unfulfilled(run),
    )
    with files.in_words(_("The run {name} cannot be resumed").format(name=run.name)):
        if chosen is not None:
            rewind.set_aside(run, chosen, attempt + 1)
        if config is not None:
            _refreeze(run, record, attempt, config)
        rewind.record(plan, record)
    return launch.begin(plan, settings, attempt=attempt if chosen is None else attempt + 1)


def _ours(run: RunFolder) -> RunState:
    if run.record is None:
        raise Problem(
            _("{name} was not started by Tunedeck").format(name=run.name),
            _("It can be looked at, not stopped or resumed."),
            _("Start a run of your own with `tunedeck train`."),
        )
    now = run.state
    if place.is_copy(run.path, now):
        raise Problem(
            _("{path} is a copy of a run that goes on").format(path=run.path),
            _("What is done here does not reach that run."),
            _("Stop or kill the run itself; this copy can be resumed once it has ended."),
        )
    return now


def _attend(run: RunFolder, now: RunState) -> RunState:
    """Have a lost run watched again. Raises `Problem` where no trainer of it goes on here."""
    if run.launcher == "slurm" or now.trainer is None or not now.trainer.alive:
        raise Problem(
            _("The run {name} cannot be stopped").format(name=run.name),
            reasons.say(now.cause).reason,
            _("`tunedeck kill {name}` ends what is left of it.").format(name=run.name),
        )
    try:
        launch.attend(run)
    except Problem:
        if not run.state.living:  # else another app was faster
            raise
    return run.state


def _over(run: RunFolder, now: RunState) -> Problem:
    return Problem(
        _("The run {name} has ended already").format(name=run.name),
        _("Its state: {state}.").format(state=state.spoken(now.state)),
    )


def _order(run: RunFolder, name: str) -> None:
    try:
        os.close(os.open(run.path / name, os.O_WRONLY | os.O_CREAT, 0o600))
    except OSError as error:
        raise Failed(
            _("The run {name} cannot be told to end").format(name=run.name),
            error.strerror or str(error),
            _("Make room, or correct the folder's permissions."),
        ) from error


def _told_to_die(run: RunFolder) -> bool:
    """Whether its supervisor can read that it is to end the run; raises when nobody else can."""
    try:
        _order(run, state.KILL)
    except Failed:
        if run.launcher == "slurm" or _is_away(run):
            raise
        return False  # a disk that can only be read, say: then we do it
    return True


def _is_away(run: RunFolder) -> bool:
    """Whether its supervisor is on another machine."""
    written = run.written_state()
    return written is not None and written.supervisor is not None and written.supervisor.elsewhere


def _await_end(run: RunFolder) -> None:
    """Give whoever is in charge the time to end the run. Raises `Failed` when that is not sure."""
    away = _is_away(run)
    ended = run.launcher == "slurm" and orders.end(run.path)
    until = time.monotonic() + (PATIENCE_AWAY if away and not ended else PATIENCE)
    while not ended and (now := run.state).living and time.monotonic() < until:
        time.sleep(0.05 if not away else 0.5)
    if not ended and (run.launcher == "slurm" or away) and (now := run.state).living:
        raise Failed(
            _("It is not sure that the run {name} has ended").format(name=run.name),
            _("Its state: {state}.").format(state=state.spoken(now.state)),
            _("The order stays in its folder: look again in a minute."),
        )


def _end_unsupervised(run: RunFolder) -> list[int]:
    """End what is left when no supervisor does; write the end. Return pids that stay."""
    written = run.written_state()
    if written is not None and written.living:
        if written.supervisor is not None:
            processes.end([written.supervisor], 0.0)
        left = processes.end(run.processes(), 2.0)
        ending.stopped(run, Cause("killed"), _unwritten(run))
    else:
        left = processes.end(run.processes(), 0.0)
        ending.clear_orders(run)
    return [one.pid for one in left]


def _unwritten(run: RunFolder) -> str:
    return _("The end of the run {name} cannot be written down").format(name=run.name)


def _chosen(run: RunFolder, wanted: Path | None) -> Checkpoint:
    found = run.checkpoints()
    if wanted is not None:
        found = [one for one in found if one.path == wanted.resolve()]
        if not found:
            raise Problem(
                _("{path} is no checkpoint of the run {name}").format(path=wanted, name=run.name),
                "",
                _("`tunedeck runs {name}` lists its checkpoints.").format(name=run.name),
            )
    whole = [one for one in found if one.complete]
    if wanted is not None and not whole:
        raise Problem(
            _("The run {name} cannot go on from {path}").format(path=wanted.name, name=run.name),
            _("It is half written."),
            _("Go on from the newest whole one."),
            ways=("checkpoint",),
        )
    if not whole:
        raise Problem(
            _("The run {name} has no checkpoint to go on from").format(name=run.name),
            _("The only ones are half written.") if found else _("None was saved."),
            _("Start a new run; a smaller save_steps saves sooner."),
        )
    return whole[-1]


def _refreeze(run: RunFolder, record: RunRecord, attempt: int, text: str) -> None:
    frozen = run.path / record.config
    if frozen.read_text(encoding="utf-8") == text:
        return
    kept = frozen.with_name(f"{frozen.stem}.{attempt}{frozen.suffix}")
    frozen.replace(kept)
    with files.replacing(frozen, force=False) as file:
        file.write(text.encode())
