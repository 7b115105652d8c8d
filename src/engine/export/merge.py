"""An adapter merged into its base model, one piece of one tensor at a time.

``W + scale * (B @ A)`` in float32, then rounded once to the type that is
written. The model is never built: shards come in, shards of the same layout go
out, so memory does not grow with the model, and neither torch nor a GPU is
needed. Where the adapter gives a tied embedding and head different values,
the merged model has both, untied.
"""

from __future__ import annotations

import json
import resource
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from engine import files
from engine.errors import Failed, Problem
from engine.export import artefact, dtypes, safetensors_file
from engine.export.adapter import Adapter, Delta
from engine.export.base_model import CONFIG, INDEX, SINGLE, BaseModel
from engine.export.checkpoint import Weight
from engine.export.convert import XTUNER_CONFIG, Progress, check_space, convert
from engine.export.safetensors_file import Entry, Reader
from engine.i18n import _

HEAD = "lm_head.weight"


class Merged(msgspec.Struct, frozen=True):
    """What `merge` made. `peak_bytes` is the most memory this process ever held."""

    out: Path
    dtype: str
    bytes: int
    seconds: float
    peak_bytes: int


@dataclass(frozen=True)
class _Step:
    """One tensor of the result: where it comes from and what is done to it."""

    entry: Entry
    source: Weight
    delta: Delta | None


def merge(
    base: Path,
    adapter: Path,
    out: Path,
    *,
    dtype: str = "auto",
    device: str = "auto",
    force: bool = False,
    progress: Progress | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Merged:
    """Write `base` with `adapter` merged into it to the new folder `out`.

    Args:
        base: a model's folder with unquantized safetensors weights.
        adapter: a LoRA adapter folder, or a checkpoint that holds one.
        out: the folder to make.
        dtype: ``auto`` (each tensor keeps the base's), ``bf16``, ``fp16``, ``fp32``.
        device: ``auto`` or ``cpu``; reading and writing take most of the time.
        force: replace `out` when it exists.
        progress: told the bytes written so far.
        cancelled: asked often; once true, merging stops with nothing written.

    Raises `Problem` for what cannot be merged and `Failed` when adapter and
    base do not belong together.
    """
    started = time.monotonic()
    _check(base, adapter, out, device, force)
    target = None if dtype == "auto" else dtypes.parse(dtype)
    model = BaseModel(base)
    check_space(out, sum(entry.size for entry in model.entries.values()))
    with files.replacing_folder(out, force) as folder, ExitStack() as opened:
        given = _as_adapter(adapter, folder / ".adapter")
        change = opened.enter_context(Adapter(given))
        plan = _plan(model, change, target, opened)
        check_space(out, sum(step.entry.size for steps in plan.values() for step in steps))
        size = _write(folder, plan, progress, cancelled or (lambda: False))
        _companions(model, given, folder, target, _untied_head(model, change))
        shutil.rmtree(folder / ".adapter", ignore_errors=True)
    kinds = Counter[str]()
    for step in (step for steps in plan.values() for step in steps):
        kinds[step.entry.dtype] += step.entry.size
    return Merged(
        out=out,
        dtype=dtypes.short(kinds.most_common(1)[0][0]),
        bytes=size,
        seconds=round(time.monotonic() - started, 3),
        peak_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    )


def _check(base: Path, adapter: Path, out: Path, device: str, force: bool) -> None:
    if device not in ("auto", "cpu"):
        raise Problem(
            _("Merging on {device} is not possible").format(device=device),
            _("It runs on the CPU, where it is about as fast as the disk."),
            _("Leave out --device."),
        )
    artefact.expect(adapter, (artefact.ADAPTER, *artefact.CHECKPOINTS), _("an adapter"))
    inputs = (base.resolve(), adapter.resolve())
    if any(one == out.resolve() or out.resolve() in one.parents for one in inputs):
        raise Problem(
            _("{path} cannot be the result").format(path=out),
            _("It is, or holds, what is being merged."),
            _("Choose another folder."),
        )
    files.refuse_existing(out, force)


def _as_adapter(given: Path, temporary: Path) -> Path:
    if artefact.identify(given).kind in artefact.CHECKPOINTS:
        return convert(given, temporary).adapter
    return given if given.is_dir() else given.parent


def _plan(
    model: BaseModel, change: Adapter, target: str | None, opened: ExitStack
) -> dict[str, list[_Step]]:
    """The result's shards: file name -> its tensors in order. Every adapter weight has a use."""
    deltas, replaced = dict(change.deltas), dict(change.replaced)
    head = _untied_head(model, change)
    places: dict[str | None, list[str]] = {}
    for name in dict.fromkeys((*deltas, *replaced)):
        places.setdefault(HEAD if head and name == HEAD else model.find(name), []).append(name)
    plan: dict[str, list[_Step]] = {}
    for file, entries in model.shards.items():
        reader = opened.enter_context(Reader(file))
        steps = []
        for entry in entries:
            if head and entry.name == HEAD:
                continue  # stored, but never used: the embedding stood in for it
            source = Weight(entry, partial(reader.chunks, entry))
            names = places.get(entry.name, [])
            steps.append(_step(entry, entry, source, names, deltas, replaced, target))
            if head and entry.name == model.embedding():
                copy = Entry(HEAD, entry.dtype, entry.shape)
                names = places.get(HEAD, [])
                steps.append(_step(copy, entry, source, names, deltas, replaced, target))
        plan[file.name if len(model.shards) > 1 else SINGLE] = steps
    unused = [*deltas, *replaced]
    if unused:
        raise Failed(
            _("The adapter does not fit the base model"),
            _("{count} of its weights have no place there: {name}, …").format(
                count=len(unused), name=unused[0]
            ),
            _("It was trained on {name}.").format(name=change.trained_on or "?"),
        )
    return plan


def _untied_head(model: BaseModel, change: Adapter) -> bool:
    """Whether a tied head becomes a tensor of its own: the adapter changes one of the two."""
    if not model.tied or model.embedding() is None:
        return False
    return any(
        name == HEAD or model.find(name) == model.embedding()
        for name in (*change.deltas, *change.replaced)
    )


def _step(
    entry: Entry,
    stored: Entry,
    source: Weight,
    names: list[str],
    deltas: dict[str, Delta],
    replaced: dict[str, Weight],
    target: str | None,
) -> _Step:
    """How `entry` is made; what is used of `deltas` and `replaced` is taken out of them."""
    dtype = target if target and stored.dtype in dtypes.FLOATS else stored.dtype
    delta = None
    for name in names:
        source = replaced.pop(name, source)
        delta = deltas.pop(name, delta)
    if source.entry.shape != stored.shape or (delta and delta.shape != stored.shape):
        raise Failed(
            _("The adapter does not fit the base model"),
            _("{name} has the shape {base} in the base and {adapter} in the adapter.").format(
                name=entry.name,
                base=list(stored.shape),
                adapter=list(delta.shape if delta else source.entry.shape),
            ),
            _("Give the base model that it was trained on."),
        )
    if delta and stored.dtype not in dtypes.FLOATS:
        raise Problem(
            _("Cannot merge into {name}").format(name=entry.name),
            _("It is stored as {dtype}, a quantized type.").format(dtype=stored.dtype),
            _("Give the unquantized model."),
        )
    return _Step(Entry(entry.name, dtype, stored.shape), source, delta)


def _write(
    folder: Path,
    plan: dict[str, list[_Step]],
    progress: Progress | None,
    cancelled: Callable[[], bool],
) -> int:
    """Write all shards (and their index); returns the bytes of the weights."""
    total = sum(step.entry.size for steps in plan.values() for step in steps)
    done = 0

    def watched(step: _Step) -> Iterator[bytes]:
        nonlocal done
        for piece in _merged(step):
            if cancelled():
                raise Failed(_("Merging was cancelled"), _("Nothing was written."))
            yield piece
            done += len(piece)
            if progress:
                progress(done, total)

    size = 0
    for name, steps in plan.items():
        tensors = [(step.entry, watched(step)) for step in steps]
        size += safetensors_file.write(folder / name, tensors)
    if len(plan) > 1:
        where = {step.entry.name: name for name, steps in plan.items() for step in steps}
        index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(where.items()))}
        files.write_json(folder / INDEX, index)
    return size


def _merged(step: _Step) -> Iterator[bytes]:
    """The bytes of one tensor of the result."""
    stored = step.source.entry
    if step.delta is None and stored.dtype == step.entry.dtype:
        yield from step.source.chunks()
        return
    import numpy

    kind = dtypes.numpy_dtype(stored.dtype)
    rows = step.delta.rows() if step.delta else None
    first = 0
    for piece in step.source.chunks():
        values = numpy.frombuffer(piece, kind)
        if rows:
            block = values.reshape(-1, step.entry.shape[1]).astype(numpy.float32)
            block += rows(first, first + len(block))
            first += len(block)
            values = block
        yield dtypes.cast(values, step.entry.dtype, step.entry.name).tobytes()


def _companions(
    model: BaseModel,
    adapter: Path,
    folder: Path,
    target: str | None,
    untied: bool,
) -> None:
    """Config, tokenizer, templates, code and licence, and the XTuner config of the training."""
    config: dict[str, Any] = dict(model.config)
    if untied:
        config["tie_word_embeddings"] = False
    if target:
        config["dtype" if "dtype" in config else "torch_dtype"] = dtypes.torch_name(target)
    if config == model.config:
        shutil.copyfile(model.path / CONFIG, folder / CONFIG)
    else:
        (folder / CONFIG).write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n")
    for file in model.companions():
        shutil.copyfile(file, folder / file.name)
    trained = adapter / XTUNER_CONFIG
    if trained.is_file():
        shutil.copyfile(trained, folder / XTUNER_CONFIG)
    for file in folder.iterdir():
        if file.is_file():
            file.chmod(0o600)
