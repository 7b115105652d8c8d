"""The rows of a training, for the preflight: config and dataset at once."""

from __future__ import annotations

from pathlib import Path

from engine.config.checks.count import Counted, Order
from engine.config.checks.findings import ERROR, Finding
from engine.dataset.checking.check import CheckReport, check
from engine.dataset.reader import Dataset
from engine.i18n import _, ngettext
from engine.settings import Settings

_NAMED = 10
"""Broken rows that are named one by one."""


class Rows:
    """The rows of a training, for `engine.config.preflight`: looked at by the dataset part."""

    def __init__(self, settings: Settings, cache: Path | None = None) -> None:
        self._settings = settings
        self._cache = cache

    def rows(self, path: Path, shape: str) -> list[Finding]:
        """Findings about every row's structure, without a tokenizer."""
        with Dataset.open(path, shape) as dataset:
            report = check(dataset, settings=self._settings, cache=self._cache)
        found = [
            Finding(
                ERROR,
                "data-row" if one.field else "data-broken",
                _("Row {row} of {path} is broken").format(row=one.row, path=path),
                one.reason,
                one.remedy,
            )
            for one in report.broken[:_NAMED]
        ]
        more = report.broken_total - len(found)
        if more > 0:
            text = ngettext("And {n} more broken row", "And {n} more broken rows", more)
            found.append(Finding(ERROR, "data-row", text.format(n=more), ways=("check",)))
        return found

    def count(self, order: Order) -> Counted:
        """What XTuner makes of the rows. Raises `Problem` when that cannot be told."""
        paths = order.paths[0] if len(order.paths) == 1 else order.paths
        with Dataset.open(paths, order.shape) as dataset:
            report = check(
                dataset,
                model=order.model,
                template=order.template,
                max_length=order.max_length,
                pack=order.pack,
                batch_size=order.batch_size,
                gpus=order.gpus,
                accumulation=order.accumulation,
                map_num_proc=order.map_num_proc,
                seed=order.seed,
                trust_remote_code=order.trust_remote_code,
                settings=self._settings,
                cache=self._cache,
            )
        return _counted(report)


def _counted(report: CheckReport) -> Counted:
    cut, dropped = report.cut or [], report.dropped_rows or []
    return Counted(
        samples=report.samples or 0,
        packed=report.packed_samples,
        cut=cut,
        cut_total=len(cut) if report.cut_total is None else report.cut_total,
        dropped=dropped,
        dropped_total=report.dropped or 0,
        refused=[(one.row, one.reason) for one in report.broken],
        tokens=report.tokens.total if report.tokens else 0,
        longest=report.tokens.max if report.tokens else 0,
        lost_tokens=report.lost_tokens or 0,
    )
