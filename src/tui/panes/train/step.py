"""The next step: what Enter does now, in words, for the line that names it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from engine.errors import Problem
from engine.i18n import _, ngettext
from engine.run.checkpoints import Checkpoint
from engine.text import one_line
from tui.panes.train.observer import Run


class Step(NamedTuple):
    """What Enter does, and the line that says so (with other keys that matter now)."""

    action: Literal["launch", "config", "export", "why", "lines", "wait"]
    hint: str


def first_choice(runs: Sequence[Run], last: str) -> str:
    """The folder of a run in progress, else of the one opened last, else of the newest.

    Of those in progress one that trains comes first, then the queue in its order.
    """
    living = sorted((run.summary for run in runs if run.living), key=lambda run: run.turn)
    wanted = [run.dir for run in living]
    wanted += [run.summary.dir for run in runs if run.summary.dir == last]
    wanted += [run.summary.dir for run in runs]
    return wanted[0] if wanted else ""


def next_step(run: Run | None, config: str, untrained: str, moved: bool) -> Step:
    """What a person most likely wants next.

    Args:
        run: the one under the cursor.
        config: the config that is open, as a person writes it; "" for none.
        untrained: the same, when no run has trained it as it stands.
        moved: whether the user has chosen `run` since the pane came to the front.
    """
    if run is None or (untrained and not moved):
        if not config:
            return Step("config", _("Enter  make a config first: a run needs one"))
        return Step("launch", _("Enter  train with {config}").format(config=one_line(config)))
    action, hint = _of_run(run)
    if not run.living and untrained:
        hint += "      " + _("l  train with {config}").format(config=one_line(config))
    return Step(action, hint)


def _of_run(run: Run) -> Step:
    saved = newest_checkpoint(run)
    name = saved.path.stem if saved is not None else ""
    again = saved is not None and "resume" in run.possible
    resume = _("R  go on from {checkpoint}").format(checkpoint=name) if again else ""
    state = run.summary.state
    if run.summary.waits and state == "queued":
        move = _("^↑ ^↓  move") if "move" in run.possible else ""
        return Step("why", _join(_("Enter  what it waits for"), move, _("S  take it out")))
    if run.summary.waits and state == "lost":
        return Step("why", _join(_("R  let it wait again"), _("Enter  why"), _("S  take it out")))
    if run.summary.unwatched:
        return Step("why", _join(_("Enter  what happened, and what to do"), _stop_key(run)))
    if state in ("failed", "lost"):
        return Step("why", _join(_("Enter  why it failed, and what to do"), resume))
    if run.living:
        if state == "starting" and run.summary.launcher == "nodes":
            return Step("lines", _join(_("Enter  the line of each node"), _stop_key(run)))
        stop = _stop_key(run) if state != "stopping" else _("it saves a checkpoint, then it ends")
        if saved is None:
            return Step("wait", _join(stop, _("q  leave: it goes on without this window")))
        return Step("export", _join(_export(name), stop))
    if saved is None:
        return Step("why" if run.summary.reason else "launch", _without_checkpoint(run))
    return Step("export", _join(_export(name), resume if state == "stopped" else ""))


def _stop_key(run: Run) -> str:
    return _("S  stop it (saves first)") if "stop" in run.possible else ""


def _export(name: str) -> str:
    return _("Enter  export {checkpoint}").format(checkpoint=name)


def _without_checkpoint(run: Run) -> str:
    key = _("Enter  why") if run.summary.reason else _("Enter  train again")
    return _join(key, _("no checkpoint was saved"))


def _join(*parts: str) -> str:
    return "      ".join(part for part in parts if part)


def newest_checkpoint(run: Run) -> Checkpoint | None:
    """The newest checkpoint that is whole."""
    whole = [one for one in run.summary.checkpoints if one.complete]
    return whole[-1] if whole else None


def no_runs(config: str) -> str:
    """What an empty pane says."""
    lines = [_("No runs yet."), ""]
    if config:
        lines.append(_("Enter  train with {config}").format(config=one_line(config)))
        lines.append(_("l      the same: choose name, GPUs and DeepSpeed, see the exact command"))
    else:
        lines.append(_("A run needs a config: Enter goes to Config, which makes one."))
    return "\n".join(lines)


def no_run() -> Problem:
    """What a key says that needs a run."""
    return Problem(_("No run is chosen"), _("There is none yet."), _("l launches one."))


def lost_by_kill(run: Run) -> str:
    """What a kill costs, in words."""
    saved = newest_checkpoint(run)
    steps = run.summary.step - (saved.step if saved is not None else 0)
    if saved is None:
        lost = _("No checkpoint is saved: all {count} steps are lost.").format(count=steps)
    else:
        lost = ngettext(
            "{count} step after {checkpoint} is lost.",
            "{count} steps after {checkpoint} are lost.",
            steps,
        ).format(count=steps, checkpoint=saved.path.name)
    return lost + "\n" + _("S (stop) would save first, and lose nothing.")
