"""From a checkpoint to a checked model: which steps, where each result goes, what it costs.

The plan is read from what lies on disk, so it says the same after a restart.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import msgspec

from engine import files, weight_files
from engine.assignments import XTUNER_CONFIG
from engine.errors import Problem
from engine.export import artefact, job, trained_config
from engine.export.convert import CONFIG, default_out
from engine.export.job import Order, Step
from engine.export.verify import Verified
from engine.i18n import _
from engine.settings import Settings
from engine.workspace import Workspace

CHOICES = "export.json"

VERIFIED = ".verified.json"
"""Ends the name of the file beside the merged folder that says what `verify` found."""


class Choices(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a workspace's models are made; what was chosen last is chosen again."""

    dtype: str = "auto"
    device: str = "auto"
    out: str = ""
    """The folder for finished models, as a person writes it; "" is the workspace's models/."""
    target: str = ""
    """Where a model was uploaded last (``hf:me/name``)."""


def choices(workspace: Workspace) -> Choices:
    """What was chosen last in `workspace`."""
    try:
        return msgspec.json.decode((workspace.state / CHOICES).read_bytes(), type=Choices)
    except (OSError, msgspec.MsgspecError):
        return Choices()


def choose(workspace: Workspace, chosen: Choices) -> None:
    """Remember `chosen`."""
    files.write_json(workspace.state / CHOICES, chosen)


class Plan(msgspec.Struct, frozen=True):
    """Where an export stands.

    `kind` is `artefact.MODEL` where the whole model was trained: there is no adapter
    then and nothing to merge, converting makes `merged`.

    `base` is None when nobody has said which model the adapter belongs to, or
    when it is not on this machine.
    """

    checkpoint: Path
    adapter: Path
    base: Path | None
    base_name: str
    """The base as the config writes it: a path or a hub name."""
    merged: Path
    verified: Verified | None
    kind: str = artefact.ADAPTER
    torn: bool = False
    faults: dict[Step, str] = {}
    """Steps whose results are there and not whole, and what they lack, in a sentence."""

    @property
    def whole(self) -> bool:
        """Whether the whole model was trained."""
        return self.kind == artefact.MODEL

    @property
    def converted(self) -> bool:
        """Whether the adapter (or the model that was trained) is there."""
        made = (self.adapter / CONFIG).is_file() and "convert" not in self.faults
        return self.is_merged if self.whole else made

    @property
    def left(self) -> tuple[Step, ...]:
        """The steps that are not done."""
        return tuple(step for step, done in self._steps.items() if not done)

    @property
    def done(self) -> tuple[Step, ...]:
        """The steps whose results are there, and those of the steps before them too."""
        steps = itertools.takewhile(lambda step: self._steps[step], self._steps)
        return tuple(step for step in steps if not (self.whole and step == "merge"))

    @property
    def _steps(self) -> dict[Step, bool]:
        return {
            "convert": self.converted,
            "merge": self.is_merged or self.whole,
            "verify": self.is_merged and self.verified is not None,
        }

    @property
    def is_merged(self) -> bool:
        """Whether the merged model is there, and nobody has taken a part of it away since."""
        made: Step = "convert" if self.whole else "merge"
        return (self.merged / "config.json").is_file() and made not in self.faults

    def made_by(self, step: Step) -> Path:
        """Where the result of a step lies."""
        return self.adapter if step == "convert" and not self.whole else self.merged

    @property
    def checkpoint_bytes(self) -> int:
        """Size of the checkpoint."""
        return _size(self.checkpoint)


def plan(checkpoint: Path, workspace: Workspace, base: Path | None = None) -> Plan:
    """The plan for `checkpoint`; `base` overrides the model that its config names.

    Without `base` it is the one that was given to its last job: what was merged with it is
    verified against it, by whatever window.

    Raises `Problem` when `checkpoint` is something else.
    """
    # A torn one can be planned with: converting it says what is wrong with it.
    kinds = (*artefact.CHECKPOINTS, artefact.TORN)
    what = artefact.expect(checkpoint, kinds, _("a checkpoint"))
    found = what.path.resolve()
    adapter = default_out(found)
    whole = not (adapter / CONFIG).is_file() and _is_whole(found)
    base = base or _base_given(workspace, found)
    name = _base_name(found, adapter)
    local = base or (workspace.resolve(name) if name else None)
    chosen = choices(workspace).out
    models = workspace.resolve(chosen) if chosen else workspace.models
    merged = models / f"{found.parent.name}-{found.name.removesuffix('.pth')}"
    last = workspace.last()
    if last.merged and last.adapter == str(adapter):
        merged = Path(last.merged)  # it was merged under a name of its own
    return Plan(
        checkpoint=found,
        adapter=adapter,
        base=local if local and (local / "config.json").is_file() else None,
        base_name=str(base or name),
        merged=merged,
        verified=verified(merged),
        kind=artefact.MODEL if whole else artefact.ADAPTER,
        torn=what.kind == artefact.TORN,
        faults=_faults(adapter, merged, whole),
    )


def _faults(adapter: Path, merged: Path, whole: bool) -> dict[Step, str]:
    found: dict[Step, str] = {"convert" if whole else "merge": _of_model(merged)}
    if not whole:
        found["convert"] = _of_adapter(adapter)
    return {step: why for step, why in found.items() if why}


def _of_model(folder: Path) -> str:
    if not folder.exists():
        return ""
    if not (folder / "config.json").is_file():
        return _("It has no {file}.").format(file="config.json")
    return weight_files.fault(folder)


def _of_adapter(folder: Path) -> str:
    if not folder.exists():
        return ""
    if not (folder / CONFIG).is_file():
        return _("It has no {file}.").format(file=CONFIG)
    return weight_files.fault_of_adapter(folder)


def order(
    plan: Plan,
    steps: tuple[Step, ...],
    *,
    workspace: Workspace,
    settings: Settings,
    again: bool = False,
    rows: tuple[str, ...] = (),
) -> Order:
    """The order for some `steps` of `plan`, with the workspace's choices.

    Raises `Problem` when a step needs the base model and nobody knows where it is.
    """
    needs_base = bool({"merge", "verify"}.intersection(steps)) and not plan.whole
    if plan.base is None and (needs_base or (plan.whole and "convert" in steps)):
        raise Problem(
            _("The base model is not here"),
            _("The config names {name}.").format(name=plan.base_name or "?"),
            _("Give the folder of that model."),
            ways=("base",),
        )
    chosen = choices(workspace)
    return Order(
        checkpoint=str(plan.checkpoint),
        steps=steps,
        adapter="" if plan.whole else str(plan.adapter),
        base=str(plan.base or ""),
        merged=str(plan.merged),
        dtype=chosen.dtype,
        device=chosen.device,
        again=again,
        rows=rows,
        interpreter=settings.interpreter,
        threads=settings.threads,
        llama_cpp=settings.llama_cpp,
    )


def config_text(plan: Plan) -> str:
    """The text of the config that `plan`'s checkpoint was trained with, "" when not found."""
    found = (_text(file) for file in _configs(plan.checkpoint, plan.adapter))
    return next((text for text in found if trained_config.read(text) is not None), "")


def keep(merged: Path, found: Verified) -> None:
    """Note beside the merged model what `verify` found."""
    files.write_json(merged.with_name(merged.name + VERIFIED), found)


def verified(merged: Path) -> Verified | None:
    """What `verify` found of this very folder; None when it was made again since."""
    note = merged.with_name(merged.name + VERIFIED)
    try:
        if note.stat().st_mtime < merged.stat().st_mtime:
            return None
        return msgspec.json.decode(note.read_bytes(), type=Verified)
    except (OSError, msgspec.MsgspecError):
        return None


def _base_name(checkpoint: Path, adapter: Path) -> str:
    """The base model as the adapter's or the run's config names it; "" when neither tells."""
    try:
        described: dict[str, Any] = msgspec.json.decode((adapter / CONFIG).read_bytes())
        return str(described.get("base_model_name_or_path") or "")
    except (OSError, msgspec.MsgspecError):
        pass
    known = _known(checkpoint, adapter)
    return known.base if known is not None else ""


def _base_given(workspace: Workspace, checkpoint: Path) -> Path | None:
    """The base that `checkpoint`'s last job made or checked a model with, if it is here."""
    order = job.of(workspace, checkpoint).order
    if order is None or not order.base or (order.adapter and order.steps == ("convert",)):
        return None
    base = Path(order.base)
    return base if (base / "config.json").is_file() else None


def _is_whole(checkpoint: Path) -> bool:
    known = _known(checkpoint, default_out(checkpoint))
    return known is not None and bool(known.base) and known.lora is None


def _known(checkpoint: Path, adapter: Path) -> trained_config.TrainedConfig | None:
    """What the config says that lies with the adapter or in the run's folder."""
    found = (trained_config.read(_text(file)) for file in _configs(checkpoint, adapter))
    return next((known for known in found if known is not None and known.base), None)


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def _configs(checkpoint: Path, adapter: Path) -> list[Path]:
    found = sorted(checkpoint.parent.glob("*.py"))
    return [
        adapter / XTUNER_CONFIG,
        *(one for one in found if not one.name.startswith("zero_")),
    ]


def _size(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    if not path.is_dir():
        return 0
    return sum(one.stat().st_size for one in path.iterdir() if one.is_file())
