"""A config as the trainer would see it, loaded in a worker that may be lost."""

from __future__ import annotations

import math
import os
import signal
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine.config.checks.wiring import Wiring
from engine.errors import Failed
from engine.settings import Settings
from engine.worker.client import WorkerClient

MODULE = "engine.config.checks.load_worker"
TIMEOUT = 10.0
"""Seconds of a config's own running after which it is called hung."""
_ALONE = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
"""Threads reserve address space, of which the worker has little."""


class TimedOut(Failed):
    """The config did not finish loading in `TIMEOUT` seconds."""


class Died(Failed):
    """The config ended the process that loaded it."""


class Loaded:
    """A config's values. An object that it only names is ``{"$ref": "module:name"}``."""

    def __init__(self, answer: Mapping[str, Any], text: str = "") -> None:
        self.error: Mapping[str, Any] | None = answer.get("error")
        """``kind``, ``text``, ``line``, ``near``, ``details`` when it did not load."""
        self.values: Mapping[str, Any] = answer.get("values", {})
        self.wrong: list[dict[str, Any]] = answer.get("wrong", [])
        """Names and keys that the libraries do not know (see `load_worker`)."""
        self.columns: list[str] | None = answer.get("columns")
        self.template: Mapping[str, Any] | None = answer.get("template")
        self.versions: Mapping[str, str | None] = answer.get("versions", {})
        """Packages of the training interpreter; None for one that is not there."""
        self.wiring = Wiring(text)

    def get(self, key: str, default: Any = None) -> Any:
        """The value at a dotted key; list members by number."""
        value: Any = self.values
        for part in key.split("."):
            if isinstance(value, Mapping) and part in value:
                value = value[part]
            elif isinstance(value, list) and part.isdigit() and int(part) < len(value):
                value = value[int(part)]
            else:
                return default
        return value

    def setting(self, key: str) -> str:
        """The name under which a person sets the value at `key` (see `Wiring.setting`)."""
        return self.wiring.setting(key)

    def number(self, key: str, default: float) -> float:
        """The number at `key`; `default` where there is none, or one that nothing can count."""
        value = self.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return default
        return value if math.isfinite(value) else default

    def name(self, key: str) -> str:
        """The last name of the class or function at `key` ("LoraConfig"), or ""."""
        value = self.get(key)
        if isinstance(value, Mapping) and "$ref" in value:
            return str(value["$ref"]).rpartition(":")[2]
        return value if isinstance(value, str) else ""


def load(
    path: Path,
    settings: Settings,
    timeout: float | None = None,
    worker: WorkerClient | None = None,
) -> Loaded:
    """Load the config at `path` under the training interpreter; about 0.8 s.

    With a warm `worker` (see `warm`) 20 to 50 ms. What is wrong inside the
    config is in the result's ``error``. Raises `TimedOut` for one that hangs,
    `Died` for one
    that ends its process, `Failed` for a worker that cannot run (no mmengine).
    """
    if worker is not None:
        return _ask(worker, path, timeout or TIMEOUT)
    with warm(settings) as own:
        return _ask(own, path, timeout or TIMEOUT)


def warm(settings: Settings) -> WorkerClient:
    """A worker to keep for `load`; close it in the end. It starts at the first use."""
    return WorkerClient(MODULE, settings, _ALONE)


def _ask(worker: WorkerClient, path: Path, timeout: float) -> Loaded:
    clock: threading.Timer | None = None
    try:
        for event in worker.ask("load", path=str(path.resolve())):
            if event["event"] == "loading":
                clock = _kill_after(worker, timeout)
        return Loaded(event, path.read_text(encoding="utf-8"))
    except Failed as failed:
        if clock is None:  # the config had not begun
            raise
        kind = Died if clock.is_alive() else TimedOut
        raise kind(failed.what, failed.why, failed.todo, failed.details) from failed
    finally:
        if clock is not None:
            clock.cancel()


def _kill_after(worker: WorkerClient, seconds: float) -> threading.Timer:
    pid = worker.pid

    def kill() -> None:
        if pid is not None and worker.pid == pid:
            # Its group: what a config starts goes with it.
            os.killpg(pid, signal.SIGKILL)

    clock = threading.Timer(seconds, kill)
    clock.daemon = True
    clock.start()
    return clock
