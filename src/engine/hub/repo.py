"""What a person calls a dataset or a model on a hub, and which of its files are wanted."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from engine.errors import Problem
from engine.i18n import _

SOURCES = {"hf": "Hugging Face", "ms": "ModelScope"}
DATA = (".json", ".jsonl", ".csv", ".tsv", ".parquet", ".arrow", ".txt")
"""Names that a dataset's rows may have, also with `PACKED` behind them."""
PACKED = (".gz", ".zst")
_NAME = r"[\w][\w.-]*"
_REPO = re.compile(
    rf"(?:(?P<source>hf|ms):/{{0,2}})?(?:datasets/)?"
    rf"(?P<name>{_NAME}/{_NAME})(?:@(?P<revision>[\w./-]+))?"
)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_CACHED = (
    (re.compile(r"/datasets--(?P<name>[^/]+--[^/]+)/snapshots/(?P<revision>[^/]+)/"), "hf", "--"),
    (re.compile(r"/datasets--(?P<name>[^/]+--[^/]+)/blobs/"), "hf", "--"),  # a snapshot's links
    (re.compile(r"/datasets/(?P<name>[^/]+--[^/]+)/snapshots/(?P<revision>[^/]+)/"), "ms", "--"),
    # ModelScope's client up to 1.37, whose cache later ones go on with.
    (re.compile(r"/modelscope/(?:hub/)?datasets/(?P<name>[^/]+/[^/]+)/"), "ms", "/"),
)
"""Where the hubs' clients put the files of a dataset, and what stands between owner and name."""
_OTHER_SPLITS = ("test", "valid", "validation", "val", "dev", "eval")


@dataclass(frozen=True)
class Repo:
    """A repository on a hub: `source` is a key of `SOURCES`, `name` is ``owner/name``."""

    source: str
    name: str
    revision: str | None = None

    def __str__(self) -> str:
        revision = f"@{self.revision}" if self.revision else ""
        return f"{self.source}:{self.name}{revision}"

    @property
    def where(self) -> str:
        """The hub's own name, for people."""
        return SOURCES[self.source]

    @property
    def short(self) -> str:
        """What it is called where there is little room: of a commit the first 8 digits."""
        commit = self.revision and _COMMIT.fullmatch(self.revision)
        return str(replace(self, revision=self.revision[:8]) if commit and self.revision else self)


def parse(text: str) -> Repo | None:
    """The repository that `text` names: ``owner/name``, ``ms:owner/name``, ``hf:owner/name@rev``.

    Without a source it is Hugging Face's. None for anything else; whether a bare
    ``owner/name`` is not rather a path is for the caller to see first.
    """
    found = _REPO.fullmatch(text.strip())
    if found is None:
        return None
    return Repo(found["source"] or "hf", found["name"], found["revision"])


def cached(path: Path) -> Repo | None:
    """The repository whose file a hub's client has put at `path`; None for any other file.

    The path alone says it: no disk is asked. The revision is what was fetched, for
    Hugging Face a commit; None for ModelScope's ``master``.
    """
    for layout, source, between in _CACHED:
        if found := layout.search(f"{path}/"):
            groups = found.groupdict()
            name = groups["name"].replace(between, "/", 1).replace("___", ".")
            revision = groups.get("revision")
            return Repo(source, name, None if revision == "master" else revision)
    return None


def training_files(names: Sequence[str], declared: Sequence[str] = ()) -> list[str]:
    """The files with the training rows, among a dataset repository's `names`.

    `declared` are the patterns that its card gives for the split ``train``. Without
    them: the files named after that split, else all that are not named after another.
    Of the same rows in several formats one is taken, in the order of `DATA` reversed:
    Parquet before JSON.
    """
    data = [name for name in names if _suffix(name) is not None]
    if declared:
        chosen = [name for name in data if any(fnmatch.fnmatch(name, one) for one in declared)]
    else:
        train = [name for name in data if "train" in _words(name)]
        chosen = train or [name for name in data if not _words(name).intersection(_OTHER_SPLITS)]
    formats = {_suffix(name) for name in chosen}
    best = next((suffix for suffix in _PREFERRED if suffix in formats), None)
    return sorted(name for name in chosen if _suffix(name) == best)


_PREFERRED = (".parquet", ".jsonl", ".json", ".csv", ".tsv", ".arrow", ".txt")


def _suffix(name: str) -> str | None:
    path = PurePosixPath(name.lower())
    if path.name.startswith(".") or path.name in ("dataset_infos.json", "dataset_info.json"):
        return None
    if path.suffix in PACKED:
        path = path.with_suffix("")
    return path.suffix if path.suffix in DATA and path.name != "requirements.txt" else None


def _words(name: str) -> set[str]:
    return set(re.split(r"[^a-z]+", name.lower()))


def no_rows(repo: Repo, names: Sequence[str]) -> Problem:
    """The error for a repository none of whose files holds rows that can be read."""
    shown = ", ".join(sorted(names)[:8]) or _("none")
    return Problem(
        _("{repo} holds no dataset file that can be read").format(repo=repo),
        _("Its files are: {names}.").format(names=shown),
        _("Datasets made by a script of their own have to be saved as JSON or Parquet first."),
    )
