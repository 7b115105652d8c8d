"""The processes that train side by side under torchrun: how they meet, and what they tell.

What they tell goes through torchrun's store and not through the collectives that training
uses: in one of those the others may be waiting for a rank that has failed.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import torch

PATIENCE = 30.0
"""Seconds that a rank with an error waits for the others: longer, and they wait for it."""
_LONG = timedelta(minutes=10).total_seconds()
"""Seconds that a rank waits for the others which has none to tell."""
_OVER = "tunedeck/over"
_meetings = 0


class GivenUp(Exception):
    """A plan cannot go on; every rank knows, and the next one may begin."""


class Stuck(Exception):
    """The other ranks do not come: they are ended from outside (exit status `ENDED`)."""


ENDED = 3
"""The exit status with which a rank has torchrun end the others."""


def count() -> int:
    """How many processes train side by side: torchrun says it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def own() -> int:
    """Which of them this one is."""
    return int(os.environ.get("RANK", "0"))


def begin(device: str) -> None:
    """Meet the other processes, where there are any; alone, a plan of DeepSpeed's does it."""
    if count() > 1:
        join(device)
        torch.distributed.barrier()  # what NCCL takes is there before the first plan


def agreed(mine: bool) -> bool:
    """What the first process says: all go on, or none does."""
    return bool(_told({"go": mine})[0]["go"])


@contextlib.contextmanager
def all_or_none() -> Iterator[None]:
    """What fails inside on one rank has failed on all: `GivenUp` is raised on each."""
    try:
        yield
    except Exception as error:
        _told({"error": words(error)})
        raise GivenUp(words(error)) from error
    for rank, one in enumerate(_told({})):
        if "error" in one:
            raise GivenUp(f"rank {rank}: {one['error']}")


def of_all(facts: dict[str, Any]) -> dict[str, Any]:
    """The facts of the process that held most, with the peaks of all above what was there before;
    the first error of any, and in ``broken`` the ranks that had one."""
    if count() == 1:
        return facts
    told = _told(facts)
    broken = [rank for rank, one in enumerate(told) if "error" in one]
    most = max(told, key=lambda one: one.get("peak", 0) - one["before"])
    found = told[broken[0]] if broken else most
    peaks = [one.get("peak", 0) - one["before"] for one in told]
    return {**found, "peaks": peaks, **({"broken": broken} if broken else {})}


def words(error: BaseException) -> str:
    """An error in one line of JSON."""
    return f"{type(error).__name__}: {error}"[:600]


def join(device: str) -> None:
    """Meet the other processes; alone, as torchrun would have set it up for one."""
    if torch.distributed.is_initialized():
        return
    if "RANK" not in os.environ:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        names = {"RANK": 0, "LOCAL_RANK": 0, "WORLD_SIZE": 1, "MASTER_PORT": port}
        os.environ |= {name: str(value) for name, value in names.items()}
        os.environ["MASTER_ADDR"] = "127.0.0.1"
    from mmengine.dist import init_dist
    from xtuner.parallel.sequence import init_sequence_parallel

    init_dist("pytorch", "nccl" if device == "cuda" else "gloo", init_backend="deepspeed")
    init_sequence_parallel(1)


def _told(mine: dict[str, Any]) -> list[dict[str, Any]]:
    """What every rank says at this point, in their order; each says something.

    Raises `Stuck` when one has an error to tell and the others do not come to hear it.
    """
    global _meetings
    if count() == 1:
        return [mine]
    _meetings += 1
    store = torch.distributed.distributed_c10d._get_default_store()
    names = [f"tunedeck/{_meetings}/{rank}" for rank in range(count())]
    store.set(names[own()], json.dumps(mine))
    end = time.monotonic() + (PATIENCE if "error" in mine else _LONG)
    while not store.check(names):  # asked, not waited for: a wait keeps others from the store
        if time.monotonic() > end:
            store.set(_OVER, "")
            raise Stuck(mine.get("error", "the other ranks do not come"))
        time.sleep(0.05)
    if store.check([_OVER]):  # it has been told, and torchrun ends this one in a moment
        os._exit(ENDED)
    return [json.loads(store.get(name)) for name in names]
