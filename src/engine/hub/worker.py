"""The hub worker: huggingface_hub and modelscope_hub, asked for whole repositories.

Requests (see `engine.worker.serve`):

``dataset {source, name, revision}`` → ``{paths}``
``model {source, name, revision}`` → ``{path}``

Both send ``progress {done, total}``, in bytes.
"""

from __future__ import annotations

import contextlib
import fnmatch
import glob
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from engine.hub import fetched, trouble
from engine.hub.repo import Repo, no_rows, training_files
from engine.i18n import _
from engine.worker.serve import Cancelled, Emit, serve

ATTEMPTS = 4
"""Times that one file is tried; each goes on where the last was cut off."""
PIECE = 1 << 19
"""Bytes that Hugging Face's client writes at once. Its own 10 MiB would show nothing for minutes
on a slow line, and a line that breaks would lose them."""
NOT_WANTED = ("original/*", "*.pth", "*.gguf", "*.onnx", "*.h5", "*.msgpack", "*.ot")
"""In a model's repository: the same weights once more, for other libraries."""


class Hub(Protocol):
    """What the worker asks of a hub's client."""

    def files(self) -> dict[str, int]:
        """The repository's files and their bytes."""

    def declared(self) -> Sequence[str]:
        """The patterns that the dataset's card gives for the split ``train``."""

    def fetch(self, names: Sequence[str]) -> Path:
        """Fetch these files, or go on with them; the local folder that holds them."""

    def arrived(self) -> int:
        """Bytes of this repository on the disk, of files in progress too."""


class HuggingFace:
    """A repository of Hugging Face's, or of the mirror in ``HF_ENDPOINT``."""

    def __init__(self, repo: Repo, kind: str) -> None:
        from huggingface_hub import HfApi

        self._repo, self._kind = repo, kind
        self._info = HfApi().repo_info(
            repo.name, repo_type=kind, revision=repo.revision, files_metadata=True
        )

    def files(self) -> dict[str, int]:
        """See `Hub`."""
        return {one.rfilename: one.size or 0 for one in self._info.siblings or ()}

    def declared(self) -> Sequence[str]:
        """See `Hub`."""
        card = self._info.card_data
        configs = (card.get("configs") if card is not None else None) or []
        chosen = next((one for one in configs if one.get("default")), configs[0] if configs else {})
        files = chosen.get("data_files", [])
        if isinstance(files, str):
            return [files]
        found: list[str] = []
        for one in files:
            if isinstance(one, str):
                found.append(one)
            elif one.get("split") == "train":
                path = one.get("path", [])
                found += [path] if isinstance(path, str) else path
        return found

    def fetch(self, names: Sequence[str]) -> Path:
        """See `Hub`."""
        from huggingface_hub import constants, snapshot_download

        if not constants.HF_HUB_ENABLE_HF_TRANSFER:  # to that one it is the size of each request
            constants.DOWNLOAD_CHUNK_SIZE = PIECE
        folder = snapshot_download(
            self._repo.name,
            repo_type=self._kind,
            revision=self._info.sha,
            allow_patterns=[glob.escape(name) for name in names],
        )
        return Path(folder)

    def arrived(self) -> int:
        """See `Hub`."""
        from huggingface_hub import constants
        from huggingface_hub.file_download import repo_folder_name

        name = repo_folder_name(repo_id=self._repo.name, repo_type=self._kind)
        return _bytes_below(Path(constants.HF_HUB_CACHE) / name / "blobs")


class ModelScope:
    """A repository of ModelScope's (``MODELSCOPE_ENDPOINT`` names another server)."""

    def __init__(self, repo: Repo, kind: str) -> None:
        from modelscope_hub.api import HubApi

        self._repo, self._kind = repo, kind
        found = HubApi()
        self._api = HubApi(endpoint=found.resolve_endpoint_for_read(repo.name, repo_type=kind))
        self._arrived = 0

    def files(self) -> dict[str, int]:
        """See `Hub`."""
        listed = self._api.list_repo_files(
            self._repo.name, self._kind, revision=self._repo.revision
        )
        return {one.path: one.size or 0 for one in listed if not one.is_dir}

    def declared(self) -> Sequence[str]:
        """See `Hub`."""
        return ()

    def fetch(self, names: Sequence[str]) -> Path:
        """See `Hub`."""
        from modelscope_hub._download import ProgressCallback

        hub, before = self, self._arrived

        class Count(ProgressCallback):
            def update(self, size: int) -> None:
                hub._arrived += size

        try:
            return Path(
                self._api.download_repo(
                    self._repo.name,
                    self._kind,
                    revision=self._repo.revision,
                    allow_patterns=[glob.escape(name) for name in names],
                    progress_callbacks=[Count],
                )
            )
        except BaseException:
            self._arrived = before  # the next attempt counts what is there already
            raise

    def arrived(self) -> int:
        """See `Hub`."""
        return self._arrived


HUBS: dict[str, Callable[[Repo, str], Hub]] = {"hf": HuggingFace, "ms": ModelScope}


def dataset(request: Mapping[str, Any], emit: Emit, _stop: Cancelled) -> dict[str, Any]:
    """The training rows' files of a dataset; those of the last time where no hub is reached."""
    repo = _repo(request)
    with trouble.explained(repo, "dataset", _cannot(repo)):
        try:
            hub = HUBS[repo.source](repo, "dataset")
            sizes = hub.files()
        except Exception as error:
            paths = fetched.known(repo) if trouble.unreachable(error) else []
            if not paths:
                raise
        else:  # the hub has another version, perhaps: the old one is not what it has
            paths = _training_files(repo, hub, sizes, emit)
            fetched.keep(repo, paths)
    return {"paths": [str(path) for path in paths]}


def _training_files(repo: Repo, hub: Hub, sizes: Mapping[str, int], emit: Emit) -> list[Path]:
    names = training_files(list(sizes), hub.declared())
    if not names:
        raise no_rows(repo, list(sizes))
    folder = _fetch(hub, {name: sizes[name] for name in names}, emit)
    return [folder / name for name in names]


def model(request: Mapping[str, Any], emit: Emit, _stop: Cancelled) -> dict[str, Any]:
    """A model's folder: configuration, tokenizer and weights."""
    repo = _repo(request)
    with trouble.explained(repo, "model", _cannot(repo)):
        hub = HUBS[repo.source](repo, "model")
        sizes = hub.files()
        wanted = {
            name: size
            for name, size in sizes.items()
            if not any(fnmatch.fnmatch(name, pattern) for pattern in NOT_WANTED)
        }
        if any(name.endswith(".safetensors") for name in wanted):  # once is enough
            wanted = {name: size for name, size in wanted.items() if not name.endswith(".bin")}
        folder = _fetch(hub, wanted, emit)
    return {"path": str(folder)}


def _cannot(repo: Repo) -> str:
    return _("Cannot fetch {repo} from {hub}").format(repo=repo.name, hub=repo.where)


def _repo(request: Mapping[str, Any]) -> Repo:
    return Repo(request["source"], request["name"], request["revision"])


def _fetch(hub: Hub, sizes: Mapping[str, int], emit: Emit) -> Path:
    """Fetch the files, with progress; what breaks off is gone on with a few times."""
    total = sum(sizes.values())
    over = threading.Event()

    def tell() -> None:
        while not over.wait(0.25):
            emit("progress", done=min(hub.arrived(), total), total=total)

    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    try:
        folder = _persist(lambda: hub.fetch(list(sizes)))
    finally:
        over.set()
        teller.join()
    emit("progress", done=total, total=total)
    return folder


def _persist(fetch: Callable[[], Path], attempt: int = 1) -> Path:
    try:
        return fetch()
    except Exception as error:
        if attempt == ATTEMPTS or not trouble.broke_off(error):
            raise
    time.sleep(attempt)
    return _persist(fetch, attempt + 1)


def _bytes_below(folder: Path) -> int:
    total = 0
    for path in folder.glob("*"):
        with contextlib.suppress(OSError):  # renamed when complete
            total += path.stat().st_size
    return total


if __name__ == "__main__":
    serve({"dataset": dataset, "model": model})
