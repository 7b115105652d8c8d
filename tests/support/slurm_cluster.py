"""A real Slurm cluster on this machine, of our own: two pretended nodes with pretended GPUs.

A third, in the partition "far", is on another machine, which is never there.
Everything lies in one folder and listens on loopback only; it is ready in less than
a second, and gone with the process that started it. Works as root and as a plain user.
Needs Debian's packages slurm-wlm and munge.
"""

from __future__ import annotations

import contextlib
import ctypes
import getpass
import os
import platform
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

NEEDED = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol", "scancel", "srun")
CLUSTER = "tunedeck-tests"
_SYSTEM = "/usr/sbin:/sbin"  # where Debian keeps the daemons, and a plain user's PATH does not look
_PR_SET_PDEATHSIG = 1

_CONF = """\
ClusterName={cluster}
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/s
StateSaveLocation={folder}/state
SlurmctldPidFile={folder}/slurmctld.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdPidFile={folder}/%n.pid
SlurmdLogFile={folder}/%n.log
SlurmdSpoolDir={folder}/spool-%n
SlurmdParameters=config_overrides
SlurmdTimeout=20
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
MailProg=/bin/true
MpiDefault=none
SwitchType=switch/none
PlugStackConfig={folder}/plugstack.conf
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=batch_sched_delay=1,sched_interval=1,bf_interval=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
GresTypes=gpu
ReturnToService=2
KillWait=3
MinJobAge={keep}
{nodes}
NodeName=far NodeAddr=127.0.0.1 Port=9 CPUs=4 RealMemory=64000 Gres=gpu:{gpus} State=DOWN
PartitionName=far Nodes=far
PartitionName=DEFAULT Nodes={names} DefaultTime=60 MaxTime=INFINITE
PartitionName=main PriorityTier=10 PreemptMode=OFF Default=YES
PartitionName=low PriorityTier=1 PreemptMode=REQUEUE GraceTime=3
PartitionName=high PriorityTier=100 PreemptMode=OFF
"""
_NODE = (
    "NodeName=node{number} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} "
    "CPUs=4 RealMemory=64000 Gres=gpu:{gpus} State=UNKNOWN"
)


def missing() -> list[str]:
    """The programs that a cluster needs and this machine lacks."""
    path = f"{os.environ.get('PATH', '')}:{_SYSTEM}"
    return [name for name in NEEDED if shutil.which(name, path=path) is None]


class Cluster:
    """The cluster in `folder`, whose path has no spaces, no % and at most 80 bytes."""

    def __init__(self, folder: Path, nodes: int = 2, gpus: int = 2, keep: int = 300) -> None:
        """`keep`: seconds that Slurm remembers a job that ended."""
        self.folder = folder
        self.nodes = [f"node{number}" for number in range(1, nodes + 1)]
        self.variables = {"SLURM_CONF": str(folder / "slurm.conf")}
        """What leads the clients to this cluster."""
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}
        self._port = 0
        self._write(gpus, keep)

    def start(self) -> None:
        """Start all daemons; return when every node takes jobs."""
        munge = self.folder / "munge"
        # --force: the socket may lie in a folder that others cannot enter.
        options = {"socket": "s", "key-file": "key", "pid-file": "pid", "seed-file": "seed"}
        files = [f"--{name}={munge / file}" for name, file in options.items()]
        self._spawn(
            "munged", "-F", "--force", "--num-threads=10", *files, f"--log-file={munge}/log"
        )
        self.wait_for(lambda: (munge / "s").exists(), "munge")
        self.start_controller()
        for node in self.nodes:
            self._spawn("slurmd", "-D", "-N", node, name=node)
        self.settle()

    def settle(self) -> None:
        """Wait until all nodes take jobs: a controller that came back knows none for a while."""
        self.wait_for(self._ready, "nodes that take jobs", 60)

    def start_controller(self) -> None:
        """Start the controller, anew or again."""
        self._spawn("slurmctld", "-D", "-i" if self._daemons.get("slurmctld") else "-c")
        # A slurmd that finds no controller tries again only after a second.
        self.wait_for(self._listening, "the controller")

    def stop_controller(self) -> None:
        """End the controller. Jobs go on, and it knows them when it is started again."""
        self._daemons["slurmctld"].terminate()
        self._daemons["slurmctld"].wait(10)

    def stop(self) -> None:
        """End the jobs, then the daemons, then what is left of either."""
        with contextlib.suppress(AssertionError, subprocess.SubprocessError):
            self.ask("scancel", "--user", getpass.getuser())
            self.wait_for(lambda: not self.ask("squeue", "-h"), "an empty queue", 5)
        for process in reversed(self._daemons.values()):
            process.terminate()
        for process in reversed(self._daemons.values()):
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(2)
            process.kill()  # a slurmd that lost its controller ignores SIGTERM
            process.wait()
        for pid in self._left():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def ask(self, *words: str) -> str:
        """What a client's command prints."""
        answer = subprocess.run(
            words, env=self._environment(), capture_output=True, text=True, timeout=20
        )
        assert answer.returncode == 0, answer.stderr
        return answer.stdout.strip()

    def wait_for(self, condition: Callable[[], bool], what: str, seconds: float = 15) -> None:
        """Wait until `condition` holds; fail when it does not in time."""
        end = time.monotonic() + seconds
        while not condition():
            dead = [name for name, one in self._daemons.items() if one.poll() not in (None, 0)]
            assert not dead, f"{dead} died: see {self.folder}"
            assert time.monotonic() < end, f"no {what} in {seconds} seconds: see {self.folder}"
            time.sleep(0.05)

    def _write(self, gpus: int, keep: int) -> None:
        folder, host = self.folder, platform.node().partition(".")[0]
        (folder / "munge").mkdir(parents=True)
        (folder / "munge").chmod(0o711)
        key = folder / "munge" / "key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o600)
        self._port, *ports = _free_ports(1 + len(self.nodes))
        lines = []
        for number, port in enumerate(ports, 1):
            (folder / f"spool-node{number}").mkdir()
            lines.append(_NODE.format(number=number, host=host, port=port, gpus=gpus))
        (folder / "state").mkdir()
        (folder / "plugstack.conf").touch()
        # Nothing here uses cgroups, but slurmd looks for them, and dies in a container.
        plugin = "disabled" if _version() >= 24 else "cgroup/v1"
        (folder / "cgroup.conf").write_text(f"CgroupPlugin={plugin}\n")
        # Slurm sets CUDA_VISIBLE_DEVICES only for devices, and takes the number from the name.
        devices = [folder / f"nvidia{number}" for number in range(gpus)]
        for device in devices:
            device.symlink_to("/dev/null")
        (folder / "gres.conf").write_text("".join(f"Name=gpu File={one}\n" for one in devices))
        (folder / "slurm.conf").write_text(
            _CONF.format(
                cluster=CLUSTER,
                host=host,
                port=self._port,
                user=getpass.getuser(),
                folder=folder,
                keep=keep,
                nodes="\n".join(lines),
                names=",".join(self.nodes),
                gpus=gpus,
            )
        )

    def _environment(self) -> dict[str, str]:
        # The tests themselves may run inside of another cluster's job.
        kept = {one: value for one, value in os.environ.items() if not one.startswith("SLURM_")}
        return {**kept, "PATH": f"{os.environ.get('PATH', '')}:{_SYSTEM}", **self.variables}

    def _spawn(self, program: str, *arguments: str, name: str = "") -> None:
        name = name or program
        with (self.folder / f"{name}.out").open("ab") as out:
            self._daemons[name] = subprocess.Popen(
                [program, *arguments],
                cwd=self.folder,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
                preexec_fn=_die_with_us,
            )

    def _listening(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self._port)) == 0

    def _ready(self) -> bool:
        ready = self.ask("sinfo", "-h", "-N", "-p", "main", "-t", "idle,mix,alloc", "-o", "%N")
        # A node that the controller has lost sight of for a moment is idle, and takes no job.
        trial = ["sbatch", "--test-only", f"--nodes={len(self.nodes)}", "--wrap", "true"]
        return (
            len(set(ready.split())) == len(self.nodes)
            and not subprocess.run(
                trial, env=self._environment(), capture_output=True, timeout=20
            ).returncode
        )

    def _left(self) -> Iterator[int]:
        """Step daemons and job processes of this cluster, which may hang under init."""
        ours = f"SLURM_CONF={self.variables['SLURM_CONF']}".encode()
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                values = (entry / "environ").read_bytes().split(b"\0")
                in_job = f"SLURM_CLUSTER_NAME={CLUSTER}".encode() in values
                step = (entry / "comm").read_text().strip() == "slurmstepd"
                if ours in values and (in_job or step):
                    yield int(entry.name)


def _die_with_us() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _version() -> int:
    slurmd = shutil.which("slurmd", path=f"{os.environ.get('PATH', '')}:{_SYSTEM}")
    said = subprocess.run([str(slurmd), "-V"], capture_output=True, text=True, check=True).stdout
    return int(said.split()[1].split(".")[0])


def _free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, below those that the system gives to clients."""
    found: list[int] = []
    while len(found) < count:
        port = random.randrange(20000, 32000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            found.append(port)
    return found
