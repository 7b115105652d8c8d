"""DeepSpeed ZeRO checkpoints: the float32 weights, put together from all ranks' files.

Stages 1 and 2 lay the parameters of each optimizer group end to end and cut
that row into one piece a rank. Stage 3 cuts every parameter into one piece a
rank (the last one padded) and each rank lays its pieces end to end, in as many
tensors as suited it. Nothing is assembled here: a weight is a list of places.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from engine.export import dtypes
from engine.export.pickle_reader import Tensor, TorchFile
from engine.export.weights import Entry, Weight
from engine.i18n import _

_SAMPLE = 64
"""Elements of each piece that are compared with the weights as they were rounded."""


class Incomplete(Exception):
    """The files are not a whole checkpoint. The text says what is wrong, for developers."""


class Mixed(Exception):
    """The files were not saved together. The text says what is wrong, for people."""


@dataclass(frozen=True)
class _Place:
    """`count` elements of a flat tensor of `file`, from element `first` on."""

    file: TorchFile
    tensor: Tensor
    first: int
    count: int


class _Row:
    """Flat tensors laid end to end."""

    def __init__(self, pieces: Iterable[tuple[TorchFile, object]]) -> None:
        self._pieces: list[tuple[TorchFile, Tensor]] = []
        for file, tensor in pieces:
            if not isinstance(tensor, Tensor) or not tensor.contiguous:
                raise Incomplete(f"{file.path.name} holds no flat tensors")
            self._pieces.append((file, tensor))

    def cut(self, first: int, count: int) -> list[_Place]:
        """Where elements `first` to `first + count` lie."""
        places, begin = [], 0
        for file, tensor in self._pieces:
            at, end = max(first, begin), min(first + count, begin + tensor.elements)
            if at < end:
                places.append(_Place(file, tensor, at - begin, end - at))
            begin += tensor.elements
        if sum(place.count for place in places) != count:
            raise Incomplete("the optimizer states are smaller than the weights")
        return places


def weights(models: Sequence[TorchFile], optimizers: Sequence[TorchFile]) -> list[Weight]:
    """All trained weights, float32, and those that stood still, as they were stored.

    Args:
        models: the model files: one for stages 1 and 2, one a rank for stage 3.
        optimizers: the optimizer files of all ranks, in the ranks' order.

    An adapter's frozen base is left out, as XTuner leaves it out. Raises
    `Incomplete` when the files do not hold whole weights, `Mixed` when they
    were saved at different steps or by different trainings.
    """
    root = _table(models[0].root)
    states = [_table(_table(file.root).get("optimizer_state_dict")) for file in optimizers]
    if not states or len(states) != root.get("dp_world_size"):
        raise Incomplete("optimizer files are missing")
    split = "fp32_flat_groups" in states[0]
    ranks = list(zip(optimizers, states, strict=True))
    _saved_together(models, ranks)
    found = (_stage3 if split else _stage2)(root, ranks)
    if not split:
        _same_weights(models[0], found)
    if not any(".lora_" in name for name in found):
        found |= _frozen(models) | _buffers(models[0])
    for alias, name in _table(root.get("shared_params")).items():
        if name in found:
            found[alias] = found[name]
    return [_weight(name, shape, places) for name, (shape, places) in found.items()]


_Found = dict[str, tuple[tuple[int, ...], list[_Place]]]


def _stage2(root: dict[Any, Any], ranks: list[tuple[TorchFile, dict[Any, Any]]]) -> _Found:
    found: _Found = {}
    padding = ranks[0][1].get("param_alignment_paddings")
    for number, shapes in enumerate(_groups(root)):
        row = _Row(
            (file, _item(state.get("single_partition_of_fp32_groups"), number))
            for file, state in ranks
        )
        first = 0
        for index, (name, shape) in enumerate(shapes.items()):
            count = math.prod(shape)
            found[name] = shape, row.cut(first, count)
            first += count + (int(padding[number][index]) if padding else 0)
    return found


def _stage3(root: dict[Any, Any], ranks: list[tuple[TorchFile, dict[Any, Any]]]) -> _Found:
    rows = [
        _Row((file, one) for one in state.get("fp32_flat_groups") or ()) for file, state in ranks
    ]
    found: _Found = {}
    first = 0
    for shapes in _groups(root):
        for name, shape in shapes.items():
            count = math.prod(shape)
            share = math.ceil(count / len(rows))
            found[name] = (
                shape,
                [
                    place
                    for rank, row in enumerate(rows)
                    for place in row.cut(first, max(min(share, count - rank * share), 0))
                ],
            )
            first += share
    return found


def _frozen(models: Sequence[TorchFile]) -> _Found:
    """Parameters that were not trained: whole in stages 1 and 2, in pieces in stage 3."""
    found: _Found = {}
    for name, shape in _shapes(_table(models[0].root).get("frozen_param_shapes")).items():
        row = _Row(
            (file, _table(_table(file.root).get("frozen_param_fragments")).get(name))
            for file in models
        )
        found[name] = shape, row.cut(0, math.prod(shape))
    return found


def _buffers(model: TorchFile) -> _Found:
    root = _table(model.root)
    state = _table(root.get("module"))
    named = ((name, state.get(name)) for name in root.get("buffer_names") or ())
    return {
        str(name): (tensor.shape, _Row([(model, tensor)]).cut(0, tensor.elements))
        for name, tensor in named
        if isinstance(tensor, Tensor)
    }


def _saved_together(
    models: Sequence[TorchFile], ranks: Sequence[tuple[TorchFile, dict[Any, Any]]]
) -> None:
    """What each rank's files say of their training: the same, or they were mixed up."""
    for file, state in ranks:
        count = state.get("partition_count")
        count = count[0] if isinstance(count, list) and count else count
        if isinstance(count, int) and count != len(ranks):
            raise Mixed(
                _("{file} is of a training with {other} processes, not {count}.").format(
                    file=file.path.name, other=count, count=len(ranks)
                )
            )
    told = [[_meta(file, name) for file in models] for name in ("experiment_name", "iter")]
    told.append([_step(file, state) for file, state in ranks])
    for values, files in zip(told, (models, models, [file for file, _state in ranks]), strict=True):
        for value, file in zip(values, files, strict=True):
            if None not in (value, values[0]) and value != values[0]:
                raise Mixed(
                    _(
                        "Its files were not saved together: {file} says {one}, {other} {two}."
                    ).format(
                        file=files[0].path.name, one=values[0], other=file.path.name, two=value
                    )
                )


def _meta(file: TorchFile, name: str) -> object:
    value = _table(_table(file.root).get("meta")).get(name)
    if isinstance(value, int):
        return _("step {step}").format(step=value)
    return value if isinstance(value, str) else None


def _step(file: TorchFile, state: dict[Any, Any]) -> str | None:
    """The optimizer's step, in words; None where the optimizer does not count."""
    base = state.get("base_optimizer_state") or state.get("optimizer_state_dict")
    for parameter in _table(_table(base).get("state")).values():
        step = _table(parameter).get("step")
        if isinstance(step, Tensor):
            raw = file.weight("step", step).read()
            values = dtypes.view(memoryview(raw), step.dtype)
            step = float(values[0]) if values.size == 1 else None
        return None if step is None else _("step {step}").format(step=f"{float(step):g}")
    return None


def _same_weights(model: TorchFile, found: _Found) -> None:
    """The weights that the model ran with are those of the optimizer, rounded.

    Nothing else in an optimizer's file of stage 1 or 2 says which training it is of.
    """
    state = _table(_table(model.root).get("module"))
    for name, (shape, places) in found.items():
        rounded, first = state.get(name), 0
        if not isinstance(rounded, Tensor) or rounded.shape != shape:
            continue
        for place in places:
            count = min(place.count, _SAMPLE)
            wide, narrow = (dtypes.SIZES[one.dtype] for one in (place.tensor, rounded))
            exact, stored = bytearray(count * wide), bytearray(count * narrow)
            place.file.into(place.tensor, place.first * wide, memoryview(exact))
            model.into(rounded, first * narrow, memoryview(stored))
            if not dtypes.rounds_to(exact, place.tensor.dtype, stored, rounded.dtype):
                raise Mixed(
                    _("{file} is of another training or step than {other}: {name} differs.").format(
                        file=place.file.path.name, other=model.path.name, name=name
                    )
                )
            first += place.count


def _weight(name: str, shape: tuple[int, ...], places: list[_Place]) -> Weight:
    kinds = {place.tensor.dtype for place in places}
    if len(kinds) != 1:
        raise Incomplete(f"{name} is stored in {len(kinds)} types")
    return Weight(Entry(name, kinds.pop(), shape), partial(_into, places))


def _into(places: list[_Place], begin: int, buffer: memoryview) -> None:
    """Fill `buffer` with the bytes from `begin` on, of the places laid end to end."""
    end, start = begin + len(buffer), 0
    for place in places:
        width = dtypes.SIZES[place.tensor.dtype]
        at, stop = max(begin, start), min(end, start + place.count * width)
        if at < stop:
            shift = place.first * width - start
            place.file.into(place.tensor, at + shift, buffer[at - begin : stop - begin])
        start += place.count * width


def _groups(root: dict[Any, Any]) -> list[dict[str, tuple[int, ...]]]:
    groups = root.get("param_shapes")
    if not isinstance(groups, list) or not groups:
        raise Incomplete("it does not say which weights there are")
    return [_shapes(shapes) for shapes in groups]


def _shapes(value: object) -> dict[str, tuple[int, ...]]:
    return {str(name): tuple(shape) for name, shape in _table(value).items()}


def _table(value: object) -> dict[Any, Any]:
    return value if isinstance(value, dict) else {}


def _item(value: object, number: int) -> object:
    return value[number] if isinstance(value, list) and number < len(value) else None
