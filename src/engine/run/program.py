"""What is started: the GPUs, the command line and the environment of a trainer."""

from __future__ import annotations

import contextlib
import random
import socket

from engine.errors import Failed, Problem
from engine.i18n import _
from engine.machine import gpu
from engine.machine.devices import GpuId
from engine.machine.gpu import Gpu
from engine.worker.client import BOOTSTRAP, command
from engine.workspace import Workspace

STAGES = {
    "1": "deepspeed_zero1",
    "2": "deepspeed_zero2",
    "2_offload": "deepspeed_zero2_offload",
    "3": "deepspeed_zero3",
    "3_offload": "deepspeed_zero3_offload",
}


def devices(wanted: list[GpuId] | None) -> list[Gpu]:
    """The GPUs to use: those `wanted`, or the one with the most free memory; [] for the CPU.

    Raises `Problem` for one that is not there, is hidden (``CUDA_VISIBLE_DEVICES``) or is
    named twice, and for several that no run can have together.
    """
    if wanted is not None and not wanted:
        return []
    if twice := [one for one in wanted or [] if (wanted or []).count(one) > 1]:
        raise Problem(
            _("GPU {index} is named twice").format(index=twice[0]),
            _("Each process of a run has a GPU of its own."),
            _("Name each GPU once, in the order that the processes are to get them."),
        )
    seen = gpu.read()
    if wanted is None:
        best = max(seen.gpus, key=lambda one: one.free, default=None)
        return [] if best is None else [best]
    known = {one.id: one for one in seen.gpus}
    missing = [index for index in wanted if index not in known]
    if missing:
        raise Problem(
            _("There is no GPU {index}").format(index=missing[0]),
            gpu.instead(seen),
            _("`tunedeck gpus` shows what is there."),
        )
    chosen = [known[index] for index in wanted]
    if why := gpu.apart(chosen):
        raise Problem(
            _("One run cannot have these GPUs together"),
            why,
            _("Choose one instance, or GPUs that are not divided."),
        )
    return chosen


def stage(wanted: str | None, workspace: Workspace) -> str:
    """What XTuner's ``--deepspeed`` is to get: its name for a stage, a file, or ""."""
    if not wanted:
        return ""
    short = wanted.lower().removeprefix("deepspeed_").removeprefix("zero").replace("-", "_")
    if short.lstrip("_") in STAGES:
        return STAGES[short.lstrip("_")]
    if (path := workspace.resolve(wanted)).is_file():
        return str(path)
    raise Problem(
        _("{name} is no DeepSpeed stage").format(name=wanted),
        _("Known: {names}, or a DeepSpeed config file.").format(names=", ".join(STAGES)),
        _("Most runs want 2."),
    )


def trainer(python: str, arguments: list[str], count: int) -> list[str]:
    """The command that starts `count` processes of the trainer with `arguments`."""
    if count == 1:
        # Without torchrun: it starts six seconds sooner, and takes signals as usual.
        return command(python, "engine.train.entry", *arguments)
    # A port of its own, free now. Without the address the ranks look for this machine by its
    # name, and where nobody knows that (a container, often) wait until the time-out.
    here = ["--standalone", "--local-addr", "127.0.0.1"]
    return torchrun(python, here, count, arguments)


def torchrun(python: str, options: list[str], count: int, arguments: list[str]) -> list[str]:
    """torchrun with `options`, which starts `count` trainers on its node with `arguments`."""
    options = [*options, "--nproc-per-node", str(count), str(BOOTSTRAP)]
    return command(python, "torch.distributed.run", *options, "engine.train.entry", *arguments)


def env(gpus: list[Gpu], count: int, stage: str) -> dict[str, str]:
    """The variables that a start on this machine needs beside the user's own."""
    values = gpu.shown(gpus) if gpus else {"CUDA_VISIBLE_DEVICES": ""}
    if stage and count == 1:
        values |= alone() | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    return values | accelerator(stage, on_cpu=not gpus)


def alone() -> dict[str, str]:
    """Who a single process is: DeepSpeed without these asks MPI."""
    return {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}


def accelerator(stage: str, on_cpu: bool) -> dict[str, str]:
    """What DeepSpeed must be told about a machine without GPUs."""
    return {"DS_ACCELERATOR": "cpu"} if stage and on_cpu else {}


def free_port() -> int:
    """A port that nobody listens on now, below those that the system gives to clients."""
    for port in random.sample(range(20000, 30000), 50):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind(("", port))
                return port
    raise Failed(
        _("No port is free between {first} and {last}").format(first=20000, last=29999), "", ""
    )
