"""Slurm's own commands: what is asked, what is answered, and what no answer means.

Text in formats that are asked for by name: the JSON of different versions differs
too much. Everything blocks, with a limit, so keep it away from the screen's thread.
"""

from __future__ import annotations

import getpass
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import msgspec

from engine.errors import Failed, Problem
from engine.i18n import _
from engine.run.slurm.script import environment

LOOK = 5.0
"""Seconds that a question may take. Slurm itself tries for nine when its controller is down."""
SUBMIT = 60.0
"""Seconds that a submission may take: a site's filters look at it."""

_FIELDS = "%A|%T|%r|%N|%V|%S|%e|%j"
"""For squeue: id, state, reason, nodes, submission, start, end, name."""
_ACCOUNT = "JobIDRaw,State,ExitCode,NodeList,Submit,Start,End,JobName"
_SILENT = re.compile(r"[Uu]nable to contact slurm|Socket timed out|Connection (refused|timed out)")


class Silent(Failed):
    """Slurm did not answer: nothing is known, good or bad."""


class Refused(Failed):
    """Slurm answered, and said no; `why` is what it said."""


class Job(msgspec.Struct, frozen=True):
    """A job as Slurm tells of it. Times in seconds since the epoch; None: not known."""

    id: str
    state: str
    """Slurm's word: PENDING, RUNNING, …"""
    reason: str
    """Why it waits or ended, in Slurm's word; "" when it says none."""
    nodes: str
    submitted: float | None
    start: float | None
    """When it started, or is expected to."""
    end: float | None
    name: str


class Trial(msgspec.Struct, frozen=True):
    """What Slurm would do with a script."""

    start: float | None = None
    """When it could start, in seconds since the epoch; None when Slurm does not say."""
    nodes: str = ""


def available() -> bool:
    """Whether this machine can submit jobs."""
    return shutil.which("sbatch") is not None


def submit(file: Path) -> str:
    """Submit a batch script; return the job's id. Raises `Refused` or `Silent`."""
    said = _ask(
        ["sbatch", "--parsable", str(file)], SUBMIT, folder=file.parent, todo=_other_wishes()
    )
    # "5", or "5;cluster". A site's greeting may stand above.
    return said.splitlines()[-1].partition(";")[0].strip()


def trial(text: str) -> Trial:
    """What would become of a batch script. Raises `Refused` with the reason, or `Silent`."""
    said = _ask(
        ["sbatch", "--test-only"], SUBMIT, stdin=text, everything=True, todo=_other_wishes()
    )
    found = re.search(r"to start at (\S+) using .* on nodes? (\S+)", said)
    return Trial(_time(found[1]), found[2]) if found else Trial()


def jobs() -> list[Job]:
    """All jobs of this user that Slurm still knows, those that ended lately too."""
    words = ["squeue", "--noheader", "--states=all", f"--user={getpass.getuser()}"]
    said = _ask([*words, f"--format={_FIELDS}"], LOOK)
    return [job for job in map(_job, said.splitlines()) if job is not None]


def hosts(partition: str) -> set[str]:
    """The machines that a job in `partition` may come to ("": in the cluster's default one)."""
    words = ["sinfo", "--noheader", "--Node", "--format=%n|%P"]
    said = _ask([*words, f"--partition={partition}"] if partition else words, LOOK)
    pairs = [line.strip().split("|") for line in said.splitlines()]
    # Slurm marks its default partition with a star.
    return {host for host, of in pairs if partition or of.endswith("*")}


def accounted(job: str) -> Job | None:
    """What the accounting says of a job; None when it does not know it, or there is none.

    Where a job's end got lost, it stands there as one that runs or waits.
    """
    words = ["sacct", "--parsable2", "--noheader", "--allocations", f"--jobs={job}"]
    try:
        said = _ask([*words, f"--format={_ACCOUNT}"], LOOK)
    except Refused:
        return None
    lines = said.splitlines()
    return _job(lines[-1], accounted=True) if lines else None


def details(job: str) -> dict[str, str]:
    """What ``scontrol show job`` says; values that hold spaces are cut."""
    said = _ask(["scontrol", "show", "job", job, "--oneliner"], LOOK)
    pairs = (word.partition("=") for word in said.split())
    return {name: value for name, _equals, value in pairs}


def cancel(job: str, *, pending: bool = False) -> None:
    """End a job (with `pending`: only while it waits). One that is gone is no error."""
    words = ["scancel", *(["--state=PENDING"] if pending else []), job]
    try:
        _ask(words, LOOK)
    except Refused as refused:
        if "Invalid job id" not in refused.why and "already" not in refused.why:
            raise


def requeue(job: str) -> None:
    """Put a job back into the queue; when it runs, that ends it."""
    _ask(["scontrol", "requeue", job], LOOK)


def _ask(
    words: Sequence[str],
    limit: float,
    *,
    stdin: str = "",
    folder: Path | None = None,
    everything: bool = False,
    todo: str = "",
) -> str:
    """What a command prints (with `everything`, on stderr too); `todo`: about a refusal."""
    try:
        answer = subprocess.run(
            words,
            cwd=folder,
            env=environment(os.environ) | {"SLURM_TIME_FORMAT": "%s", "LC_ALL": "C.UTF-8"},
            input=stdin,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=limit,
        )
    except subprocess.TimeoutExpired as error:
        raise _silent(_("`{command}` took too long.").format(command=words[0])) from error
    except OSError as error:
        raise Problem(
            _("Slurm's {command} cannot be started").format(command=words[0]),
            error.strerror or str(error),
            _("Start it where jobs are submitted: on the cluster's login node."),
        ) from error
    if answer.returncode == 0:
        return answer.stdout + (answer.stderr if everything else "")
    said = _message(answer.stderr)
    if _SILENT.search(answer.stderr):
        raise _silent(said)
    raise Refused(_("Slurm says no"), said, todo, answer.stderr)


def _other_wishes() -> str:
    return _("Ask for another partition or account, less time or fewer GPUs: `sinfo` lists them.")


def _silent(why: str) -> Silent:
    return Silent(
        _("Slurm does not answer"),
        why,
        _("Its controller may be down: try again later. Jobs that run go on."),
    )


def _message(stderr: str) -> str:
    """What a command complained of, without its name in front."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    bare = [re.sub(r"^(\w+: )?(error: |fatal: )+", "", line) for line in lines]
    # The last two say it; what stands above may be a site's greeting.
    return "; ".join(bare[-2:]) or _("It did not say why.")


def _job(line: str, accounted: bool = False) -> Job | None:
    fields = line.split("|", 7)
    if len(fields) < 8:
        return None
    number, word, reason, nodes, submitted, start, end, name = fields
    if accounted:  # "CANCELLED by 1000", no reason but "3:0" (exit status and signal)
        word = word.split(" ")[0].rstrip("+")
        reason = "" if reason == "0:0" else f"ExitCode={reason}"
        nodes = "" if nodes == "None assigned" else nodes
    reason = "" if reason == "None" else reason
    return Job(number, word, reason, nodes, _time(submitted), _time(start), _time(end), name)


def _time(text: str) -> float | None:
    return float(text) if text.isdigit() and text != "0" else None
