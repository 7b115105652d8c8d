"""Runs one after the other: their names, the user's notes on them, the trash, a list in order."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from engine import files
from engine.errors import Problem
from engine.i18n import N_, _
from engine.run import checkpoints, notes, planning, queue, state
from engine.run.bin import Trashed, empty, restore, size, trash, trashed
from engine.run.folder import RunFolder, RunSummary
from engine.run.notes import Notes
from engine.run.rest import at_rest, links_to, refuse_in_use, refuse_taken
from engine.run.state import Word
from engine.workspace import Workspace

__all__ = [
    "ORDERS",
    "Trashed",
    "archive",
    "empty",
    "note",
    "ordered",
    "refuse_in_use",
    "rename",
    "restore",
    "search",
    "size",
    "tag",
    "trash",
    "trashed",
]

ORDERS = {
    "created": N_("newest first"),
    "name": N_("by name"),
    "loss": N_("lowest loss first"),
    "state": N_("by state"),
    "steps": N_("most steps first"),
    "ended": N_("last ended first"),
}
"""What `ordered` can order by, in words."""


def rename(workspace: Workspace, run: RunFolder, name: str) -> RunFolder:
    """Give a run that is at rest another name.

    Its folder gets it too; one that lies elsewhere stays where it is, and its
    link in ``runs/`` is renamed. Raises `Problem` when the name cannot be had,
    or the run is in use.
    """
    planning.check_name(name)
    links = links_to(workspace, run)
    places = {entry: entry.with_name(name) for entry in links or [run.path]}
    for place in {*places.values(), workspace.runs / name} - places.keys():
        refuse_taken(place)
    path = run.path if links else run.path.with_name(name)
    with files.in_words(_("Cannot rename the run {name}").format(name=run.name)), at_rest(run):
        try:
            for entry, place in places.items():
                entry.rename(place)
            queue.moved(workspace, run.path, path)
            if run.record is not None:
                record = msgspec.structs.replace(run.record, run=name)
                files.write_json(path / state.RECORD, record)
        except (OSError, Problem):
            _take_back(workspace, run.path, path, places)
            raise
        checkpoints.note_moved(run.path, path)
    return RunFolder(path)


def _take_back(workspace: Workspace, old: Path, new: Path, places: dict[Path, Path]) -> None:
    """Undo what a rename did before it failed, as on a full disk: all of it, or none."""
    for entry, place in places.items():
        with suppress(OSError):
            place.rename(entry)
    with suppress(OSError, Problem):
        queue.moved(workspace, new, old)


def note(run: RunFolder, text: str) -> Notes:
    """Note something about the run, in the user's own words; "" takes the note away."""
    words = text.strip()
    return notes.change(run.path, lambda now: msgspec.structs.replace(now, note=words))


def tag(run: RunFolder, add: Sequence[str] = (), remove: Sequence[str] = ()) -> Notes:
    """Give the run tags, and take others away. Raises `Problem` for what is no single word."""
    for one in add:
        if not re.fullmatch(r"[^\s,#][^\s,]*", one):
            raise Problem(
                _("{text} cannot be a tag").format(text=one or '""'),
                _("A tag is one word, without commas."),
                _("Write several as several tags, or use a note."),
            )

    def tagged(now: Notes) -> Notes:
        kept = [one for one in now.tags if one not in remove]
        return msgspec.structs.replace(now, tags=list(dict.fromkeys([*kept, *add])))

    return notes.change(run.path, tagged)


def archive(run: RunFolder, on: bool = True) -> Notes:
    """Keep the run out of the everyday list, or take it back into it."""
    return notes.change(run.path, lambda now: msgspec.structs.replace(now, archived=on))


# A list of runs


def search(runs: Sequence[RunSummary], text: str) -> list[RunSummary]:
    """The runs that have every word of `text` in name, note, tags, state or reason.

    A word with a ``#`` is a whole tag.
    """
    words = text.casefold().split()
    return [run for run in runs if all(_has(run, word) for word in words)]


def _has(run: RunSummary, word: str) -> bool:
    if word.startswith("#") and len(word) > 1:
        return word[1:] in map(str.casefold, run.tags)
    told = (run.run, run.note, *run.tags, run.state, state.spoken(run.state), run.reason, run.dir)
    return any(word in one.casefold() for one in told)


def ordered(runs: Sequence[RunSummary], by: str) -> list[RunSummary]:
    """The runs in one of the `ORDERS`; those without such a value come last."""
    key = _KEYS.get(by)
    if key is None:
        raise Problem(
            _("Runs cannot be ordered by {name}").format(name=by),
            _("Known: {names}.").format(names=", ".join(ORDERS)),
        )
    newest = sorted(runs, key=lambda run: -run.created)
    return sorted(newest, key=key)


def _natural(name: str) -> list[tuple[int, str]]:
    """Digits as numbers: run-2 comes before run-10."""
    parts = re.split(r"(\d+)", name.casefold())
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]


_STATES: tuple[Word, ...] = (
    "training",
    "starting",
    "stopping",
    "queued",
    "failed",
    "lost",
    "stopped",
    "finished",
)
_KEYS: dict[str, Callable[[RunSummary], Any]] = {
    # The queue goes before all that was started, in its own order.
    "created": lambda run: (run.place is None, run.place or 0.0, -run.created),
    "name": lambda run: _natural(run.run),
    "loss": lambda run: (run.loss is None, run.loss or 0.0),
    "state": lambda run: _STATES.index(run.state),
    "steps": lambda run: -run.step,
    "ended": lambda run: (run.ended is None, -(run.ended or 0.0)),
}
