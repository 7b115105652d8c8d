"""An adapter merged into its base model, one piece of one tensor at a time.

``W + scale * (B @ A)`` in float32, then rounded once to the type that is
written. The model is never built: shards come in, shards of the same layout go
out, so memory does not grow with the model, and neither torch nor a GPU is
needed. Where the adapter gives a tied embedding and head different values,
the merged model has both, untied.
"""

from __future__ import annotations

import json
import math
import resource
import shutil
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import msgspec

from engine import files
from engine.assignments import XTUNER_CONFIG
from engine.errors import Failed, Problem
from engine.export import (
    artefact,
    blas,
    card,
    dtypes,
    gpu_merge,
    model_folder,
    room,
    training,
    unquantized,
)
from engine.export.adapter import Adapter, Delta
from engine.export.base_model import BaseModel
from engine.export.convert import CONFIG, Progress, convert
from engine.export.gpu_merge import GpuMerge
from engine.export.output import Output
from engine.export.recipe import Recipe, WeightFile
from engine.export.weights import Entry, Weight
from engine.i18n import _
from engine.settings import Settings


class Merged(msgspec.Struct, frozen=True):
    """What `merge` made.

    `base` is what was merged into (not always what was asked for: of a
    quantized model it is the one that it was made from), `device` the
    GPU's name or ``cpu``, `peak_bytes` the most
    memory this process ever held.
    """

    out: Path
    dtype: str
    bytes: int
    seconds: float
    peak_bytes: int
    base: Path
    device: str = "cpu"


def merge(
    base: Path,
    adapter: Path,
    out: Path,
    *,
    dtype: str = "auto",
    device: str = "auto",
    settings: Settings | None = None,
    force: bool = False,
    progress: Progress | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Merged:
    """Write `base` with `adapter` merged into it to the new folder `out`.

    Args:
        base: a model's folder, safetensors or pickles. Of a quantized one the
            unquantized original is looked for on this machine.
        adapter: a LoRA adapter folder, or a checkpoint that holds one.
        out: the folder to make.
        dtype: ``auto`` (each tensor keeps the base's), ``bf16``, ``fp16``, ``fp32``.
        device: ``auto``, ``cpu`` or ``cuda:N``. On a GPU the last bit of a weight
            may differ: sums are taken in another order.
        settings: say which interpreter has torch, for a GPU.
        force: replace `out` when it exists.
        progress: told the bytes written so far.
        cancelled: asked often; once true, merging stops with nothing written.

    Raises `Problem` for what cannot be merged and `Failed` when adapter and
    base do not belong together.
    """
    started = time.monotonic()
    blas.one_thread()
    _check(base, adapter, out, force)
    target = None if dtype == "auto" else dtypes.parse(dtype)
    with ExitStack() as opened:
        base = unquantized.find(base, _named(adapter))
        model = opened.enter_context(BaseModel(base))
        room.check_disk(out, sum(entry.size for entry in model.entries.values()))
        folder = opened.enter_context(files.replacing_folder(out, force))
        given = _as_adapter(adapter, folder / ".adapter")
        change = opened.enter_context(Adapter(given))
        plan = _plan(model, change, target)
        room.check_disk(out, sum(file.size for file in plan.values()))
        room.check_memory(2 * max((one.memory for one in change.deltas.values()), default=0))
        gpu = _use_gpu(plan, settings or Settings(), device)
        where = "cpu" if gpu is None else opened.enter_context(gpu).name
        output = Output(folder)
        told = _told(sum(file.size for file in plan.values()), progress, cancelled)
        size = model_folder.write_weights(output, plan, told)
        _describe(output, model, given, target, _untied_head(model, change))
        shutil.rmtree(folder / ".adapter", ignore_errors=True)
    kinds = Counter[str]()
    for entry in (entry for file in plan.values() for entry in file.entries):
        kinds[entry.dtype] += entry.size
    return Merged(
        out=out,
        dtype=dtypes.short(kinds.most_common(1)[0][0]),
        bytes=size,
        seconds=round(time.monotonic() - started, 3),
        peak_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        base=base,
        device=where,
    )


def _check(base: Path, adapter: Path, out: Path, force: bool) -> None:
    artefact.expect(adapter, (artefact.ADAPTER, *artefact.CHECKPOINTS), _("an adapter"))
    inputs = (base.resolve(), adapter.resolve())
    if any(one == out.resolve() or out.resolve() in one.parents for one in inputs):
        raise Problem(
            _("{path} cannot be the result").format(path=out),
            _("It is, or holds, what is being merged."),
            _("Choose another folder."),
        )
    files.refuse_existing(out, force)


def _named(adapter: Path) -> str:
    """The base model that an adapter's folder names, or ""."""
    try:
        told = json.loads((adapter / CONFIG).read_bytes())
        return str(told.get("base_model_name_or_path") or "")
    except (OSError, ValueError, AttributeError):
        return ""


def _as_adapter(given: Path, temporary: Path) -> Path:
    if artefact.identify(given).kind in artefact.CHECKPOINTS:
        return convert(given, temporary).adapter
    return given if given.is_dir() else given.parent


def _plan(model: BaseModel, change: Adapter, target: str | None) -> dict[str, WeightFile]:
    """The result's weight files by name. Every adapter weight has a use."""
    deltas, replaced = dict(change.deltas), dict(change.replaced)
    head = model.head() if _untied_head(model, change) else None
    places: dict[str | None, list[str]] = {}
    for name in dict.fromkeys((*deltas, *replaced)):
        places.setdefault(head if name == head else model.find(name), []).append(name)
    plan: dict[str, WeightFile] = {}
    for file, weights in model.shards.items():
        recipes: list[Recipe] = []
        for weight in weights:
            entry = weight.entry
            if entry.name == head:
                continue  # stored, but never used: the embedding stood in for it
            names = places.get(entry.name, [])
            recipes.append(_recipe(entry, weight, names, deltas, replaced, target))
            if head and entry.name == model.embedding():
                copy = Entry(head, entry.dtype, entry.shape)
                names = places.get(head, [])
                recipes.append(_recipe(copy, weight, names, deltas, replaced, target))
        plan[file] = WeightFile(recipes)
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
        name == model.head() or model.find(name) == model.embedding()
        for name in (*change.deltas, *change.replaced)
    )


def _recipe(
    entry: Entry,
    source: Weight,
    names: list[str],
    deltas: dict[str, Delta],
    replaced: dict[str, Weight],
    target: str | None,
) -> Recipe:
    """How `entry` is made; what is used of `deltas` and `replaced` is taken out of them."""
    stored = source.entry
    dtype = target if target and stored.dtype in dtypes.FLOATS else stored.dtype
    delta = None
    for name in names:
        source = replaced.pop(name, source)
        delta = deltas.pop(name, delta)
    if source.entry.shape != stored.shape or (
        delta and delta.shape not in (stored.shape, (*stored.shape, 1))
    ):
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
    return Recipe(Entry(entry.name, dtype, stored.shape), source, delta)


def _use_gpu(plan: dict[str, WeightFile], settings: Settings, device: str) -> GpuMerge | None:
    """Hand the arithmetic to a GPU, if one is asked for or worth it."""
    changed = [one for file in plan.values() for one in file.recipes if one.delta]
    gpu = gpu_merge.start(settings, device, sum(math.prod(one.entry.shape) for one in changed))
    for one in changed:
        one.gpu = gpu
    return gpu


def _told(
    total: int, progress: Progress | None, cancelled: Callable[[], bool] | None
) -> Callable[[int], None]:
    """What is called with the bytes of each chunk."""
    done = 0

    def told(count: int) -> None:
        nonlocal done
        if cancelled and cancelled():
            raise Failed(_("Merging was cancelled"), _("Nothing was written."))
        done += count
        if progress:
            progress(done, total)

    return told


def _describe(
    output: Output, model: BaseModel, adapter: Path, target: str | None, untied: bool
) -> None:
    """Write all that makes weights a model, and what it was trained with."""
    changes: dict[str, object] = {"tie_word_embeddings": False} if untied else {}
    model_folder.write_companions(output, model.path, model.config, target, changes)
    for file in (adapter / XTUNER_CONFIG, adapter / training.NAME):
        if file.is_file():
            output.copy(file)
    trained_with = adapter / XTUNER_CONFIG
    config = trained_with.read_text("utf-8", "replace") if trained_with.is_file() else ""
    told = json.loads((adapter / CONFIG).read_bytes())
    base = str(told.get("base_model_name_or_path") or model.path)
    trained = training.read(adapter)
    card.write(output, base, card.merged(base, told, config), config, trained)
    output.manifest()
