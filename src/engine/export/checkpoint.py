"""What a checkpoint of XTuner's holds for export: the trained weights and the config.

A plain ``.pth`` file has the weights as they were trained. A DeepSpeed folder
of ZeRO-1/2 has them twice: rounded to 16 bits in the model file, and the
float32 masters, which the optimizer really changed, cut into one piece a rank;
the masters are taken, as XTuner's own tool does, and without any of them the
model file. A folder of ZeRO-3 has nothing but the masters. A piece that is
missing, or that was not saved with the others, is told.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

from engine.errors import Problem
from engine.export.pickle_reader import Tensor, TorchFile
from engine.export.weights import Weight
from engine.i18n import N_, _

MODEL_STATES = "mp_rank_00_model_states.pt"
SPLIT_MODEL_STATES = "zero_pp_rank_*_mp_rank_00_model_states.pt"
OPTIMIZER_STATES = "*_optim_states.pt"
_PIECES = N_("With ZeRO-3 each of them has a piece of the weights: copy all.")
_ROUNDED = N_(
    "Copy all *_optim_states.pt; without any of them the weights are taken as they were "
    "rounded for training."
)
_MOST = 100_000
"""Ranks: what a damaged file says can be anything."""


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
        models = self._models() if folder else [self._file(self.path)]
        root = models[0].root if isinstance(models[0].root, dict) else {}
        state = root.get("module") if folder else root.get("state_dict", root)
        if not isinstance(state, dict):
            raise self._problem(_("It holds no weights."))
        meta = root.get("meta")
        meta = meta if isinstance(meta, dict) else {}
        config, step = meta.get("cfg"), meta.get("iter")
        self.config = config if isinstance(config, str) else ""
        self.step = step if isinstance(step, int) else None
        self.weights = (self._masters(models) if folder else []) or [
            self._weight(models[0], name, value) for name, value in state.items()
        ]

    def _models(self) -> list[TorchFile]:
        """The model file, or with ZeRO-3 every rank's, in their order."""
        split = _by_rank(self.path.glob(SPLIT_MODEL_STATES))
        files = [self._file(path) for path in split.values()]
        if not files:
            return [self._file(self.path / MODEL_STATES)]
        self._complete(split, files[0], _PIECES)
        return files[: len(split)]

    def _weight(self, file: TorchFile, name: object, value: object) -> Weight:
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise self._problem(
                _("It holds {name}, which is not a plain tensor.").format(name=name),
                _("Use XTuner's own tool, xtuner.tools.model_converters.pth_to_hf."),
            )
        return file.weight(name, value)

    def _masters(self, models: list[TorchFile]) -> list[Weight]:
        """The float32 weights from all ranks; empty when the model file has to do."""
        paths = _by_rank(self.path.glob(OPTIMIZER_STATES))
        split = models[0].path.name != MODEL_STATES
        if not paths and not split:
            return []
        self._complete(paths, models[0], _PIECES if split else _ROUNDED)
        from engine.export import zero  # most checkpoints are not in pieces

        try:
            return zero.weights(models, [self._file(path) for path in paths.values()])
        except zero.Mixed as error:
            raise self._problem(
                str(error), _("Copy the whole folder again, or take another checkpoint of the run.")
            ) from error
        # (The numbers of a damaged or hostile file can be anything.)
        except (zero.Incomplete, TypeError, ValueError, LookupError, AttributeError) as error:
            raise self._problem(
                _("Its weights are not whole: {error}.").format(error=error),
                _("Take another checkpoint of the run."),
            ) from error

    def _complete(self, found: dict[int, Path], model: TorchFile, todo: str) -> None:
        """Leave in `found` the files of those ranks that `model` tells of.

        More of them are an earlier save's: DeepSpeed writes over what it finds. Raises a
        `Problem` that names those which are missing, and says what `todo` about it.
        """
        ranks = model.root.get("dp_world_size") if isinstance(model.root, dict) else None
        if not isinstance(ranks, int) or ranks < 1:
            raise self._problem(_("It does not say how many processes saved it."))
        missing = [rank for rank in range(min(ranks, _MOST)) if rank not in found]
        if missing:
            raise self._problem(
                _(
                    "Files of {found} of {all} processes are there, not that of rank {missing}."
                ).format(
                    found=len(set(found) & set(range(ranks))),
                    all=ranks,
                    missing=", ".join(map(str, missing[:8])) + (" …" if len(missing) > 8 else ""),
                ),
                _(todo),
            )
        for rank in [one for one in found if one >= ranks]:
            del found[rank]

    def _problem(self, why: str, todo: str = "") -> Problem:
        return Problem(_("Cannot read the checkpoint {path}").format(path=self.path), why, todo)


def _by_rank(paths: Iterable[Path]) -> dict[int, Path]:
    """The files of each rank, in the ranks' order."""
    ranks = {}
    for path in paths:
        found = re.search(r"_rank_(\d+)_mp_rank", path.name)
        ranks[int(found[1]) if found else 0] = path
    return dict(sorted(ranks.items()))
