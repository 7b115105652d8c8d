"""The files that a verb is given as a dataset, fetched first when a hub has them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from engine.cli.output import Output
from engine.i18n import _


def files(names: Sequence[Path], out: Output) -> Path | list[Path]:
    """What `Dataset.open` takes for `names`. Raises as `engine.dataset.named.files` does."""
    from engine.dataset import named

    fetching = _("Fetching {name}").format(name=names[0])
    return named.files(names, settings=out.settings, progress=out.progress(fetching))
