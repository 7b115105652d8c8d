"""In which settings the compared runs differ."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.text import Text

from engine.config.text.source import ConfigSource
from engine.errors import Problem
from engine.i18n import _
from engine.run.folder import RunFolder
from engine.text import one_line

_LONGEST = 60
"""Characters of a value that are shown."""


def difference_lines(folders: Sequence[Path]) -> Iterator[str | Text]:
    """A block for each setting that is not the same in all runs. Reads their frozen configs."""
    runs = [RunFolder(folder) for folder in folders]
    if len(runs) < 2:
        yield _("Mark the runs to compare with Space first.")
        return
    sources = {run.name: source for run in runs if (source := _source(run)) is not None}
    names = dict.fromkeys(name for source in sources.values() for name in source.names())
    count = 0
    for name in names:
        codes = {title: _code(source, name) for title, source in sources.items()}
        if len(set(codes.values())) > 1:
            count += 1
            yield Text(one_line(name), "bold")
            for title, code in codes.items():
                yield f"  {one_line(title)}: {code}"
    if not count:
        yield _("The configs set the same.")


def _source(run: RunFolder) -> ConfigSource | None:
    """The run's frozen config; None where it cannot be read."""
    try:
        return None if run.config is None else ConfigSource.open(run.config)
    except Problem:
        return None


def _code(source: ConfigSource, name: str) -> str:
    if not source.holds(name):
        return _("(not set)")
    code = one_line(" ".join(source.code_of(name).split()))
    return code if len(code) <= _LONGEST else code[:_LONGEST] + "…"
