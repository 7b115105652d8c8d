"""Put a folder on a hub: the app's end.

The clients run in a worker under the training interpreter (`engine.hub.upload_worker`).
What has arrived is not sent again: an upload that broke off goes on.
"""

from __future__ import annotations

import threading
from pathlib import Path

import msgspec

from engine.errors import Failed, Problem
from engine.hub.client import Cancelled, Progress
from engine.hub.repo import Repo, parse
from engine.i18n import _
from engine.settings import Settings
from engine.worker.client import WorkerClient

WORKER = "engine.hub.upload_worker"


class Uploaded(msgspec.Struct, frozen=True):
    """What was put on a hub: the repository's page, and whether anybody may see it."""

    url: str
    files: int
    bytes: int
    public: bool


def target(text: str) -> Repo:
    """The repository that a person means: ``hf:me/name``, ``ms:me/name``, ``me/name``.

    Raises `Problem` for anything else.
    """
    found = parse(text)
    if found is None or found.revision:
        raise Problem(
            _("{text} is not a repository").format(text=text),
            _("It needs an owner and a name."),
            _("Write hf:owner/name for Hugging Face, ms:owner/name for ModelScope."),
        )
    return found


def folder(
    path: Path,
    repo: Repo,
    *,
    settings: Settings,
    public: bool = False,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> Uploaded:
    """Put the files in `path` into the model repository `repo`, which is made if need be.

    Args:
        path: the folder.
        repo: where to.
        settings: say which interpreter has the hub's client.
        public: whether a repository that is made now may be seen by everybody.
            One that exists keeps what it is.
        progress: told bytes that have arrived, bytes in all.
        cancelled: asked often; what has arrived until then is kept by the hub.

    Raises `Failed` when the hub refuses or cannot be reached, and when cancelled.
    """
    with WorkerClient(WORKER, settings) as client:
        over = threading.Event()
        if cancelled is not None:
            threading.Thread(target=_watch, args=(client, cancelled, over), daemon=True).start()
        try:
            for message in client.ask(
                "upload", path=str(path), source=repo.source, name=repo.name, public=public
            ):
                if message["event"] == "progress" and progress is not None:
                    progress(message["done"], message["total"])
        except Failed:
            if cancelled is not None and cancelled():
                raise Failed(
                    _("The upload was cancelled"),
                    "",
                    _("What has arrived is kept: the same again goes on from there."),
                ) from None
            raise
        finally:
            over.set()
        return msgspec.convert(
            {name: message[name] for name in Uploaded.__struct_fields__}, Uploaded
        )


def _watch(client: WorkerClient, cancelled: Cancelled, over: threading.Event) -> None:
    while not over.wait(0.1):
        if cancelled():
            client.stop()
            return
