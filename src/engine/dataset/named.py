"""What a person means by a dataset's name: files, a folder, or a dataset on a hub."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from engine.dataset.files import sniff
from engine.dataset.files.offsets import Cancelled, Progress
from engine.hub import client
from engine.hub.repo import parse
from engine.paths import expanded
from engine.settings import Settings


def files(
    names: Sequence[Path | str],
    *,
    settings: Settings,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> Path | list[Path]:
    """What `Dataset.open` takes for `names`; a dataset on a hub is fetched first.

    ``owner/name`` is a path where there is such a path, or such a folder, or when it
    ends like a dataset file (a name mistyped); the hub's dataset else.
    `progress` gets bytes. Raises what `engine.hub.client.dataset` raises; whether
    the files can be read is not asked here.
    """
    if len(names) != 1:
        return [expanded(name) for name in names]
    path = expanded(names[0])
    local = path.exists() or path.parent.is_dir() or sniff.family(path) != ""
    repo = None if local else parse(str(names[0]))
    if repo is None:
        return path
    fetched = client.dataset(repo, settings=settings, progress=progress, cancelled=cancelled)
    return fetched[0] if len(fetched) == 1 else fetched
