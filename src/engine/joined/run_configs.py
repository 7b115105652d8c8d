"""The configs of runs: one more like that one, in what several differ, what was usual.

Above run and config, so that they need not know each other.
"""

from __future__ import annotations

import contextlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path

import msgspec

from engine.config.known import fields
from engine.config.text.reader import Change
from engine.config.text.source import ConfigSource
from engine.errors import Problem
from engine.i18n import _
from engine.run import beside
from engine.run.folder import RunFolder

_LOOKED_AT = 40
"""Runs whose configs are read: some 12 ms each."""


class Difference(msgspec.Struct, frozen=True):
    """A setting that not all runs have alike."""

    name: str
    """Its whole key."""
    values: list[str | None]
    """As it is written, run by run; None where a run does not set it."""


def differences(runs: Sequence[RunFolder]) -> list[Difference]:
    """The settings in which the frozen configs of `runs` differ, in the order of the first.

    A run whose config is missing or no Python raises `Problem`.
    """
    leaves = [{name: code for name, (code, _line) in of(run).leaves().items()} for run in runs]
    names = dict.fromkeys(name for one in leaves for name in one)
    rows = [Difference(name, [one.get(name) for one in leaves]) for name in names]
    return [row for row in rows if len(set(row.values)) > 1]


def used(runs: Iterable[RunFolder]) -> dict[str, list[tuple[str, int]]]:
    """The values that each setting had in the newest of `runs`, as written, the most used first.

    With each value goes in how many runs it was. A run whose config cannot be read counts for none.
    """
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for run in islice(runs, _LOOKED_AT):
        with contextlib.suppress(Problem):
            for one in fields.fields(of(run)):
                if one.line:
                    counts[one.name][one.code] += 1
    return {name: values.most_common() for name, values in counts.items()}


def like(run: RunFolder, values: Sequence[str], folder: Path) -> tuple[Path, list[Change]]:
    """The config of `run` with other settings, written into `folder`; and what differs.

    The modules that it imports go along. `values` are ``KEY=VALUE``, as a person
    types them. Give the run's own config to `planning.plan` as its source.
    """
    before, source = of(run), changed(run, values)
    assert before.path is not None
    return beside.lay(before.path, source.text.encode(), folder), source.changes(before)


def changed(run: RunFolder, values: Sequence[str]) -> ConfigSource:
    """The frozen config of `run` with `values`, ``KEY=VALUE`` each; it is not saved."""
    source = of(run)
    for key, typed in map(fields.pair, values):
        fields.assign(source, key, typed)
    return source


def of(run: RunFolder) -> ConfigSource:
    """The frozen config of `run`. Raises `Problem` where it keeps none."""
    path = run.config
    if path is None or not path.is_file():
        raise Problem(
            _("The run {run} has no config").format(run=run.name),
            _("Its folder holds none."),
            _("Put it back: XTuner keeps a copy of it in the folder of each start."),
        )
    return ConfigSource.open(path)
