"""Questions out of the dataset that a model was trained on, for whoever asks the model."""

from __future__ import annotations

from pathlib import Path

from engine.dataset import shapes
from engine.dataset.reader import Dataset
from engine.errors import Problem
from engine.export import trained_config
from engine.paths import expanded

_LONGEST = 500
"""Characters; a longer question would be compared for minutes."""


def of_config(text: str, root: Path, count: int = 4) -> tuple[str, ...]:
    """The first questions in the first data file that a config names.

    Args:
        text: the config's.
        root: the folder that its relative paths start from.
        count: how many at most.

    Nothing is raised: () when there is no such file, or none that can be read.
    """
    for name in trained_config.data_files(text):
        path = root / expanded(name)
        if path.is_file() and (found := of_file(path, count)):
            return found
    return ()


def of_file(path: Path, count: int = 4) -> tuple[str, ...]:
    """The first questions in a data file, () when it holds none that can be read."""
    try:
        with Dataset.open(path) as dataset:
            rows = [row.value for row in dataset.page(0, 4 * count) if row.problem is None]
            shape = dataset.shape
    except Problem:
        return ()
    found: list[str] = []
    for row in rows:
        asked = next((turn.input for turn in shapes.conversation(row, shape) if turn.input), "")
        if asked and len(asked) <= _LONGEST and asked not in found:
            found.append(asked)
    return tuple(found[:count])
