"""The batch script of a run, and the command that its supervisor starts the trainer with.

The script only prepares: it moves into the run's folder, finds out how the nodes
reach the first one, and becomes our supervisor. That starts the trainer on all
nodes through srun, and keeps the folder as it does for a run on one machine.
"""

from __future__ import annotations

import hashlib
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from engine.errors import Problem
from engine.i18n import _
from engine.run import program
from engine.run.state import STOP
from engine.settings import Nodes, Slurm
from engine.worker.client import command

SCRIPT = "job.sh"
OUTPUT = "slurm.log"
"""What the script and Slurm itself say; the trainer's output goes to its log, as always."""
SUPERVISOR = "engine.run.slurm.job"

_SCRIPT = """\
#!/bin/bash
# A run of Tunedeck. `sbatch` takes this file as it is.
{options}
# A folder that is missing would silently become /tmp.
cd {folder} || exit 1
umask 077

# From 22.05 to 23.11 srun does not inherit this, and leaves each trainer one core.
if [ -n "${{SLURM_CPUS_PER_TASK-}}" ]; then export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK; fi
{exports}

# Where the nodes find the first one: never localhost, or each would train alone.
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
MASTER_ADDR={address}
if [ -z "$MASTER_ADDR" ]; then
  echo "Slurm knows no address of the node $head" >&2
  exit 1
fi
MASTER_PORT={port}
export MASTER_ADDR MASTER_PORT

# Saves and ends on USR1 or when the file {stop} appears; see the file state.json.
exec {supervisor}
"""

# The rank of the node is known only inside of the task: srun starts this on each node.
_TASK = (
    'exec "$@" --node-rank="$SLURM_NODEID" '
    '--master-addr="$MASTER_ADDR" --master-port="$MASTER_PORT"'
)


class Shape(NamedTuple):
    """How the run spreads over the cluster."""

    nodes: int
    processes: int
    """On each node."""


def text(folder: Path, shape: Shape, asked: Slurm, meet: Nodes, dependency: str = "") -> str:
    """The batch script for the run in `folder`.

    `dependency`: as sbatch takes it (``afterok:17``); "" to start as soon as there are nodes.
    """
    scontrol = 'scontrol show node "$head" --oneliner'
    node_address = f"$({scontrol} | sed -n 's/.* NodeAddr=\\([^ ]*\\) .*/\\1/p')"
    host = shlex.quote(meet.address).replace("{host}", "'\"$head\"'")
    exports = {
        "PYTHONSAFEPATH": "1",
        "PYTHONUNBUFFERED": "1",
        "PYTHONIOENCODING": "utf-8",
        "TOKENIZERS_PARALLELISM": "false",
    }
    return _SCRIPT.format(
        options="\n".join(f"#SBATCH {one}" for one in options(folder, shape, asked, dependency)),
        folder=shlex.quote(str(folder)),
        exports="\n".join(f"export {key}={shlex.quote(one)}" for key, one in exports.items()),
        address=host if meet.address else node_address,
        port=meet.port or "$((20000 + SLURM_JOB_ID % 10000))",
        stop=STOP,
        supervisor=shlex.join(command(sys.executable, SUPERVISOR, str(folder))),
    )


def job_name(folder: Path) -> str:
    """What the jobs of the run in `folder` are called, and no others: job ids are used again."""
    return f"tunedeck-{folder.name}-{hashlib.sha256(str(folder).encode()).hexdigest()[:8]}"


def options(folder: Path, shape: Shape, asked: Slurm, dependency: str = "") -> list[str]:
    """What sbatch is asked for, one option a line of the script."""
    wanted: dict[str, object] = {
        "job-name": job_name(folder),
        "nodes": shape.nodes,
        "ntasks-per-node": 1,  # torchrun starts the others
        "partition": asked.partition,
        "account": asked.account,
        "qos": asked.qos,
        "time": asked.time,
        "constraint": asked.constraint,
        "cpus-per-task": asked.cpus or "",
        "mem": asked.memory,
        "signal": f"B:USR1@{asked.warning}" if asked.warning else "",
        "dependency": dependency,
        # Else one that can never start would stay in the queue for ever.
        "kill-on-invalid-dep": "yes" if dependency else "",
        "open-mode": "append",
        "output": str(folder / OUTPUT).replace("%", "%%"),
    }
    if asked.gpus:
        kind = f"{asked.gpu_type}:" if asked.gpu_type else ""
        kind = f"gpu:{kind}" if asked.gpu_option == "gres" else kind
        wanted[asked.gpu_option] = f"{kind}{asked.gpus}"
    lines = [f"--{key}={_quoted(value)}" for key, value in wanted.items() if value != ""]
    # Rerun from the start, into a folder with steps in it, would be worse than a failure.
    lines.append("--requeue" if asked.continues else "--no-requeue")
    return lines + [_quoted(one) for one in asked.extra]


def trainer(
    python: str, arguments: list[str], shape: Shape, patience: int
) -> tuple[list[str], dict[str, str]]:
    """The command that starts the trainer on all nodes, and the variables that it needs."""
    # Else the other nodes would wait for a dead one until NCCL gives up.
    srun = ["srun", "--kill-on-bad-exit=1"]
    if shape == (1, 1):
        return [*srun, *program.trainer(python, arguments, 1)], program.alone()
    nodes = ["--nnodes", str(shape.nodes), "--rdzv-conf", f"timeout={patience}"]
    torchrun = program.torchrun(python, nodes, shape.processes, arguments)
    return [*srun, *_on_each(torchrun)], {}


def _on_each(torchrun: list[str]) -> list[str]:
    """`torchrun` as a task of srun: its options are completed on the node."""
    at = torchrun.index("torch.distributed.run") + 1
    task = _TASK.replace('"$@"', f"{shlex.join(torchrun[:at])}") + ' "$@"'
    return ["bash", "-c", task, "torchrun", *torchrun[at:]]


def _quoted(value: object) -> str:
    """A value in a #SBATCH line: sbatch knows quotes, but no line break."""
    words = str(value)
    if "\n" in words or "\r" in words:
        raise Problem(
            _("Slurm cannot be asked for {value!r}").format(value=words),
            _("It has a line break in it."),
            "",
        )
    return shlex.quote(words)


def shown(folder: Path) -> str:
    """What is typed to submit the run in `folder`."""
    return shlex.join(["sbatch", str(folder / SCRIPT)])


def environment(values: Mapping[str, str]) -> dict[str, str]:
    """`values` without what another job left there: it would override the script's options."""
    kept = ("SLURM_CONF", "SLURM_TIME_FORMAT")
    foreign = ("SLURM_", "SBATCH_", "SRUN_", "SALLOC_")
    return {
        name: one for name, one in values.items() if name in kept or not name.startswith(foreign)
    }
