"""What takes two parts at once: above them, so that they need not know each other."""

from __future__ import annotations

from pathlib import Path

from engine.config.findings import ERROR, Finding
from engine.config.preflight import Rows
from engine.dataset.check import check
from engine.dataset.reader import Dataset
from engine.i18n import _, ngettext
from engine.settings import Settings


def every_row(settings: Settings) -> Rows:
    """The look at every row's structure, for `preflight`: by the dataset part."""

    def rows(path: Path, shape: str | None) -> list[Finding]:
        with Dataset.open(path, shape) as dataset:
            report = check(dataset, settings=settings)
        found = [
            Finding(
                ERROR,
                "data-row" if one.field else "data-broken",
                _("Row {row} of {path} is broken").format(row=one.row, path=path),
                one.reason,
                one.remedy,
            )
            for one in report.broken[:10]
        ]
        more = len(report.broken) - len(found)
        if more > 0:
            text = ngettext("And {n} more broken row", "And {n} more broken rows", more)
            todo = _("`tunedeck data check` lists all.")
            found.append(Finding(ERROR, "data-row", text.format(n=more), todo=todo))
        return found

    return rows
