"""Which exports of a workspace have ended without its user having been told.

As of runs (`engine.run.alarms.news`): what was told is kept in the workspace, so that a merge
that ended at night is told in the morning, and each end only once.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from engine import files
from engine.errors import Problem
from engine.export.job import FOLDER, STATE, Job, State
from engine.i18n import N_, _
from engine.workspace import Workspace

if TYPE_CHECKING:  # heavy, and needed only where something has ended
    from engine.export.verify import Verified

_FILE = "told-exports.json"
_DONE = {
    "convert": N_("the adapter is made"),
    "merge": N_("the model is merged"),
    "verify": N_("the model is made and verified"),
    "gguf": N_("the GGUF file is made"),
    "upload": N_("the model is uploaded"),
}
_STEPS = {
    "convert": N_("converting"),
    "merge": N_("merging"),
    "verify": N_("verifying"),
    "gguf": N_("making the GGUF file"),
    "upload": N_("uploading"),
}


class Notice(msgspec.Struct, frozen=True):
    """The end of one export: done, failed, or lost."""

    checkpoint: Path
    time: float
    state: State
    whole: bool = False
    """Whether the whole model was trained: converting makes a model then."""
    verified: Verified | None = None
    """What verifying found, where that was the last step."""

    @property
    def good(self) -> bool:
        """Whether there is nothing to worry about."""
        return self.state.status == "done" and (self.verified is None or self.verified.agree)

    def problem(self) -> Problem:
        """In words, as everything that needs the user is shown; where to look is a way."""
        what, why, todo = self._words()
        said = self.state.said
        ways = said.ways if said is not None else ()
        details = said.details if said is not None else ""
        name = f"{self.checkpoint.parent.name} / {self.checkpoint.name}"
        return Problem(f"{name}: {what}", why, todo, details, (*ways, "export"))

    def _words(self) -> tuple[str, str, str]:
        step, said = self.state.step, self.state.said
        if said is not None:
            return said.what, said.why, said.todo
        if self.state.status == "lost":
            what = _("{step} was cut off").format(step=_(_STEPS[step]))
            return what, _("Nothing half was left."), _("Begin it again: it goes on.")
        if not self.good and self.verified is not None:
            what = _("the model does not answer as it should")
            return what, self.verified.why, _("Do not use it.")
        made = step == "convert" and self.whole
        what = _("the model is made") if made else _(_DONE[step])
        return what, self.state.result if step in ("gguf", "upload") else "", ""


class News:
    """Finds what is new. A look reads only what was written since the last one.

    Args:
        workspace: whose exports.
        since: where nothing was ever told of them, what ended before counts as told;
            seconds since the epoch.
    """

    def __init__(self, workspace: Workspace, since: float) -> None:
        self._since = since
        self._folder = workspace.state / FOLDER
        self._path = workspace.state / _FILE
        self._told: dict[str, float] | None = None  # when the step began whose end was told
        self._looked: dict[str, int] = {}  # which state that was, so that it is not read again

    def look(self) -> list[Notice]:
        """What has ended since the last look, or since the last window was open; oldest first.

        Who cancels an export knows that it has ended.
        """
        told = self._stored() if self._told is None else self._told
        since = self._since if self._told is None and not self._path.exists() else 0.0
        found: list[Notice] = []
        seen: dict[str, float] = {}
        for job in self._jobs():
            name = job.folder.name
            seen[name] = told.get(name, 0.0)
            ended = self._ended(job)
            if ended is not None and seen[name] != ended.began:
                seen[name] = ended.began
                notice = _notice(job, ended) if ended.status != "cancelled" else None
                if notice is not None and notice.time >= since:
                    found.append(notice)
        if seen != told:
            with contextlib.suppress(OSError, Problem):  # told again, then, by the next window
                files.write_json(self._path, seen)
        self._told = seen
        return sorted(found, key=lambda notice: notice.time)

    def _jobs(self) -> list[Job]:
        try:
            return [Job(one) for one in sorted(self._folder.iterdir())]
        except OSError:  # none was ever begun
            return []

    def _ended(self, job: Job) -> State | None:
        """How `job` ended; None where it is at work, and where its state was read before."""
        stamp = _stamp(job)
        if stamp is None or self._looked.get(job.folder.name) == stamp:
            return None
        state = job.state
        if state is None or state.status == "running":
            return None
        self._looked[job.folder.name] = stamp
        return state

    def _stored(self) -> dict[str, float]:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=dict[str, float])
        except (OSError, msgspec.MsgspecError):
            return {}


def _stamp(job: Job) -> int | None:
    """Tells one state of `job` from another; None where it has none."""
    try:
        return (job.folder / STATE).stat().st_mtime_ns
    except OSError:
        return None


def _notice(job: Job, state: State) -> Notice | None:
    from engine.export import plan

    order, stamp = job.order, _stamp(job)
    if order is None or stamp is None:
        return None
    return Notice(
        Path(order.checkpoint),
        stamp / 1e9,
        state,
        whole=not order.adapter,
        verified=plan.verified(Path(order.merged)) if state.step == "verify" else None,
    )
