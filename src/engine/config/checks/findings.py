"""What preflight has to say: findings, each with a code, a cause and where possible a fix."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from engine.config.text.values import Code
from engine.errors import Tell, Way
from engine.i18n import sentences

if TYPE_CHECKING:  # only a fix needs it
    from engine.config.text.source import ConfigSource

ERROR, WARNING, INFO = "error", "warning", "info"


class Fix(msgspec.Struct, frozen=True):
    """An edit that puts a finding right."""

    field: str
    value: Any = None
    """The new value; `Code` where it is one of the config's names."""
    rename: str = ""
    """The field's right name, where only its name is wrong."""
    imports: tuple[str, str] | None = None
    """A (module, name) that the value needs."""


class Finding(msgspec.Struct, frozen=True):
    """One thing that preflight found."""

    level: str
    """"error" (it would fail or teach nothing), "warning" or "info"."""
    code: str
    """Stable, for tests and scripts: "warmup-zero"."""
    what: str
    why: str = ""
    todo: str = ""
    """What a person does about it, in words."""
    fix: Fix | None = None
    field: str = ""
    """The setting it is about, or ""."""
    ways: tuple[Way, ...] = ()
    """How `todo` is done where a surface has something for it; see `engine.errors.Problem`."""

    def told(self, tell: Tell) -> Finding:
        """The same, as a surface says it."""
        todo = sentences(self.todo, *map(tell, self.ways))
        return msgspec.structs.replace(self, todo=todo, ways=())


def apply(source: ConfigSource, fix: Fix) -> None:
    """Make the edit `fix` in `source` (which is not saved)."""
    if fix.rename:
        source.rename(fix.field, fix.rename)
        return
    if fix.imports is not None:
        source.ensure_import(*fix.imports)
    source.set(fix.field, Code(fix.value) if fix.imports is not None else fix.value)
