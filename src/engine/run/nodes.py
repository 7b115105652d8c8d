"""One run on several nodes that the user starts by hand: a line for each.

All nodes must see the run's folder, the workspace and the training interpreter
under the same paths. The first node is this machine: its line runs under our
supervisor. Stopping works as always, since only the first rank looks for the
stop file and tells the others.
"""

from __future__ import annotations

import platform
import shlex
import socket
from pathlib import Path
from typing import NamedTuple

import psutil

from engine import settings
from engine.errors import Problem
from engine.i18n import _
from engine.run import program
from engine.run.processes import MARK
from engine.run.state import RunRecord

_RANK = "--node-rank"
"""What alone differs from node to node."""


class Meeting(NamedTuple):
    """Where the nodes of a run find its first one, and how long they wait for each other."""

    address: str
    port: str
    patience: int
    """Seconds."""


def meeting(chosen: settings.Nodes) -> Meeting:
    """Where the nodes meet when the first one is this machine."""
    host = platform.node()
    address = chosen.address.replace("{host}", host) or own_address()
    return Meeting(address, str(chosen.port or program.free_port()), chosen.patience)


def per_node(processes: int | None, gpus: int, nodes: int) -> int:
    """How many trainers each node starts. Raises `Problem` when they cannot be shared out."""
    if nodes < 1:
        raise Problem(
            _("A run cannot be on {nodes} nodes").format(nodes=nodes), "", _("Take 1 or more.")
        )
    if (processes or nodes) % nodes:
        raise Problem(
            _("{processes} processes do not fit {nodes} nodes").format(
                processes=processes, nodes=nodes
            ),
            _("Each node starts equally many."),
            _("Choose a multiple of the number of nodes."),
        )
    return processes // nodes if processes else max(1, gpus)


def trainer(
    python: str, arguments: list[str], count: int, nodes: int, rank: int, where: Meeting
) -> list[str]:
    """The command that starts `count` trainers on node number `rank`.

    The rendezvous is static: torch's other one (c10d) gives ranks out by host name,
    and hands on the name of the first node as that node itself knows it.
    """
    options = ["--nnodes", str(nodes), _RANK, str(rank)]
    options += ["--master-addr", where.address, "--master-port", where.port]
    options += ["--rdzv-conf", f"timeout={where.patience}"]
    return program.torchrun(python, options, count, arguments)


def line(folder: Path, run: Path, env: dict[str, str], command: list[str]) -> str:
    """What is typed on one of the nodes: `command` in `folder`, marked as part of `run`."""
    values = {**env, MARK: str(run)}
    words = [f"{name}={shlex.quote(value)}" for name, value in values.items()]
    return f"cd {shlex.quote(str(folder))} && {' '.join(words)} {shlex.join(command)}"


def lines(record: RunRecord, run: Path) -> list[str]:
    """What is typed on each node of the run in the folder `run`, as it was started last.

    The first one's comes first; [] for a run of another launcher.
    """
    command = record.command
    if record.launcher != "nodes" or _RANK not in command:
        return []
    at = command.index(_RANK) + 1
    commands = ([*command[:at], str(rank), *command[at + 1 :]] for rank in range(record.nodes))
    return [line(Path(record.workspace), run, record.environment, one) for one in commands]


def own_address() -> str:
    """The address under which other machines most likely reach this one.

    That of the network with the default route; on a machine without one, of any network.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing: a datagram's socket only looks up
            return str(probe.getsockname()[0])
        except OSError:
            pass
    known = [one for ones in psutil.net_if_addrs().values() for one in ones]
    ours = [one.address for one in known if one.family == socket.AF_INET]
    return next((address for address in ours if not address.startswith("127.")), "127.0.0.1")
