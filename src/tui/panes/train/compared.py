"""In which settings the compared runs differ."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.text import Text

from engine.i18n import _
from engine.joined import run_configs
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
    found = run_configs.differences(runs)
    for one in found:
        yield Text(one_line(one.name), "bold")
        for run, code in zip(runs, one.values, strict=True):
            yield f"  {one_line(run.name)}: {_short(code)}"
    if not found:
        yield _("The configs set the same.")


def _short(code: str | None) -> str:
    if code is None:
        return _("(not set)")
    code = one_line(" ".join(code.split()))
    return code if len(code) <= _LONGEST else code[:_LONGEST] + "…"
