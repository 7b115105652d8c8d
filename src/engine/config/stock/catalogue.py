"""The configs that ship with XTuner and with Tunedeck, and the workspace's own.

For a dialog: `load` gives the entries, `searching.search` ranks them for what
was typed, `searching.facets` counts what they can be narrowed by, and
`searching.preview` says what a person wants to know of one.
"""

from __future__ import annotations

import ast
import difflib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec
import platformdirs

from engine import files, resources
from engine.config import packages
from engine.config.stock.entry import OWN, TUNEDECK, XTUNER, Entry
from engine.errors import Problem
from engine.i18n import _
from engine.paths import expanded
from engine.settings import Settings
from engine.workspace import Workspace

_READERS = ("reading.py", "../families.py", "outline.py", "entry.py")
"""The modules that decide what is told of a config: when one changes, all is read anew."""


class _Seen(msgspec.Struct):
    """What was read of a file, while it is `size` bytes and of the time `changed` (ns)."""

    changed: int
    size: int
    entry: Entry | None


class _Cache(msgspec.Struct):
    readers: list[int]
    files: dict[str, _Seen]


class _Shelf(NamedTuple):
    """A folder of configs; `label` names its cache file, "" keeps none."""

    folder: Path
    source: str
    label: str


def load(settings: Settings, workspace_root: Path | None = None) -> list[Entry]:
    """All configs, by name: the workspace's own, Tunedeck's, XTuner's; the first of a name wins.

    Without XTuner in the training interpreter only the first two are there. What
    was read of a file is kept in the user's cache folder: the first call with a
    release of XTuner takes about two seconds, later ones some ten milliseconds.
    """
    found: dict[str, Entry] = {}
    for shelf in _shelves(settings, workspace_root):
        for entry in _entries(shelf):
            found.setdefault(entry.name, entry)
    return sorted(found.values(), key=lambda entry: entry.name)


def _shelves(settings: Settings, workspace_root: Path | None) -> Iterator[_Shelf]:
    if workspace_root is not None:
        yield _Shelf(Workspace(workspace_root).configs, OWN, "")
    yield _Shelf(resources.configs(), TUNEDECK, "tunedeck")
    xtuner = packages.folder("xtuner", settings)
    if xtuner is not None:
        version = packages.version("xtuner", settings)
        yield _Shelf(xtuner / "configs", XTUNER, f"xtuner-{version}")


def _configs(folder: Path) -> Iterator[os.DirEntry[str]]:
    """Every Python file below `folder` but hidden and private ones, in a fixed order."""
    try:
        inside = sorted(os.scandir(folder), key=lambda one: one.name)
    except OSError:
        return
    for one in inside:
        if one.name.startswith(("_", ".")):
            continue
        if one.is_dir():
            yield from _configs(Path(one.path))
        elif one.name.endswith(".py"):
            yield one


def _entries(shelf: _Shelf) -> Iterator[Entry]:
    store = _store(shelf)
    readers = [(Path(__file__).parent / name).stat().st_mtime_ns for name in _READERS]
    known = _kept(store, readers) if store else {}
    seen: dict[str, _Seen] = {}
    for one in _configs(shelf.folder):
        try:
            now = one.stat()
        except OSError:
            continue
        before = known.get(one.path)
        if before is None or (before.changed, before.size) != (now.st_mtime_ns, now.st_size):
            from engine.config.stock.reading import read  # only for what is new

            before = _Seen(now.st_mtime_ns, now.st_size, read(Path(one.path), shelf.source))
        seen[one.path] = before
    if store and seen != known:
        _keep(store, _Cache(readers, seen))
    yield from (one.entry for one in seen.values() if one.entry is not None)


def _store(shelf: _Shelf) -> Path | None:
    """The cache file of a shelf: two environments may hold the same release."""
    if not shelf.label:
        return None
    mark = hashlib.sha256(os.fsencode(shelf.folder)).hexdigest()[:8]
    return platformdirs.user_cache_path("tunedeck") / "catalogue" / f"{shelf.label}-{mark}.json"


def _kept(store: Path, readers: list[int]) -> dict[str, _Seen]:
    try:
        cache = msgspec.json.decode(store.read_bytes(), type=_Cache, dec_hook=_path)
    except (OSError, msgspec.MsgspecError):
        return {}
    return cache.files if cache.readers == readers else {}


def _path(kind: type, value: str) -> Path:
    return Path(value)


def _keep(store: Path, cache: _Cache) -> None:
    try:
        with files.replacing(store) as file:
            file.write(msgspec.json.encode(cache, enc_hook=str))
    except (OSError, Problem):
        pass  # a home that cannot be written to costs time, nothing else


def find(name: str, settings: Settings, workspace_root: Path | None = None) -> Path:
    """The config that `name` means: a path, or a name of the catalogue. Raises `Problem`."""
    path = expanded(name)
    if path.suffix == ".py" or "/" in name:
        if path.is_file():
            return path
        raise Problem(
            _("Cannot read the config {path}").format(path=path),
            _("It is a folder.") if path.is_dir() else _("There is no such file."),
            ways=("catalogue",),
        )
    names = []
    for shelf in _shelves(settings, workspace_root):
        for one in _configs(shelf.folder):
            if one.name == f"{name}.py":
                return Path(one.path)
            names.append(one.name.removesuffix(".py"))
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.7)
    raise Problem(
        _("The catalogue has no config {name}").format(name=name),
        _("Did you mean {name}?").format(name=", ".join(near)) if near else "",
        ways=("catalogue",),
    )


def deepspeed(settings: Settings) -> dict[str, Path]:
    """The DeepSpeed settings that XTuner knows by name ("deepspeed_zero2"), and their files."""
    xtuner = packages.folder("xtuner", settings)
    if xtuner is None:
        return {}
    return {path.stem: path for path in sorted((xtuner / "configs").rglob("*.json"))}


def templates(settings: Settings) -> list[str]:
    """The names of XTuner's prompt templates; empty when XTuner is not there."""
    xtuner = packages.folder("xtuner", settings)
    if xtuner is None:
        return []
    try:
        tree = ast.parse((xtuner / "utils" / "templates.py").read_text(encoding="utf-8"))
    except (OSError, SyntaxError):
        return []
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
            names = [one.id for one in node.targets if isinstance(one, ast.Name)]
            if names == ["PROMPT_TEMPLATE"]:
                return [one.arg for one in node.value.keywords if one.arg is not None]
    return []
