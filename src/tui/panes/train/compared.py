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
    compared = [RunFolder(folder) for folder in folders]
    if len(compared) < 2:
        yield _("Mark the runs to compare with Space first.")
        return
    runs = [run for run in compared if run.config is not None and run.config.is_file()]
    for run in compared:
        if run not in runs:
            yield Text(_("{run} keeps no config").format(run=one_line(run.name)), "yellow")
    found = run_configs.differences(runs)
    for one in found:
        yield Text(one_line(one.name), "bold")
        for run, code in zip(runs, one.values, strict=True):
            yield f"  {one_line(run.name)}: {_short(code)}"
    if not found and len(runs) > 1:
        yield _("The configs set the same.")


def _short(code: str | None) -> str:
    if code is None:
        return _("(not set)")
    code = one_line(" ".join(code.split()))
    return code if len(code) <= _LONGEST else code[:_LONGEST] + "…"
