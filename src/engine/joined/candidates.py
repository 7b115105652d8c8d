"""What a workspace has to chat with: its models, adapters and checkpoints. Takes run and export."""

from __future__ import annotations

from pathlib import Path

import msgspec

from engine.chat.sources import ModelSpec, is_endpoint
from engine.errors import Problem
from engine.export import artefact, convert
from engine.export.plan import plan
from engine.i18n import _
from engine.machine.devices import GpuId
from engine.run.checkpoints import Checkpoint
from engine.run.folder import RunFolder
from engine.run.listing import list_runs
from engine.workspace import Workspace


class Candidate(msgspec.Struct, frozen=True):
    """Something that can answer.

    `spec` loads it. A checkpoint that nobody converted yet has its path in
    `checkpoint`; `ready` converts it first.
    """

    title: str
    detail: str
    spec: ModelSpec
    checkpoint: Path | None = None


def candidates(workspace: Workspace) -> list[Candidate]:
    """The checkpoints of each run, newest first, then the models."""
    found = [one for run in list_runs(workspace) for one in _of_run(run, workspace)]
    models = (config.parent for config in sorted(workspace.models.glob("*/config.json")))
    return found + [
        Candidate(one.name, workspace.relative(one), ModelSpec(str(one))) for one in models
    ]


def suggested(workspace: Workspace) -> dict[str, Candidate]:
    """What was made last in slot A, and its base beside it in B."""
    last = workspace.last()
    found: list[Candidate] = []
    if last.merged and Path(last.merged).exists():
        found.append(_model(Path(last.merged)))
    elif last.adapter and last.base and Path(last.adapter).exists():
        found.append(_adapted(Path(last.base), Path(last.adapter)))
    if last.base and Path(last.base).exists():
        found.append(_model(Path(last.base)))
    return dict(zip("AB", found, strict=False))


def named(text: str, workspace: Workspace) -> Candidate:
    """What a person means by `text`: a server's address, a model, an adapter, a checkpoint.

    Raises `Problem` for an adapter or a checkpoint whose base model is not known.
    """
    if is_endpoint(text):
        return Candidate(text, _("a server"), ModelSpec(text))
    path = workspace.resolve(text)
    found = artefact.identify(path)
    if found.kind in artefact.CHECKPOINTS:
        made = _of_checkpoint(path, workspace, path.name, "")
        if made is not None:
            return made
    elif found.kind == artefact.ADAPTER:
        base = _base_of(path, workspace)
        if base is not None:
            return _adapted(base, path)
    else:
        return _model(path)
    raise Problem(
        _("The base model of {path} is not here").format(path=path),
        _("Neither its config nor the run names a model's folder that exists."),
        _("Give it with its base: tunedeck chat BASE --adapter {path}").format(path=path),
    )


def adapted(base: str, adapter: str, workspace: Workspace) -> Candidate:
    """`adapter` (or a checkpoint) on the model `base`, whatever base it names itself."""
    if is_endpoint(base):
        raise Problem(
            _("A server cannot be given an adapter"),
            _("{address} answers with what it has loaded.").format(address=base),
            _("Name the model behind it: {address}#name").format(address=base),
        )
    on, path = workspace.resolve(base), workspace.resolve(adapter)
    if path.exists() and artefact.identify(path).kind in artefact.CHECKPOINTS:
        spec = ModelSpec(str(on), adapter=str(plan(path, workspace, on).adapter))
        return Candidate(path.name, _("on {base}").format(base=on.name), spec, path)
    return _adapted(on, path)


def ready(candidate: Candidate) -> ModelSpec:
    """What to load; a checkpoint is made an adapter first (seconds; it needs no base model)."""
    checkpoint = candidate.checkpoint
    if checkpoint is not None and not Path(candidate.spec.adapter or "").is_dir():
        convert.convert(checkpoint)
    return candidate.spec


def busy_gpus(workspace: Workspace) -> set[GpuId]:
    """The GPUs on which a run of this workspace trains (as the driver counts)."""
    return {gpu for run in list_runs(workspace) for gpu in _trains_on(run)}


def _trains_on(run: RunFolder) -> list[GpuId]:
    try:
        return run.gpus if run.state.living else []
    except Problem:  # its files were changed: it tells nothing
        return []


def _of_run(run: RunFolder, workspace: Workspace) -> list[Candidate]:
    """Its checkpoints; a folder that was changed must not hide the others."""
    try:
        whole = [one for one in reversed(run.checkpoints()) if one.complete]
        made = (
            _of_checkpoint(one.path, workspace, f"{run.name} · {_step(one)}", _loss(one))
            for one in whole
        )
        return [one for one in made if one is not None]
    except Problem:
        return []


def _of_checkpoint(path: Path, workspace: Workspace, title: str, detail: str) -> Candidate | None:
    planned = plan(path, workspace)
    if planned.whole:  # full fine-tuning: it is a model of its own once it is converted
        return (
            Candidate(title, detail, ModelSpec(str(planned.merged))) if planned.is_merged else None
        )
    if planned.base is None:
        return None
    spec = ModelSpec(str(planned.base), adapter=str(planned.adapter))
    words = [detail, _("on {base}").format(base=planned.base.name)]
    return Candidate(title, "  ".join(word for word in words if word), spec, path)


def _step(one: Checkpoint) -> str:
    return one.path.name.removesuffix(".pth")


def _loss(one: Checkpoint) -> str:
    return "" if one.loss is None else f"loss {one.loss:.3f}"


def _model(path: Path) -> Candidate:
    return Candidate(path.name, str(path), ModelSpec(str(path)))


def _adapted(base: Path, adapter: Path) -> Candidate:
    spec = ModelSpec(str(base), adapter=str(adapter))
    return Candidate(f"{base.name} + {adapter.name}", str(adapter), spec)


def _base_of(adapter: Path, workspace: Workspace) -> Path | None:
    """The base that an adapter's own config names, if it is on this machine."""
    try:
        described = msgspec.json.decode((adapter / convert.CONFIG).read_bytes())
        name = str(described.get("base_model_name_or_path") or "")
    except (OSError, msgspec.MsgspecError, AttributeError):
        return None
    local = workspace.resolve(name) if name else None
    return local if local is not None and (local / "config.json").is_file() else None
