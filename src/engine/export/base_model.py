"""A model folder as merging needs it: its config, its shards, where each tensor lies."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from engine.assignments import XTUNER_CONFIG
from engine.errors import Problem
from engine.export import artefact, card, training
from engine.export.output import MANIFEST
from engine.export.pickle_reader import Tensor, TorchFile
from engine.export.safetensors_file import Reader
from engine.export.weights import Weight
from engine.i18n import _

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
PICKLED_INDEX = "pytorch_model.bin.index.json"
PICKLED = "pytorch_model.bin"
CONFIG = "config.json"

EMBEDDINGS = ("embed_tokens.weight", "wte.weight", "tok_embeddings.weight", "embed_in.weight")
HEADS = ("lm_head.weight", "output.weight", "embed_out.weight")
_WEIGHT_SUFFIXES = {
    ".safetensors", ".bin", ".pt", ".pth", ".gguf", ".h5", ".msgpack", ".onnx", ".ot",
}  # fmt: skip
# A card and a training are the base's own; an index and sums describe the base's shards.
_NOT_CARRIED = {
    card.NAME, card.CURVE, training.NAME, XTUNER_CONFIG, CONFIG, MANIFEST,
}  # fmt: skip


class BaseModel:
    """A whole model, its weights in safetensors files or in pickles. Close it after use.

    Nothing but headers is read on opening, and nothing in a pickle is run.

    Attributes:
        config: ``config.json``.
        shards: the weights, file by file, in the order of the data. The names
            are those of safetensors files, also where the model has pickles.
        entries: all tensors by name.
        tied: whether the output head is the input embedding.
    """

    def __init__(self, path: Path) -> None:
        """Open the folder `path`. Raises `Problem` for what cannot be merged into."""
        artefact.expect(path, (artefact.MODEL,), _("a model's folder"))
        if not path.is_dir():
            raise _problem(path, _("It is one file of a model."), _("Give the model's folder."))
        self.path = path
        self.config = read_config(path)
        self._refuse_quantized()
        self._open = ExitStack()
        try:
            files, self._map = _weight_files(path)
            names = [_shard_name(file, number, len(files)) for number, file in enumerate(files)]
            self.shards = {
                name: self._weights(file) for name, file in zip(names, files, strict=True)
            }
            self.entries = {
                one.entry.name: one.entry for some in self.shards.values() for one in some
            }
            self._check_index()
        except BaseException:
            self._open.close()
            raise
        told = self.config.get("tie_word_embeddings")
        self.tied = told is True or (told is None and not any(map(self.entries.get, HEADS)))

    def __enter__(self) -> BaseModel:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._open.close()

    def _refuse_quantized(self) -> None:
        how = self.config.get("quantization_config")
        if is_quantized(self.config):
            raise _problem(
                self.path,
                _(
                    "It is quantized ({method}): a merge would carry the rounding of its few bits."
                    " The model that it was made from was not found on this machine."
                ).format(method=how.get("quant_method", "?") if isinstance(how, dict) else "?"),
                _("Download the unquantized model that it was made from, and give that one."),
            )

    def _weights(self, file: Path) -> list[Weight]:
        if file.suffix == ".safetensors":
            return self._open.enter_context(Reader(file)).weights()
        opened = self._open.enter_context(TorchFile(file))
        root = opened.root if isinstance(opened.root, dict) else {}
        return [
            opened.weight(str(name), value)
            for name, value in root.items()
            if isinstance(value, Tensor)
        ]

    def _check_index(self) -> None:
        _refuse_missing(self.path, set(self._map) - set(self.entries))

    def find(self, name: str) -> str | None:
        """The tensor that holds the parameter `name` of the model, under the name in the files.

        Old files leave out the first part of the name ("transformer.").
        """
        for candidate in (name, name.partition(".")[2]):
            if candidate in self.entries:
                return candidate
        return None

    def head(self) -> str:
        """What the output head's tensor is called in a model of this kind."""
        name = self.embedding() or ""
        kinds = {"tok_embeddings.weight": "output.weight", "embed_in.weight": "embed_out.weight"}
        return next((head for end, head in kinds.items() if name.endswith(end)), HEADS[0])

    def embedding(self) -> str | None:
        """The name of the input embedding's tensor, if it can be told."""
        found = [name for name in self.entries if name.endswith(EMBEDDINGS)]
        return found[0] if len(found) == 1 else None


def _weight_files(folder: Path) -> tuple[list[Path], dict[str, str]]:
    """The files that hold a model's weights, and which of them each tensor is in, as told."""
    for single, index in ((SINGLE, INDEX), (PICKLED, PICKLED_INDEX)):
        if (folder / single).is_file():
            return [folder / single], {}
        if (folder / index).is_file():
            told = _json(folder / index).get("weight_map")
            if not isinstance(told, dict) or not all(isinstance(one, str) for one in told.values()):
                raise _problem(folder / index, _("It names no files."), _again())
            return [folder / name for name in sorted(set(told.values()))], told
    raise _problem(
        folder,
        _("There are no weights in it ({name} is missing).").format(name=SINGLE),
        _("Download the whole model."),
    )


def _refuse_missing(folder: Path, names: set[str]) -> None:
    if names:
        why = _("Its index names tensors that are in no file: {name}, …")
        raise _problem(folder, why.format(name=min(names)), _again())


def _again() -> str:
    return _("Copy or download the model again.")


def companions(folder: Path) -> list[Path]:
    """The files of a folder that make weights usable: tokenizer, templates, code, licence."""
    return sorted(
        file
        for file in folder.iterdir()
        if file.is_file()
        and not file.name.startswith(".")
        and file.suffix not in _WEIGHT_SUFFIXES
        and not file.name.endswith(".index.json")
        and file.name not in _NOT_CARRIED
    )


def is_quantized(config: Mapping[str, Any]) -> bool:
    """Whether a model with this ``config.json`` has weights of a few bits."""
    return bool(config.get("quantization_config"))


def read_config(folder: Path) -> dict[str, Any]:
    """A model's ``config.json``. Raises `Problem` when it cannot be read."""
    return _json(folder / CONFIG)


def _shard_name(file: Path, number: int, count: int) -> str:
    kept = count > 1 and file.suffix == ".safetensors"
    return file.name if kept else shard_name(number, count)


def shard_name(number: int, count: int) -> str:
    """The name of file `number` (from 0) of a model's `count` weight files."""
    return SINGLE if count == 1 else f"model-{number + 1:05}-of-{count:05}.safetensors"


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise _problem(path, str(error), _again()) from error
    if not isinstance(value, dict):
        raise _problem(path, _("It is not a JSON object."), _again())
    return value


def _problem(path: Path, why: str, todo: str = "") -> Problem:
    return Problem(_("Cannot use the model {path}").format(path=path), why, todo)
