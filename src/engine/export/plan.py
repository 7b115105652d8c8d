"""From a checkpoint to a checked model: which steps, where each result goes, what it costs.

The plan is read from what lies on disk, so it says the same after a restart.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from engine import files
from engine.export import artefact, trained_config
from engine.export.convert import CONFIG, XTUNER_CONFIG, default_out
from engine.export.verify import Verified
from engine.i18n import _
from engine.workspace import Workspace

VERIFIED = ".verified.json"
"""Ends the name of the file beside the merged folder that says what `verify` found."""


class Plan(msgspec.Struct, frozen=True):
    """Where an export stands.

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

    @property
    def converted(self) -> bool:
        """Whether the adapter is there."""
        return (self.adapter / CONFIG).is_file()

    @property
    def is_merged(self) -> bool:
        """Whether the merged model is there (it gets its name only when it is whole)."""
        return (self.merged / "config.json").is_file()

    @property
    def checkpoint_bytes(self) -> int:
        """Size of the checkpoint."""
        return _size(self.checkpoint)

    @property
    def base_bytes(self) -> int:
        """Size of the base model, about what the merged one will need."""
        return _size(self.base) if self.base else 0


def plan(checkpoint: Path, workspace: Workspace, base: Path | None = None) -> Plan:
    """The plan for `checkpoint`; `base` overrides the model that its config names.

    Raises `Problem` when `checkpoint` is something else.
    """
    # A torn one can be planned with: converting it says what is wrong with it.
    kinds = (*artefact.CHECKPOINTS, artefact.TORN)
    found = artefact.expect(checkpoint, kinds, _("a checkpoint")).path.resolve()
    adapter = default_out(found)
    name = _base_name(found, adapter)
    local = base or (workspace.resolve(name) if name else None)
    merged = workspace.models / f"{found.parent.name}-{found.name.removesuffix('.pth')}"
    last = workspace.last()
    if last.merged and last.adapter == str(adapter):
        merged = Path(last.merged)  # it was merged under a name of its own
    return Plan(
        checkpoint=found,
        adapter=adapter,
        base=local if local and (local / "config.json").is_file() else None,
        base_name=str(base or name),
        merged=merged,
        verified=_verified(merged),
    )


def keep(merged: Path, found: Verified) -> None:
    """Note beside the merged model what `verify` found."""
    files.write_json(merged.with_name(merged.name + VERIFIED), found)


def _verified(merged: Path) -> Verified | None:
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
    for file in (adapter / XTUNER_CONFIG, *sorted(checkpoint.parent.glob("*.py"))):
        try:
            known = trained_config.read(file.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError):
            continue
        if known is not None and known.base:
            return known.base
    return ""


def _size(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(one.stat().st_size for one in path.iterdir() if one.is_file())
