"""How the rows are mapped at a start: not anew, not in 32 processes where one is faster.

``datasets`` keeps what a map function made of the rows and takes it again for the
same rows and function. Two things are amiss with that for us:

- *It knows a function that is imported by its name alone.* After an edit of the
  map module beside a config, training went on with the old module's rows. Here
  the content of those modules is part of what is asked for.
- *XTuner asks for 32 processes.* For few rows their start takes far longer than
  the work (8 s for 60 rows on two cores). Here the same pieces are mapped one
  after another in this process; what comes out is the same, down to the pieces
  that are packed each by itself.
"""

from __future__ import annotations

import functools
import hashlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import FunctionType
from typing import Any

from datasets import Dataset, concatenate_datasets
from datasets.utils._dill import Pickler, pklregister

FEW = 4 * 2**20
"""Bytes of rows that one process maps before 32 of them have begun."""
_POP = b"0"
"""Pickle's word for: that was not part of it."""


def install(config: Path) -> None:
    """For every dataset of this process, whose config is `config`."""
    know_by_content(config)
    Dataset.map = _in_this_process(Dataset.map, _pieces)
    Dataset.filter = _in_this_process(Dataset.filter, None)


def know_by_content(config: Path) -> None:
    """Tell functions and classes from the config's folder apart by what is written there.

    `Pickler` is what ``datasets`` hashes a map function with, and nothing else.
    """
    folder = config.resolve().parent
    others = [path for path in sorted(folder.glob("*.py")) if path != config.resolve()]
    content = [(path.name, hashlib.sha256(path.read_bytes()).hexdigest()) for path in others]

    def aware(save: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(save)
        def save_with_content(pickler: Any, obj: Any, *args: Any, **options: Any) -> None:
            module = sys.modules.get(str(getattr(obj, "__module__", None)))
            file = getattr(module, "__file__", None)
            if file and Path(file).resolve().parent == folder:
                pickler.save(content)
                pickler.write(_POP)
            save(pickler, obj, *args, **options)

        return save_with_content

    for kind in (FunctionType, type):
        pklregister(kind)(aware(Pickler.dispatch[kind]))


def _in_this_process(
    method: Callable[..., Any], pieces: Callable[..., Any] | None
) -> Callable[..., Any]:
    """A method of Dataset that starts no processes for few bytes.

    Row by row it makes no difference which process does it. A function of batches
    sees where a piece ends: `pieces` makes them, None leaves it to the processes.
    """

    @functools.wraps(method)
    def call(dataset: Any, function: Any = None, *args: Any, **options: Any) -> Any:
        count = options.get("num_proc") or 1
        few = dataset.data.nbytes <= FEW
        if args or count == 1 or not few or options.get("with_rank"):
            return method(dataset, function, *args, **options)
        if function is None or not options.get("batched"):
            return method(dataset, function, **options | {"num_proc": None})
        if pieces is None:
            return method(dataset, function, **options)
        return pieces(method, dataset, function, **options)

    return call


def _pieces(
    method: Callable[..., Any], dataset: Any, function: Any, num_proc: int, **options: Any
) -> Any:
    """The pieces that `num_proc` processes would map, one after another."""
    count = min(num_proc, len(dataset))
    names = {"with_indices", "cache_file_name", "new_fingerprint"}
    if count < 2 or any(options.get(name) for name in names):
        return method(dataset, function, num_proc=num_proc, **options)
    shards = (dataset.shard(count, index, contiguous=True) for index in range(count))
    return concatenate_datasets([method(shard, function, **options) for shard in shards])
