"""The config that is open: its text on the disk, where it comes from, what changed, undo.

Everything here reads or writes files, so the pane calls it from threads. An
`OpenConfig` never changes; each edit is saved at once and gives a new one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from engine.config.checks.findings import Fix, apply
from engine.config.known import fields
from engine.config.known.field_table import find
from engine.config.known.setting import SECTIONS
from engine.config.making.copy import origin as origin_of
from engine.config.text import textfile
from engine.config.text.merging import merge_configs
from engine.config.text.source import ConfigSource
from engine.errors import Problem
from engine.i18n import _
from engine.joined import copying
from engine.paths import expanded
from engine.settings import Settings
from tui.panes.config.rows import Row, rows_of

Stamp = tuple[int, int, int]
"""A file's change time in ns, size and inode: another one means, look closer."""

Edit = tuple[str, str]
"""The text before and after an edit."""

GONE: Stamp = (0, 0, 0)
SETTLES = 0.1
"""Seconds without a change after which somebody else's edit is whole: many programs empty a
file before they write it."""


@dataclass(frozen=True)
class OpenConfig:
    """A config file as it was last read or saved here.

    Attributes:
        path: the file.
        source: its text and values; treated as immutable.
        origin: what it is compared with: the catalogue's config that it was copied from.
        rows: its settings under headings, in the order to show.
        was: the code that changed settings had in `origin` ("" where not set).
        past: edits that can be undone, the newest last.
        future: undone edits that can be done again, the next one last.
        stamp: tells whether the file was touched since.
    """

    path: Path
    source: ConfigSource
    origin: ConfigSource | None
    rows: list[Row]
    was: dict[str, str]
    past: tuple[Edit, ...]
    future: tuple[Edit, ...]
    stamp: Stamp

    @classmethod
    def read(cls, path: Path, settings: Settings, origin: ConfigSource | None = None) -> OpenConfig:
        """Open a config file. Raises `Problem` when it cannot be read or parsed.

        `origin` is what it is compared with; by default the config it was copied from.
        """
        stamp = _stamp(path)
        source = ConfigSource.open(path)
        return cls._of(source, path, origin or origin_of(source, settings), (), (), stamp)

    @classmethod
    def _of(
        cls,
        source: ConfigSource,
        path: Path,
        origin: ConfigSource | None,
        past: tuple[Edit, ...],
        future: tuple[Edit, ...],
        stamp: Stamp,
    ) -> OpenConfig:
        found = fields.fields(source)
        rows = rows_of(found, [_(section) for section in SECTIONS])
        was = {}
        if origin is not None:
            changed = [change.name for change in source.changes(origin)]
            for field in found:
                name = field.name
                if any(one == name or one.startswith(name + ".") for one in changed):
                    was[name] = origin.code_of(name)
        return cls(path, source, origin, rows, was, past, future, stamp)

    @property
    def origin_name(self) -> str:
        """The name of the catalogue's config that this one was copied from, or ""."""
        return self.origin.path.stem if self.origin and self.origin.path else ""

    @property
    def gone(self) -> bool:
        """Whether the file was not there when it was last looked for."""
        return self.stamp == GONE

    def joined(self, before: OpenConfig) -> bool:
        """Whether the edit that made this of `before` met another one made elsewhere."""
        return len(self.past) > len(before.past) and self.past[-1][0] != before.source.text

    # Edits

    def edited(self, name: str, typed: str, root: Path) -> OpenConfig:
        """The setting `name` gets the value that a person typed. Raises `Problem`.

        A path that lies in the workspace `root` is written whole: the trainer
        works in another folder.
        """
        known = find(name)
        if known is not None and known.path and typed:
            inside = root / expanded(typed)
            typed = str(inside) if inside.exists() else typed
        return self._with(lambda source: fields.assign(source, name, typed))

    def reset(self, name: str) -> OpenConfig:
        """The setting `name` gets the value that it has in the origin. Raises `Problem`."""
        return self._with(lambda source: fields.reset(source, name, self.origin))

    def fixed(self, fix: Fix) -> OpenConfig:
        """Preflight's proposal is taken. Raises `Problem`."""
        return self._with(lambda source: apply(source, fix))

    def pointed_at(self, data: Sequence[Path], shape: str | None) -> OpenConfig:
        """The config trains on the files `data`, whose rows have `shape`. Raises `Problem`.

        `shape` None: the rows tell.
        """
        return self._with(lambda source: copying.point_config(source, data, shape))

    def _with(self, edit: Callable[[ConfigSource], None]) -> OpenConfig:
        source = ConfigSource(self.source.text, self.path)
        edit(source)
        if source.text == self.source.text:
            return self
        return self._changed((self.source.text, source.text), self.past, ())

    def undone(self) -> OpenConfig:
        """Without the last edit. Raises `Problem` when someone has edited that place since."""
        if not self.past:
            raise Problem(_("There is nothing to undo"))
        before, after = self.past[-1]
        undone = self._changed((after, before), self.past[:-1], self.future)
        return replace(undone, past=self.past[:-1], future=(*self.future, (before, after)))

    def redone(self) -> OpenConfig:
        """With the edit that was undone last. Raises `Problem` as `undone` does."""
        if not self.future:
            raise Problem(_("There is nothing to do again"))
        return self._changed(self.future[-1], self.past, self.future[:-1])

    def _changed(self, edit: Edit, past: tuple[Edit, ...], future: tuple[Edit, ...]) -> OpenConfig:
        """The file with `edit` made in it, whatever else was changed in it meanwhile."""
        before, after = edit
        if _stamp(self.path) == GONE:
            raise self._gone()
        there = textfile.read(self.path)
        text = after if there == before else merge_configs(before, after, there, self.path.name)
        source = ConfigSource(text, self.path)
        textfile.write(self.path, text, force=True)
        done = (*past, (there, text))
        return self._of(source, self.path, self.origin, done, future, _stamp(self.path))

    def _gone(self) -> Problem:
        return Problem(
            _("{name} was deleted or moved away").format(name=self.path.name),
            _("Nothing was written."),
            _("W writes it again as it is shown here; o opens another one."),
        )

    def written_again(self) -> OpenConfig:
        """The file that was deleted is there again, as it is shown. Raises `Problem`."""
        textfile.write(self.path, self.source.text)
        return replace(self, stamp=_stamp(self.path))

    # Others' edits

    def looked_again(self, settings: Settings, undoable: bool = False) -> OpenConfig:
        """This, or the file read anew when its text is another one now.

        What was edited here before can still be undone: that place alone.

        Args:
            settings: for finding the origin.
            undoable: whether the edit was the user's own (in the editor that we
                opened). Anyone else's is not undone from here.
        """
        stamp = _stamp(self.path)
        if stamp == self.stamp:
            return self
        if stamp == GONE:
            raise self._gone()
        if not undoable:
            time.sleep(SETTLES)
            if _stamp(self.path) != stamp:
                return self  # it is being written: the next look sees the whole
        if textfile.now(self.path) == self.source.text:
            return replace(self, stamp=stamp)
        read = OpenConfig.read(self.path, settings)
        own = ((self.source.text, read.source.text),) if undoable else ()
        return replace(read, past=(*self.past, *own), future=() if undoable else self.future)

    def overlooked(self) -> OpenConfig:
        """This, with the file as it is now taken as looked at: until it changes once more."""
        return replace(self, stamp=_stamp(self.path))


def _stamp(path: Path) -> Stamp:
    try:
        status = path.stat()
    except OSError:
        return GONE
    return (status.st_mtime_ns, status.st_size, status.st_ino)
