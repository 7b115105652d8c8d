"""The folder a user works in: configs, data, models and runs side by side."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import msgspec

from engine import files, unforeseen
from engine.errors import Problem
from engine.i18n import _
from engine.paths import expanded

_READ = ("configs", "data", "models")
"""Parts that are shared with whoever made them: they are read more than written."""


class Last(msgspec.Struct, omit_defaults=True):
    """What was open last, so that a new window starts where the old one was."""

    tab: str = ""
    data: str = ""
    files: list[str] = []
    """Of a dataset that is made of several files all of them; `data` is the first."""
    shape: str = ""
    """What the user said the columns of `data` mean; "" where its rows tell."""
    unclear: str = ""
    """The dataset of whose columns nobody knows yet what they mean."""
    template: str = ""
    config: str = ""
    run: str = ""
    adapter: str = ""
    merged: str = ""
    base: str = ""
    question: str = ""
    """What was being written in the chat."""

    @property
    def dataset(self) -> list[Path]:
        """What was opened as the dataset that is open; empty when none is."""
        several = self.files[:1] == [self.data]  # else they are another's
        return [Path(name) for name in (self.files if several else [self.data]) if name]


class Workspace:
    """A folder with the parts ``configs/``, ``data/``, ``models/`` and ``runs/``.

    A part is made when something is first put into it; an empty or foreign
    folder is a valid workspace. Our own state lies in ``.tunedeck/``. Who makes one of
    these keeps it private: another user of the same folder has ``.tunedeck-UID/`` and
    ``runs-UID/`` beside it. A part that they may read they have in common with its owner,
    runs where they may write as well (those of others are listed all the same); the state
    never, however far its owner opened it.
    """

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise Problem(
                _("{path} is not a folder").format(path=root),
                _("A workspace is a folder: configs, data, models and runs live in it."),
                _("Give an existing folder, or make one with mkdir."),
            )
        self.root = root.resolve()
        self.configs, self.data, self.models = (
            files.own(self.root / part, os.R_OK | os.X_OK) for part in _READ
        )
        self.runs = files.own(self.root / "runs", os.R_OK | os.W_OK | os.X_OK)
        self.state = files.own(self.root / ".tunedeck")
        self.cache = self.state / "cache"
        self._last: Last | None = None

    @property
    def holding_runs(self) -> list[Path]:
        """The folders in which runs may lie: one's own, those of who came first, XTuner's own."""
        shared = self.root / "runs"
        found = [self.runs, self.root / "work_dirs"]
        if shared != self.runs and os.access(shared, os.R_OK | os.X_OK):
            found.insert(1, shared)
        return found

    @classmethod
    def here(cls) -> Workspace:
        """The workspace of the current folder. Raises `Problem` when that folder is gone."""
        try:
            return cls(Path.cwd())
        except FileNotFoundError as error:
            raise unforeseen.folder_gone() from error

    def relative(self, path: Path) -> str:
        """`path` as a person writes it here: relative when it lies inside.

        Of one that says so itself no disk is asked: it may be slow.
        """
        if ".." not in path.parts and path.is_relative_to(self.root):
            return str(path.relative_to(self.root))
        try:
            return str(path.resolve().relative_to(self.root))
        except ValueError:
            return str(path)

    def resolve(self, name: str) -> Path:
        """The path a person means by `name`: from the workspace's root, ``~`` expanded."""
        return (self.root / expanded(name)).resolve()

    def last(self) -> Last:
        """What was open last; empty when unknown or unreadable.

        Read once: from then on it is what was opened here, whatever another window
        opens, and asking is free where the disk is slow.
        """
        if self._last is None:
            try:
                data = (self.state / "last.json").read_bytes()
                self._last = msgspec.json.decode(data, type=Last)
            except (OSError, msgspec.MsgspecError):
                self._last = Last()
        return self._last

    def opened(self, **values: str | list[str]) -> None:
        """Note what is open now, by the names of `Last`'s fields; `keep` writes it down."""
        last = self.last()
        for name, value in values.items():
            setattr(last, name, value)

    def keep(self) -> None:
        """Write down what is open. Where that cannot be it holds as long as this object."""
        with contextlib.suppress(OSError, Problem):
            files.write_json(self.state / "last.json", self.last())

    def remember(self, **values: str | list[str]) -> None:
        """`opened` and `keep`, for who may wait for a disk."""
        self.opened(**values)
        self.keep()
