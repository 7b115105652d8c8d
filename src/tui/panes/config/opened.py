"""The config that is open: its text on the disk, where it comes from, what changed, undo.

Everything here reads or writes files, so the pane calls it from threads. An
`OpenConfig` never changes; each edit is saved at once and gives a new one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from engine.config.copy import origin as origin_of
from engine.config.copy import point_at_data
from engine.config.field_table import BY_NAME, TABLE
from engine.config.findings import Fix, apply
from engine.config.source import ConfigSource
from engine.errors import Problem
from engine.i18n import _
from engine.settings import Settings
from tui.panes.config.rows import Row, rows_of

Stamp = tuple[int, int, int]
"""A file's change time in ns, size and inode: another one means, look closer."""


@dataclass(frozen=True)
class OpenConfig:
    """A config file as it was last read or saved here.

    Attributes:
        path: the file.
        source: its text and values; treated as immutable.
        origin: the catalogue's config that it was copied from, if that is known.
        rows: its settings under headings, in the order to show.
        was: the code that changed settings had in `origin` ("" where not set).
        past: earlier texts that can be gone back to, the newest last.
        stamp: tells whether the file was touched since.
    """

    path: Path
    source: ConfigSource
    origin: ConfigSource | None
    rows: list[Row]
    was: dict[str, str]
    past: tuple[str, ...]
    stamp: Stamp

    @classmethod
    def read(cls, path: Path, settings: Settings) -> OpenConfig:
        """Open a config file. Raises `Problem` when it cannot be read or parsed."""
        stamp = _stamp(path)
        source = ConfigSource.open(path)
        return cls._of(source, path, origin_of(source, settings), (), stamp)

    @classmethod
    def _of(
        cls,
        source: ConfigSource,
        path: Path,
        origin: ConfigSource | None,
        past: tuple[str, ...],
        stamp: Stamp,
    ) -> OpenConfig:
        fields = source.fields()
        rows = rows_of(fields, dict.fromkeys(_(known.section) for known in TABLE))
        was = {}
        if origin is not None:
            changed = [change.name for change in source.changes(origin)]
            for field in fields:
                name = field.name
                if any(one == name or one.startswith(name + ".") for one in changed):
                    was[name] = origin.code(name) if origin.has(name) else ""
        return cls(path, source, origin, rows, was, past, stamp)

    @property
    def origin_name(self) -> str:
        """The name of the catalogue's config that this one was copied from, or ""."""
        return self.origin.path.stem if self.origin and self.origin.path else ""

    # Edits

    def edited(self, name: str, typed: str, root: Path) -> OpenConfig:
        """The setting `name` gets the value that a person typed. Raises `Problem`.

        A path that lies in the workspace `root` is written whole: the trainer
        works in another folder.
        """
        known = BY_NAME.get(name)
        if known is not None and known.path and typed:
            inside = root / Path(typed).expanduser()
            typed = str(inside) if inside.exists() else typed
        return self._with(lambda source: source.assign(name, typed))

    def fixed(self, fix: Fix) -> OpenConfig:
        """Preflight's proposal is taken. Raises `Problem`."""
        return self._with(lambda source: apply(source, fix))

    def pointed_at(self, data: Path) -> OpenConfig:
        """The config trains on the file `data`. Raises `Problem`."""
        return self._with(lambda source: point_at_data(source, data))

    def _with(self, edit: Callable[[ConfigSource], None]) -> OpenConfig:
        self._refuse_overwriting()
        source = ConfigSource(self.source.text, self.path)
        edit(source)
        if source.text == self.source.text:
            return self
        source.save()
        past = (*self.past, self.source.text)
        return self._of(source, self.path, self.origin, past, _stamp(self.path))

    def undone(self) -> OpenConfig:
        """The text before the last edit, saved. Raises `Problem` when someone else edited since."""
        if not self.past:
            raise Problem(_("There is nothing to undo"))
        self._refuse_overwriting()
        source = ConfigSource(self.past[-1], self.path)
        source.save(force=True)
        return self._of(source, self.path, self.origin, self.past[:-1], _stamp(self.path))

    # Others' edits

    def looked_again(self, settings: Settings, undoable: bool = False) -> OpenConfig:
        """This, or the file read anew when its text is another one now.

        Args:
            settings: for finding the origin.
            undoable: whether the edit was the user's own (in the editor that we
                opened). Anyone else's is not undone from here.
        """
        stamp = _stamp(self.path)
        if stamp == self.stamp:
            return self
        if self._text_on_disk() == self.source.text:
            return replace(self, stamp=stamp)
        read = OpenConfig.read(self.path, settings)
        return replace(read, past=(*self.past, self.source.text)) if undoable else read

    def overlooked(self) -> OpenConfig:
        """This, with the file as it is now taken as looked at: until it changes once more."""
        return replace(self, stamp=_stamp(self.path))

    def _refuse_overwriting(self) -> None:
        if self._text_on_disk() != self.source.text:
            raise Problem(
                _("{name} was changed elsewhere since it was read here").format(
                    name=self.path.name
                ),
                _("Nothing was written."),
                _("As soon as it can be read it is shown as it is now: then Enter again."),
            )

    def _text_on_disk(self) -> str:
        try:
            return self.path.read_bytes().decode("utf-8", errors="replace")
        except OSError:
            return ""


def _stamp(path: Path) -> Stamp:
    try:
        status = path.stat()
    except OSError:
        return (0, 0, 0)
    return (status.st_mtime_ns, status.st_size, status.st_ino)
