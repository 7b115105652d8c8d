"""Fetch from a hub: the app's end.

The clients themselves (huggingface_hub, modelscope_hub) run in a worker under the
training interpreter, where they are anyway. What was fetched lies in their caches,
shared with everything else that uses them; an interrupted download goes on where it was.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine.errors import Failed
from engine.hub.repo import Repo
from engine.i18n import _
from engine.settings import Settings
from engine.worker.client import WorkerClient

WORKER = "engine.hub.worker"
Progress = Callable[[int, int], None]
"""Bytes on the disk, bytes in all."""
Cancelled = Callable[[], bool]


def dataset(
    repo: Repo,
    *,
    settings: Settings,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> list[Path]:
    """The local files with the training rows of a dataset, fetched where they are not here yet.

    Where the hub cannot be reached, those that were fetched the last time, if all are here.
    Raises `Failed` when the hub or the repository cannot be reached, is not there or
    is closed, when the disk is full, and when cancelled; `Problem` when it holds no rows.
    """
    done = _fetch(settings, progress, cancelled, do="dataset", repo=repo)
    return [Path(path) for path in done["paths"]]


def model(
    repo: Repo,
    *,
    settings: Settings,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> Path:
    """The local folder of a model, fetched where it is not here yet. Raises as `dataset` does."""
    return Path(_fetch(settings, progress, cancelled, do="model", repo=repo)["path"])


def _fetch(
    settings: Settings,
    progress: Progress | None,
    cancelled: Cancelled | None,
    *,
    do: str,
    repo: Repo,
) -> dict[str, Any]:
    with WorkerClient(WORKER, settings) as client:
        over = threading.Event()
        if cancelled is not None:
            # A client waits for bytes and asks nobody: it is ended from outside.
            threading.Thread(target=_watch, args=(client, cancelled, over), daemon=True).start()
        try:
            asked = {"source": repo.source, "name": repo.name, "revision": repo.revision}
            for message in client.ask(do, **asked):
                if message["event"] == "done":
                    return message
                if message["event"] == "progress" and progress is not None:
                    progress(message["done"], message["total"])
        except Failed:
            if cancelled is not None and cancelled():
                raise Failed(
                    _("The download of {repo} was stopped").format(repo=repo),
                    todo=_("Start it again and it goes on where it was."),
                ) from None
            raise
        finally:
            over.set()
    raise AssertionError("a worker's answers end with done")


def _watch(client: WorkerClient, cancelled: Cancelled, over: threading.Event) -> None:
    while not over.wait(0.2):
        if cancelled():
            client.stop()
            return
