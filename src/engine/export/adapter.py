"""A LoRA adapter folder as merging needs it: which tensor of the base it changes, and how."""

from __future__ import annotations

import json
import math
import re
import struct
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.errors import Failed, Problem
from engine.export import adapter_config, artefact, dtypes
from engine.export.pickle_reader import Tensor, TorchFile
from engine.export.safetensors_file import Reader
from engine.export.weights import Entry, Weight
from engine.i18n import _

if TYPE_CHECKING:
    import numpy as np

PREFIX = "base_model.model."

_ROWS = 1 << 20  # elements that are looked at together

# What may be set without changing what a merge has to do.
_HARMLESS = {
    "alpha_pattern", "auto_mapping", "base_model_name_or_path", "bias", "exclude_modules",
    "fan_in_fan_out", "inference_mode", "init_lora_weights", "layers_pattern",
    "layers_to_transform", "lora_alpha", "lora_bias", "lora_dropout", "megatron_core",
    "modules_to_save", "peft_type", "peft_version", "qalora_group_size", "r", "rank_pattern",
    "revision", "target_modules", "task_type", "use_dora", "use_rslora",
}  # fmt: skip
# These ways to begin change the base model itself before training starts.
_CHANGES_BASE = ("pissa", "olora", "corda", "lora_ga", "loftq")


def _one(begin: int, buffer: memoryview) -> None:
    buffer[:] = struct.pack("<f", 1)[begin : begin + len(buffer)]


_ONE = Weight(Entry("", "F32", (1, 1)), _one)


@dataclass(frozen=True)
class Delta:
    """A change of low rank to one tensor of the base, as it is stored.

    The tensor becomes ``W + scale * (b @ a)``. With a `magnitude` (DoRA) each
    of its output rows is then stretched to that length.

    a: (rank, in), b: (out, rank), magnitude: (out,); the base's tensor is
    (out, in), or (in, out) when `turned`.
    """

    a: Weight
    b: Weight
    scale: float
    turned: bool
    magnitude: Weight | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """The shape of the tensor it is added to."""
        out, into = self.b.entry.shape[0], self.a.entry.shape[1]
        return (into, out) if self.turned else (out, into)

    @property
    def memory(self) -> int:
        """Bytes that it takes once it is loaded."""
        return 4 * (math.prod(self.a.entry.shape) + math.prod(self.b.entry.shape))

    def load(self, base: Weight) -> Change:
        """Read it into memory. `base` is the tensor it changes (only DoRA may look at it)."""
        a, b = load(self.a), load(self.b)
        b *= self.scale
        left, right = (a.T, b.T) if self.turned else (b, a)
        change = Change(left, right, load(self.magnitude) if self.magnitude else None)
        if self.turned and self.magnitude:
            change.stretch = _stretch(change, base)
        return change


@dataclass
class Change:
    """A `Delta` in memory, float32: ``left @ right`` is what it adds.

    `magnitude` is the length that each row gets (DoRA), `stretch` what each
    column is multiplied with (DoRA of a turned tensor).
    """

    left: np.ndarray[Any, Any]
    right: np.ndarray[Any, Any]
    magnitude: np.ndarray[Any, Any] | None
    stretch: np.ndarray[Any, Any] | None = None

    def apply(self, block: np.ndarray[Any, Any], first: int) -> None:
        """Change `block` in place: rows of the base's tensor from row `first` on, float32."""
        import numpy

        product = dtypes.scratch("product", block.size, "<f4").reshape(block.shape)
        numpy.matmul(self.left[first : first + len(block)], self.right, out=product)
        block += product
        if self.stretch is not None:
            block *= self.stretch
        elif self.magnitude is not None:
            wanted = self.magnitude[first : first + len(block)]
            block *= (wanted / numpy.linalg.norm(block, axis=1))[:, None]


def _stretch(change: Change, base: Weight) -> np.ndarray[Any, Any]:
    """What makes the columns as long as they should be; their lengths run across all rows."""
    import numpy

    rows, columns = base.entry.shape
    row = columns * dtypes.SIZES[base.entry.dtype]
    wanted, change.magnitude = change.magnitude, None
    squares = numpy.zeros(columns, "f8")
    step = max(_ROWS // columns, 1)
    for first in range(0, rows, step):
        last = min(first + step, rows)
        block = numpy.empty((last - first, columns), "f4")
        dtypes.widen(
            memoryview(base.read(first * row, last * row)), base.entry.dtype, block.ravel()
        )
        change.apply(block, first)
        squares += numpy.einsum("ij,ij->j", block, block, dtype="f8")
    result: np.ndarray[Any, Any] = (wanted / numpy.sqrt(squares)).astype("f4")
    return result


class Adapter:
    """An open adapter folder. Close it after use.

    Attributes:
        deltas: the changes, by the name of the base's parameter.
        replaced: tensors that take the place of the base's (``modules_to_save``, biases).
        trained_on: the base model that the adapter names, "" when it names none.
    """

    def __init__(self, path: Path) -> None:
        """Open `path`. Raises `Problem` for an adapter that cannot be read or merged."""
        artefact.expect(path, (artefact.ADAPTER,), _("an adapter"))
        self.path = path if path.is_dir() else path.parent
        self._config = self._read_config()
        self.trained_on = str(self._config.get("base_model_name_or_path") or "")
        self._open = ExitStack()
        self.deltas: dict[str, Delta] = {}
        self.replaced: dict[str, Weight] = {}
        try:
            self._sort(self._weights())
        except BaseException:
            self._open.close()
            raise

    def __enter__(self) -> Adapter:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._open.close()

    def _read_config(self) -> dict[str, Any]:
        path = self.path / "adapter_config.json"
        try:
            config = json.loads(path.read_bytes())
        except (OSError, ValueError) as error:
            raise self._problem(f"{path.name}: {error}") from error
        if not isinstance(config, dict):
            raise self._problem(_("{name} is not a JSON object.").format(name=path.name))
        if config.get("peft_type") != "LORA":
            raise self._problem(
                _("It is of the kind {kind}; only LoRA can be merged.").format(
                    kind=config.get("peft_type")
                )
            )
        strange = [name for name, value in config.items() if value and name not in _HARMLESS]
        start = str(config.get("init_lora_weights")).lower()
        if start.startswith(_CHANGES_BASE):
            raise self._problem(
                _(
                    "Training began with {start}, which first took the adapter's own start out of"
                    " the base's weights. That changed base is in no file of the adapter, and on"
                    " the original this part would count twice."
                ).format(start=start),
                _(
                    "Convert it with peft in the training environment (save_pretrained with"
                    " path_initial_model_for_weight_conversion), then merge that."
                ),
            )
        if strange:
            raise self._problem(
                _("It uses {names}, which this merge does not know.").format(
                    names=", ".join(sorted(strange))
                ),
                _("Use peft's merge_and_unload, or chat with the adapter unmerged."),
            )
        config = {**adapter_config.DEFAULTS, **config}
        self._check_numbers(config)
        return config

    def _check_numbers(self, config: dict[str, Any]) -> None:
        """What the changes are scaled with: numbers, for all modules or by a pattern for some."""
        for name, pattern in (("lora_alpha", "alpha_pattern"), ("r", "rank_pattern")):
            some = config[pattern] or {}
            if not isinstance(some, dict):
                raise self._problem(_("{name} is not a JSON object.").format(name=pattern))
            for value in (config[name], *some.values()):
                if not isinstance(value, int | float) or not math.isfinite(value):
                    raise self._problem(
                        _("{name} is {value}, which is no number.").format(name=name, value=value)
                    )

    def _weights(self) -> list[Weight]:
        file, pickled = self.path / "adapter_model.safetensors", self.path / "adapter_model.bin"
        if file.is_file():
            reader = self._open.enter_context(Reader(file))
            return reader.weights()
        if not pickled.is_file():
            raise self._problem(_("{name} is missing.").format(name=file.name))
        torch_file = self._open.enter_context(TorchFile(pickled))
        root = torch_file.root if isinstance(torch_file.root, dict) else {}
        return [
            torch_file.weight(str(name), value)
            for name, value in root.items()
            if isinstance(value, Tensor)
        ]

    def _sort(self, weights: list[Weight]) -> None:
        """Pair A with B; everything else replaces a tensor of the base."""
        by_name = {weight.entry.name.removeprefix(PREFIX): weight for weight in weights}
        for name, weight in by_name.items():
            module, found, part = name.partition(".lora_")
            if not found:
                target = name.replace(".base_layer.", ".").replace(".modules_to_save.", ".")
                self.replaced[target] = weight
            elif part in ("A.weight", "embedding_A"):
                other = by_name.get(f"{module}.lora_{part.replace('A', 'B')}")
                length = by_name.get(f"{module}.lora_magnitude_vector")
                self.deltas[f"{module}.weight"] = self._delta(module, part, weight, other, length)
            elif part == "B.bias":
                self.deltas[f"{module}.bias"] = self._bias(module, weight)
            elif part not in ("B.weight", "embedding_B", "magnitude_vector"):
                raise self._problem(_("This merge does not know {name}.").format(name=name))
        pairs = sum(".lora_B" in name or ".lora_embedding_B" in name for name in by_name)
        if not weights or pairs != len(self.deltas):
            raise self._problem(_("Its LoRA weights are not complete."))

    def _delta(
        self, module: str, part: str, a: Weight, b: Weight | None, length: Weight | None
    ) -> Delta:
        shapes = (a.entry.shape, b.entry.shape if b else ())
        if b is None or len(shapes[0]) != 2 or len(shapes[1]) != 2 or shapes[0][0] != shapes[1][1]:
            raise self._problem(
                _("The LoRA weights of {name} do not fit each other.").format(name=module)
            )
        if self._config["use_dora"] and (
            part == "embedding_A" or length is None or length.entry.shape != b.entry.shape[:1]
        ):
            # (peft itself merges an embedding's DoRA as if it were LoRA.)
            raise self._problem(
                _("The DoRA weights of {name} cannot be merged.").format(name=module)
            )
        scale = self._scale(module, a.entry.shape[0])
        turned = part == "embedding_A" or bool(self._config["fan_in_fan_out"])
        return Delta(a, b, scale, turned, length if self._config["use_dora"] else None)

    def _scale(self, module: str, rank: int) -> float:
        alpha = float(self._pattern("alpha_pattern", module, self._config["lora_alpha"]))
        return alpha / (math.sqrt(rank) if self._config["use_rslora"] else rank)

    def _bias(self, module: str, bias: Weight) -> Delta:
        """A trained bias of B's: a change of one column to the bias of the layer."""
        rank = int(self._pattern("rank_pattern", module, self._config["r"]))
        column = Entry(bias.entry.name, bias.entry.dtype, (*bias.entry.shape, 1))
        return Delta(_ONE, Weight(column, bias.into), self._scale(module, rank), turned=False)

    def _pattern(self, name: str, module: str, default: Any) -> Any:
        """A value that may differ from module to module (peft matches the end of the name)."""
        for key, value in (self._config[name] or {}).items():
            if re.match(rf"(.*\.)?({key})$", module):
                return value
        return default

    def _problem(self, why: str, todo: str = "") -> Problem:
        what = _("Cannot merge the adapter {path}").format(path=self.path)
        return Problem(what, why, todo or _("Convert its checkpoint again, or copy it again."))


def load(weight: Weight) -> np.ndarray[Any, Any]:
    """A tensor as a float32 array."""
    import numpy

    raw = memoryview(weight.read())
    values = numpy.empty(weight.entry.shape, "f4")
    dtypes.widen(raw, weight.entry.dtype, values.reshape(-1))
    if not numpy.isfinite(values).all():
        raise Failed(
            _("The adapter is broken: {name} holds NaN or infinity").format(name=weight.entry.name),
            _("Training went wrong (look at its loss and gradient norm)."),
            _("Take an earlier checkpoint."),
        )
    return values
