"""How many samples and steps XTuner makes of tokenized rows.

Runs in the dataset worker, under the training interpreter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

MAP_BATCH = 1000
"""Rows that ``datasets.Dataset.map`` hands to XTuner's Packer at once (its default)."""


def pack(
    lengths: Sequence[int],
    max_length: int,
    map_num_proc: int,
    packer: Callable[[int], Callable[[dict[str, Any]], dict[str, Any]]],
    seed: int,
) -> tuple[int, int]:
    """Packed samples, and the tokens in them, for rows of `lengths` tokens.

    XTuner shuffles the rows, then packs in `map_num_proc` contiguous pieces, each
    alone. The same is done here: the shuffle and the pieces are the datasets
    library's, the packing is XTuner's Packer, on tokens that are all alike. With
    NumPy's generator at `seed` the order is the one that XTuner trains in; with
    another, the number may differ a little when there are several pieces.
    """
    if not lengths:
        return 0, 0
    import numpy
    from datasets import Dataset

    rows = Dataset.from_dict({"length": lengths})
    numpy.random.seed(seed)
    rows = rows.shuffle()
    pieces = min(map_num_proc, len(rows)) if map_num_proc else 1
    samples = tokens = 0
    for index in range(pieces):
        pack_piece = packer(max_length)
        piece = rows.shard(num_shards=pieces, index=index, contiguous=True)
        for batch in piece.iter(batch_size=MAP_BATCH):
            alike = [[0] * length for length in batch["length"]]
            packed = pack_piece({"input_ids": alike, "labels": alike})["input_ids"]
            samples += len(packed)
            tokens += sum(map(len, packed))
    return samples, tokens


def steps(samples: int, batch_size: int, gpus: int) -> int:
    """Iterations of one epoch as XTuner counts and logs them (micro-batches of each GPU).

    Every GPU gets the same number of samples (the sampler repeats some to make
    that come out even), and a last batch that is not full counts.
    """
    per_gpu = -(-samples // gpus)
    return -(-per_gpu // batch_size)
