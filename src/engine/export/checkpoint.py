"""What a checkpoint of XTuner's holds for export: the trained weights and the config.

A plain ``.pth`` file has the weights as they were trained. A DeepSpeed
ZeRO-1/2 folder has them twice: rounded to 16 bits in the model file, and the
float32 masters, which the optimizer really changed, cut into one piece a rank.
The masters are taken when all pieces are there, as XTuner's own tool does.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.errors import Problem
from engine.export.pickle_reader import CHUNK, Table, Tensor, TorchFile
from engine.export.safetensors_file import Entry
from engine.i18n import _

MODEL_STATES = "mp_rank_00_model_states.pt"
OPTIMIZER_STATES = "*_optim_states.pt"


@dataclass(frozen=True)
class Weight:
    """One trained tensor, and how to get at its bytes (row-major) piece by piece."""

    entry: Entry
    chunks: Callable[[], Iterator[bytes]]


class Checkpoint:
    """An open checkpoint. Close it after use.

    Attributes:
        weights: what was trained, under XTuner's names (``llm.base_model…``).
        config: the text of the config it was trained with, "" when it has none.
        step: the iteration it was saved at, or None.
    """

    def __init__(self, path: Path) -> None:
        """Open a ``.pth`` file or a DeepSpeed folder. Raises `Problem` when it cannot be read."""
        self.path = path
        self._open = ExitStack()
        try:
            self._read()
        except BaseException:
            self._open.close()
            raise

    def __enter__(self) -> Checkpoint:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._open.close()

    def _file(self, path: Path) -> TorchFile:
        return self._open.enter_context(TorchFile(path))

    def _read(self) -> None:
        folder = self.path.is_dir()
        file = self._file(self.path / MODEL_STATES if folder else self.path)
        root = file.root if isinstance(file.root, dict) else {}
        state = root.get("module") if folder else root.get("state_dict", root)
        if not isinstance(state, dict):
            raise self._problem(_("It holds no weights."))
        meta = root.get("meta")
        meta = meta if isinstance(meta, dict) else {}
        config, step = meta.get("cfg"), meta.get("iter")
        self.config = config if isinstance(config, str) else ""
        self.step = step if isinstance(step, int) else None
        self.weights = (self._masters(root) if folder else []) or [
            self._weight(file, name, value) for name, value in state.items()
        ]

    def _weight(self, file: TorchFile, name: object, value: object) -> Weight:
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise self._problem(
                _("It holds {name}, which is not a plain tensor.").format(name=name),
                _("Use XTuner's own tool, xtuner.tools.model_converters.pth_to_hf."),
            )
        entry = Entry(name, value.dtype, value.shape)
        return Weight(entry, lambda: file.chunks(value))

    def _masters(self, root: dict[Any, Any]) -> list[Weight]:
        """The float32 weights put together from all ranks; empty when pieces are missing."""
        groups = root.get("param_shapes")
        files = sorted(self.path.glob(OPTIMIZER_STATES), key=_rank)
        if not isinstance(groups, list) or not groups or len(files) != root.get("dp_world_size"):
            return []
        ranks = [self._pieces(self._file(path), len(groups)) for path in files]
        weights = []
        for number, shapes in enumerate(groups):
            pieces = [rank[number] for rank in ranks]
            first = 0
            for name, shape in Table(shapes).items():
                entry = Entry(str(name), pieces[0][1].dtype, tuple(shape))
                count = math.prod(entry.shape)
                weights.append(Weight(entry, _slice(pieces, first, count)))
                first += count
            if first > sum(piece.elements for _file, piece in pieces):
                raise self._problem(_("Its optimizer states are smaller than the weights."))
        return weights

    def _pieces(self, file: TorchFile, groups: int) -> list[tuple[TorchFile, Tensor]]:
        """One rank's flat piece of each parameter group."""
        root = file.root if isinstance(file.root, dict) else {}
        state = root.get("optimizer_state_dict")
        flat = state.get("single_partition_of_fp32_groups") if isinstance(state, dict) else None
        if (
            not isinstance(flat, list)
            or len(flat) != groups
            or not all(isinstance(one, Tensor) and one.contiguous for one in flat)
        ):
            raise self._problem(
                _("{name} holds no float32 weights.").format(name=file.path.name),
                _("Take another checkpoint of the run."),
            )
        return [(file, one) for one in flat]

    def _problem(self, why: str, todo: str = "") -> Problem:
        return Problem(_("Cannot read the checkpoint {path}").format(path=self.path), why, todo)


def _rank(path: Path) -> int:
    found = re.search(r"_rank_(\d+)_mp_rank", path.name)
    return int(found[1]) if found else 0


def _slice(
    pieces: list[tuple[TorchFile, Tensor]], first: int, count: int
) -> Callable[[], Iterator[bytes]]:
    """Elements `first` to `first + count` of the pieces laid end to end."""

    def chunks() -> Iterator[bytes]:
        begin = 0
        for file, piece in pieces:
            at, end = max(first, begin), min(first + count, begin + piece.elements)
            while at < end:
                step = min(end - at, CHUNK // 4)
                yield file.part(piece, at - begin, step)
                at += step
            begin += piece.elements

    return chunks
