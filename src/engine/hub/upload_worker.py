"""The upload worker: huggingface_hub and modelscope_hub, given a folder.

``upload {path, source, name, public}`` → ``{url, files, bytes, public}``, with
``progress {done, total}`` in bytes on the way. Runs under the training interpreter.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from engine.hub import trouble
from engine.hub.repo import Repo
from engine.i18n import _
from engine.paths import user_cache
from engine.worker.serve import Cancelled, Emit, serve

_MESSAGE = "Upload with Tunedeck"
Tell = Callable[[int], None]


class Counted(io.BufferedReader):
    """A file that knows how far it was read: what a client sends of it, it reads first.

    (Given as a buffer, the client sends it over plain HTTP, in parts. Its newer way, Xet,
    takes paths alone and tells nobody how far it is.)
    """

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path))
        self.furthest = 0
        self.counts = False

    def read(self, size: int | None = -1, /) -> bytes:
        """Read, and note how far."""
        data = super().read(size)
        if self.counts:
            self.furthest = max(self.furthest, self.tell())
        return data


def _hugging_face(
    path: Path, files: list[Path], repo: Repo, public: bool, tell: Tell
) -> tuple[str, bool]:
    """Upload to Hugging Face; the repository's page, and whether it is public."""
    from huggingface_hub import CommitOperationAdd, HfApi, constants

    api = HfApi()
    api.create_repo(repo.name, private=not public, exist_ok=True)
    opened = [Counted(one) for one in files]
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.2):
            tell(sum(one.furthest for one in opened))

    watcher = threading.Thread(target=watch, daemon=True)
    try:
        adds = [  # reads each file once, to hash it
            CommitOperationAdd(one.relative_to(path).as_posix(), file)
            for one, file in zip(files, opened, strict=True)
        ]
        for file in opened:
            file.counts = True
        watcher.start()
        # What the hub has already is not asked for again.
        api.create_commit(repo.name, adds, commit_message=_MESSAGE)
        return f"{constants.ENDPOINT}/{repo.name}", not api.repo_info(repo.name).private
    finally:
        over.set()
        for file in opened:
            file.close()


def _modelscope(
    path: Path, _files: list[Path], repo: Repo, public: bool, tell: Tell
) -> tuple[str, bool]:
    """Upload to ModelScope; the repository's page, and whether it is public."""
    from modelscope_hub.api import HubApi
    from modelscope_hub.constants import Visibility

    api = HubApi()
    if not api.repo_exists(repo.name, "model"):
        api.create_repo(repo.name, "model", visibility="public" if public else "private")
    # Its notes on what has arrived would else lie in the model's folder.
    notes = user_cache() / "tunedeck" / "uploads" / repo.name.replace("/", "--")
    api.upload_folder(
        repo.name,
        "model",
        path,
        commit_message=_MESSAGE,
        ignore_patterns=[".*", "*/.*"],
        disable_tqdm=True,
        tracker_path=notes,
        progress_callback=lambda event: tell(int(event.get("committed_bytes") or 0)),
    )
    seen = api.get_repo(repo.name, "model").visibility
    site = api.resolve_endpoint_for_read(repo.name, repo_type="model")
    return f"{site}/models/{repo.name}", seen == Visibility.PUBLIC


_HUBS = {"hf": _hugging_face, "ms": _modelscope}


def upload(request: Mapping[str, Any], emit: Emit, _stop: Cancelled) -> dict[str, Any]:
    """Put a folder's files on a hub."""
    path, repo = Path(request["path"]), Repo(request["source"], request["name"])
    files = sorted(one for one in path.rglob("*") if one.is_file() and one.name[0] != ".")
    total = sum(one.stat().st_size for one in files)

    def tell(done: int) -> None:
        emit("progress", done=min(done, total), total=total)

    what = _("Cannot upload {repo} to {hub}").format(repo=repo.name, hub=repo.where)
    with trouble.explained(repo, "model", what):
        page, public = _HUBS[repo.source](path, files, repo, request["public"], tell)
    tell(total)
    return {"url": page, "files": len(files), "bytes": total, "public": public}


if __name__ == "__main__":
    serve({"upload": upload})
