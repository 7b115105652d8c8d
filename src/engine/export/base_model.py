"""A model folder as merging needs it: its config, its shards, where each tensor lies."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from engine.errors import Problem
from engine.export import artefact
from engine.export.safetensors_file import Entry, Reader
from engine.i18n import _

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
CONFIG = "config.json"

_EMBEDDINGS = ("embed_tokens.weight", "wte.weight", "tok_embeddings.weight", "embed_in.weight")
_WEIGHT_SUFFIXES = {
    ".safetensors", ".bin", ".pt", ".pth", ".gguf", ".h5", ".msgpack", ".onnx", ".ot",
}  # fmt: skip
# A model card describes the base; an index describes the base's shards.
_NOT_CARRIED = {"README.md", CONFIG}


class BaseModel:
    """A whole model with safetensors weights. Nothing but headers is read on opening.

    Attributes:
        config: ``config.json``.
        shards: the weight files, each with its tensors in the order of the data.
        entries: all tensors by name.
        tied: whether the output head is the input embedding.
    """

    def __init__(self, path: Path) -> None:
        """Open the folder `path`. Raises `Problem` for what cannot be merged into."""
        artefact.expect(path, (artefact.MODEL,), _("a model's folder"))
        if not path.is_dir():
            raise _problem(path, _("It is one file of a model."), _("Give the model's folder."))
        self.path = path
        self.config = _json(path / CONFIG)
        if self.config.get("quantization_config"):
            raise _problem(
                path,
                _("It is quantized: a merge would carry the rounding of its few bits."),
                _("Give the unquantized model that it was made from."),
            )
        self.shards: dict[Path, list[Entry]] = {}
        for file in self._files():
            with Reader(file) as opened:
                self.shards[file] = opened.entries
        self.entries = {one.name: one for entries in self.shards.values() for one in entries}
        self._check_index()
        told = self.config.get("tie_word_embeddings")
        heads = ("lm_head.weight", "output.weight", "embed_out.weight")
        self.tied = told is True or (told is None and not any(map(self.entries.get, heads)))

    def _files(self) -> list[Path]:
        index = self.path / INDEX
        if index.is_file():
            self._map: dict[str, str] = _json(index).get("weight_map", {})
            return [self.path / name for name in sorted(set(self._map.values()))]
        self._map = {}
        if (self.path / SINGLE).is_file():
            return [self.path / SINGLE]
        if any(self.path.glob("pytorch_model*.bin")):
            raise _problem(
                self.path,
                _("Its weights are pickles (pytorch_model.bin), which can run code when read."),
                _("Save it as safetensors once: load it with transformers, then save_pretrained."),
            )
        raise _problem(
            self.path,
            _("There are no weights in it ({name} is missing).").format(name=SINGLE),
            _("Download the whole model."),
        )

    def _check_index(self) -> None:
        missing = set(self._map) - set(self.entries)
        if missing:
            raise _problem(
                self.path,
                _("Its index names tensors that are in no file: {name}, …").format(
                    name=min(missing)
                ),
                _("Copy or download the model again."),
            )

    def find(self, name: str) -> str | None:
        """The tensor that holds the parameter `name` of the model, under the name in the files.

        Old files leave out the first part of the name ("transformer.").
        """
        for candidate in (name, name.partition(".")[2]):
            if candidate in self.entries:
                return candidate
        return None

    def embedding(self) -> str | None:
        """The name of the input embedding's tensor, if it can be told."""
        found = [name for name in self.entries if name.endswith(_EMBEDDINGS)]
        return found[0] if len(found) == 1 else None

    def companions(self) -> list[Path]:
        """The files that make the weights usable: tokenizer, templates, code, licence."""
        return sorted(
            file
            for file in self.path.iterdir()
            if file.is_file()
            and not file.name.startswith(".")
            and file.suffix not in _WEIGHT_SUFFIXES
            and not file.name.endswith(".index.json")
            and file.name not in _NOT_CARRIED
        )


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise _problem(path, str(error)) from error
    if not isinstance(value, dict):
        raise _problem(path, _("It is not a JSON object."))
    return value


def _problem(path: Path, why: str, todo: str = "") -> Problem:
    return Problem(_("Cannot use the model {path}").format(path=path), why, todo)
