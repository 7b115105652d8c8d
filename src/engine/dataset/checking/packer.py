"""Which rows XTuner packs together. Runs in the dataset worker, under the training interpreter."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from engine.dataset.checking.packing import KEPT, ORDER, SPANS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAP_BATCH = 1000
"""Rows that ``datasets.Dataset.map`` hands to XTuner's Packer at once (its default)."""


class Packed(NamedTuple):
    """What packing makes of rows.

    `order` are the rows in the order in which they are packed; a packed sample
    holds those from a place in `first` to the one in `last`, both included.
    `tokens` are those in all samples together.
    """

    order: NDArray[np.uint32]
    first: NDArray[np.uint32]
    last: NDArray[np.uint32]
    tokens: int


def pack(
    kept: NDArray[np.uint32],
    max_length: int,
    map_num_proc: int,
    packer: Callable[[int], Callable[[dict[str, Any]], dict[str, Any]]],
    seed: int,
) -> Packed:
    """Pack rows of `kept` tokens; 0 is a row that is not trained on.

    XTuner shuffles the rows, then packs in `map_num_proc` contiguous pieces, each
    alone. The same is done here: the shuffle and the pieces are the datasets
    library's, the packing is XTuner's Packer, on the rows' places in place of their
    tokens. With NumPy's generator at `seed` the order is the one that XTuner trains
    in; with another, the number may differ a little when there are several pieces.
    """
    import numpy as np
    from datasets import Dataset

    rows = np.flatnonzero(kept).astype(np.uint32)
    empty = np.zeros(0, dtype=np.uint32)
    if not len(rows):
        return Packed(rows, empty, empty, 0)
    np.random.seed(seed)
    shuffled = Dataset.from_dict({"row": rows}).shuffle()
    first: list[int] = []
    last: list[int] = []
    order: list[NDArray[np.uint32]] = []
    place = tokens = 0
    pieces = min(map_num_proc, len(rows)) if map_num_proc else 1
    for index in range(pieces):
        pack_piece: Any = packer(max_length)
        pack_piece.residual = {"input_ids": []}  # the labels are packed just so
        piece = shuffled.shard(num_shards=pieces, index=index, contiguous=True)
        for batch in piece.with_format("numpy").iter(batch_size=MAP_BATCH):
            order.append(batch["row"].astype(np.uint32))
            lengths = kept[order[-1]].tolist()
            marked = [[at] * length for at, length in enumerate(lengths, place)]
            place += len(lengths)
            for sample in pack_piece({"input_ids": marked})["input_ids"]:
                first.append(sample[0])
                last.append(sample[-1])
                tokens += len(sample)
    return Packed(
        np.concatenate(order), np.array(first, np.uint32), np.array(last, np.uint32), tokens
    )


def pack_folder(
    folder: Path,
    name: str,
    max_length: int,
    map_num_proc: int,
    seed: int,
    packer: Callable[[int], Callable[[dict[str, Any]], dict[str, Any]]],
) -> dict[str, int]:
    """Pack the rows whose numbers lie in `folder`; which pack together is left there as `name`.

    ``lost_tokens`` are those that packing leaves out at its pieces' ends.
    """
    import numpy as np

    kept = np.load(folder / KEPT)
    packed = pack(kept, max_length, map_num_proc, packer, seed)
    np.save(folder / f"{ORDER}-{name}.npy", packed.order)
    np.save(folder / f"{SPANS}-{name}.npy", np.stack([packed.first, packed.last]))
    lost = int(kept.sum(dtype=np.uint64)) - packed.tokens
    return {"packed_samples": len(packed.first), "lost_tokens": lost}
