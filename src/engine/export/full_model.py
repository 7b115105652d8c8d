"""A checkpoint of full fine-tuning becomes a model's folder.

The weights are the checkpoint's; all else (config, tokenizer, generation
config, chat template, code of its own) is copied from the model that training
began with.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

from engine.errors import Problem
from engine.export import model_folder
from engine.export.base_model import EMBEDDINGS, HEADS, read_config, shard_name
from engine.export.checkpoint import Checkpoint
from engine.export.output import Output
from engine.export.recipe import Recipe, WeightFile, cast
from engine.export.trained_config import TrainedConfig
from engine.export.weights import Entry, Weight
from engine.i18n import _
from engine.paths import expanded

_PREFIX = "llm."
_SHARD = 5 * 10**9
"""The most bytes of one weight file, as transformers has it."""


class FullModel:
    """What is to be written, known before anything is.

    Attributes:
        files: the weight files.
    """

    def __init__(
        self, opened: Checkpoint, known: TrainedConfig, base: Path | None, dtype: str | None
    ) -> None:
        """Plan the folder of the model in `opened`.

        Args:
            opened: the checkpoint.
            known: the run's config, which names the model that it began with.
            base: that model's folder, if it is elsewhere than the config says.
            dtype: a safetensors type, None keeps what was trained.

        Raises `Problem` when the checkpoint holds more than a language model,
        or the base is not on this machine.
        """
        self._base = _base(opened.path, known, base)
        self._config = read_config(self._base)
        weights = [_renamed(opened.path, weight) for weight in opened.weights]
        if self._config.get("tie_word_embeddings") is True:
            weights = [one for one in weights if one.entry.name not in HEADS]
        self.files = _files([cast(one, one.entry, dtype) for one in weights])

    @property
    def entries(self) -> list[Entry]:
        """The tensors, as they will be written."""
        return [entry for file in self.files.values() for entry in file.entries]

    def write(self, output: Output, told: Callable[[int], None]) -> int:
        """Write everything; `told` hears each chunk's bytes. Returns the weights' bytes."""
        size = model_folder.write_weights(output, self.files, told)
        kinds = Counter[str]()
        for entry in self.entries:
            kinds[entry.dtype] += entry.size
        dtype = kinds.most_common(1)[0][0]
        changes: dict[str, object] = {}
        for entry in self.entries:  # training may have added words
            if entry.name.endswith(EMBEDDINGS) and "vocab_size" in self._config:
                changes["vocab_size"] = entry.shape[0]
        model_folder.write_companions(output, self._base, self._config, dtype, changes)
        return size


def _files(recipes: list[Recipe]) -> dict[str, WeightFile]:
    """The weight files, none larger than it has to be."""
    parts: list[list[Recipe]] = [[]]
    filled = 0
    for recipe in recipes:
        if parts[-1] and filled + recipe.entry.size > _SHARD:
            parts.append([])
            filled = 0
        parts[-1].append(recipe)
        filled += recipe.entry.size
    return {shard_name(n, len(parts)): WeightFile(part) for n, part in enumerate(parts)}


def _renamed(path: Path, weight: Weight) -> Weight:
    entry = weight.entry
    if not entry.name.startswith(_PREFIX):
        raise Problem(
            _("Cannot convert {path}").format(path=path),
            _("It holds more than a language model: {name}, …").format(name=entry.name),
            _("Use XTuner's own tool: python -m xtuner.tools.model_converters.pth_to_hf."),
        )
    return Weight(Entry(entry.name.removeprefix(_PREFIX), entry.dtype, entry.shape), weight.into)


def _base(path: Path, known: TrainedConfig, given: Path | None) -> Path:
    """The folder of the model that training began with."""
    base = given or (expanded(known.base) if known.base else None)
    if base is not None and (base / "config.json").is_file():
        return base
    raise Problem(
        _("The model that {path} was trained from is not here").format(path=path),
        _("A whole model was trained; its tokenizer and config are copied from {name}.").format(
            name=base or known.base or "?"
        ),
        _("Give that model's folder."),
        ways=("base",),
    )
