"""Slurm's words in ours: why a job waits, and why it ended."""

from __future__ import annotations

from engine.i18n import N_
from engine.run.rules import Rule

NEVER_SATISFIED = "DependencyNeverSatisfied"
"""The reason of a job that depends on one that did not succeed."""

_WAITS = {
    "Resources": N_("It waits in Slurm's queue until nodes are free (job {job})."),
    "Priority": N_("It waits in Slurm's queue; other jobs come first (job {job})."),
    "Dependency": N_("It waits in Slurm's queue for another job (job {job})."),
    "BeginTime": N_("It waits in Slurm's queue until its time to begin (job {job})."),
    "JobHeldUser": N_("It is held in Slurm's queue (job {job})."),
    "JobHeldAdmin": N_("It is held in Slurm's queue by an administrator (job {job})."),
    "": N_("It waits in Slurm's queue (job {job})."),
    "other": N_("It waits in Slurm's queue: {reason} (job {job})."),
}
_EXPECTED = N_("Slurm expects to start it at {start}.")

_NEVER = frozenset(
    ("PartitionConfig", "PartitionNodeLimit", "PartitionTimeLimit", "BadConstraints")
)
NEVER = frozenset(("slurm-never", "slurm-never-awaited"))
"""The codes for a job that waits for ever."""


def never(reason: str) -> str:
    """The code for a job that waits for ever for `reason`; "" when it may start yet.

    A limit of each job's own (``QOSMaxNodePerJobLimit``, ``AssocMaxGRESPerJob``) is none
    of all jobs together, which others leave room under when they end.
    """
    if reason == NEVER_SATISFIED:
        return "slurm-never-awaited"
    return "slurm-never" if reason in _NEVER or "PerJob" in reason else ""


def waits(reason: str, expected: bool) -> str:
    """The code for a job that waits for `reason`."""
    known = reason if reason in _WAITS else "other"
    return f"slurm-waits-{known}{'-expected' if expected else ''}"


def _rule(reason: str, todo: str = "") -> Rule:
    return Rule("", "", reason, todo)


SPOKEN = {
    f"slurm-waits-{reason}{suffix}": _rule(words, todo)
    for reason, words in _WAITS.items()
    for suffix, todo in (("", ""), ("-expected", _EXPECTED))
} | {
    "slurm-never": _rule(
        N_("Slurm will never start it as it was asked for: {reason} (job {job})."),
        N_("Stop it, and ask for fewer nodes or GPUs, less time, or another partition."),
    ),
    "slurm-never-awaited": _rule(
        N_("It will never start: the job that it waits for did not succeed (job {job})."),
        N_("Stop it. Then `tunedeck resume RUN --now` starts it all the same."),
    ),
    "slurm-again": _rule(
        N_("It is back in Slurm's queue, and will go on from its last checkpoint (job {job}).")
    ),
    "slurm-moved": _rule(
        N_("Its folder was moved, and its job will look for it in {place} (job {job})."),
        N_("Move it back before the job starts, or leave a link there: ln -s {folder} {place}"),
    ),
    "slurm-was-moved": _rule(
        N_("Its folder was moved while it waited, and its job did not find it in {place}."),
        N_("Resume it where it lies now."),
    ),
    "slurm-awaited": _rule(
        N_("It never started: the run that it waited for did not succeed (job {job})."),
        N_("`tunedeck resume RUN --now` starts it all the same."),
    ),
    "slurm-suspended": _rule(
        N_("Slurm has suspended it (job {job})."), N_("It goes on when an administrator lets it.")
    ),
    "slurm-silent": _rule(
        N_("Slurm does not answer, so nothing new is known of job {job}: {error}"),
        N_("Its controller may be down. A job that runs goes on."),
    ),
    "slurm-lost": _rule(
        N_("Slurm does not know job {job} any more, and the run's folder tells of no end."),
        N_("It can be resumed."),
    ),
    "slurm-refused": _rule(
        N_("Slurm did not take it: {error}"), N_("Correct the settings of Slurm, then start it.")
    ),
    "slurm-failed": _rule(
        N_("Slurm says that job {job} failed: {state} {reason}"),
        N_("The file slurm.log in the run's folder may say more."),
    ),
    "slurm-launch": _rule(
        N_("Slurm could not start the script of job {job} on {nodes}."),
        N_("The run's folder and Tunedeck must lie on a disk that all nodes see."),
    ),
    "slurm-node": _rule(
        N_("A node of job {job} was lost ({nodes})."),
        N_("It can be resumed. With `continues` in the settings of Slurm, it does so by itself."),
    ),
    "slurm-memory": _rule(
        N_("Slurm ended job {job}: it took more memory than it had asked for."),
        N_("Set `memory` in the settings of Slurm higher, or dataloader_num_workers lower."),
    ),
    "slurm-time": _rule(
        N_("Slurm's time limit ended job {job} before a checkpoint was saved."),
        N_("It can be resumed. Set `warning` in the settings of Slurm higher, or `time`."),
    ),
    "slurm-time-saved": _rule(
        N_("Slurm's time limit came near: stopped after step {step}, with a checkpoint."),
        N_("It can be resumed. With `continues` in the settings of Slurm, it does so by itself."),
    ),
    "slurm-cancelled": _rule(
        N_("Slurm's job {job} was cancelled: steps after the last checkpoint are lost."),
        N_("It can be resumed."),
    ),
    "slurm-withdrawn": _rule(N_("It was taken out of Slurm's queue.")),
    "slurm-preempted": _rule(
        N_("Slurm took its nodes away for another job (job {job})."),
        N_("It can be resumed. With `continues` in the settings of Slurm, it does so by itself."),
    ),
    "slurm-restarts": _rule(
        N_("Slurm started it again {restarts} times; the settings allow {allowed}."),
        N_("It can be resumed."),
    ),
    "silent": _rule(
        N_("It runs on {host}, which has given no sign of life for {minutes} minutes."),
        N_("Look there. When nothing of it runs, `tunedeck kill {run}` ends it on paper."),
    ),
}
