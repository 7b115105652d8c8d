"""The checkpoints of a run, in both forms that XTuner writes.

Whether one is whole is told without torch and without reading its tensors: a
``.pth`` is a zip, which has its list of contents at its end; a folder of
DeepSpeed's says how many ranks wrote into it. What a run of ours writes bears
its name only when it is whole (`engine.train.saving`); plain XTuner writes
under the final name, and is killed in the middle of it.
"""

from __future__ import annotations

import contextlib
import functools
import math
import re
import shutil
import zipfile
from bisect import bisect_right
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from engine import files
from engine.run.points import History

_NAME = re.compile(r"(iter|epoch)_(\d+)\.pth")
_PARTS = ".*.pth*.part"
"""Checkpoints of ours that are being written."""

# In the pickle of DeepSpeed's model states. A number follows its key, with at most the
# order to remember the key between them; so does None.
_MEMO = rb"(?:q.|r.{4})?"
_RANKS = re.compile(rb"dp_world_size" + _MEMO + rb"(?:K(.)|M(..))", re.DOTALL)
_NO_OPTIMIZER = re.compile(rb"X\x09\x00\x00\x00optimizer" + _MEMO + rb"N", re.DOTALL)
_RANK = re.compile(r"zero_pp_rank_(\d+)_mp_rank_(\d+)_(model|optim)_states\.pt")


class Checkpoint(msgspec.Struct, frozen=True):
    """One checkpoint."""

    path: Path
    step: int
    """The iteration after which it was saved (the epoch, for an ``epoch_N.pth``)."""
    kind: Literal["file", "deepspeed"]
    """A ``.pth`` file, or a folder that DeepSpeed wrote."""
    bytes: int
    complete: bool
    """False while it is being written, and when writing was cut short."""
    loss: float | None = None
    """The loss logged last before it was saved."""


def find(folder: Path, history: History | None = None) -> list[Checkpoint]:
    """The checkpoints in `folder`, in order of step; their loss is looked up in `history`."""
    found = []
    try:
        entries = list(folder.iterdir())
    except OSError:
        return []
    for entry in entries:
        name = _NAME.fullmatch(entry.name)
        if name is not None:
            try:
                found.append(_look(entry, int(name[2]), history))
            except OSError:  # it was removed just now: XTuner keeps only so many
                continue
    return sorted(found, key=lambda one: one.step)


class Noted(NamedTuple):
    """The checkpoint that XTuner noted last; "" for none, and while the note is written."""

    changed: int
    """When, in nanoseconds since the epoch."""
    name: str

    @property
    def step(self) -> int | None:
        """The step (or epoch) that its name tells."""
        digits = "".join(letter for letter in self.name if letter.isdigit())
        return int(digits) if digits else None


def noted(folder: Path) -> Noted:
    """What XTuner's own note in `folder` says."""
    path = folder / "last_checkpoint"
    try:
        changed = path.stat().st_mtime_ns
        return Noted(changed, Path(path.read_text(encoding="utf-8").strip()).name)
    except (OSError, UnicodeDecodeError):
        return Noted(0, "")


def note_moved(old: Path, new: Path) -> None:
    """Correct the whole path in XTuner's own note, where the run's folder `old` is now `new`."""
    if new == old:
        return
    note = new / "last_checkpoint"
    with contextlib.suppress(OSError, ValueError):
        inside = Path(note.read_text(encoding="utf-8").strip()).relative_to(old)
        with files.replacing(note) as file:
            file.write(str(new / inside).encode())


def clear_parts(folder: Path) -> None:
    """Remove what saves that were cut short left in `folder`; nobody may be writing there."""
    for part in folder.glob(_PARTS):
        if part.is_dir():
            shutil.rmtree(part, ignore_errors=True)
        else:
            part.unlink(missing_ok=True)


def growing(folder: Path) -> int:
    """Bytes written so far of checkpoints that are being saved in `folder`."""
    total = 0
    for part in folder.glob(_PARTS):
        for file in part.rglob("*") if part.is_dir() else (part,):
            with contextlib.suppress(OSError):  # it got its name just now
                total += file.stat().st_size
    return total


def _look(path: Path, step: int, history: History | None) -> Checkpoint:
    loss = _loss(history, step) if history is not None else None
    if path.is_dir():
        parts = [part for part in path.rglob("*") if part.is_file()]
        size = sum(part.stat().st_size for part in parts)
        return Checkpoint(path, step, "deepspeed", size, _whole_folder(parts), loss)
    return Checkpoint(path, step, "file", path.stat().st_size, _whole_file(path), loss)


def _whole_file(path: Path) -> bool:
    seen = path.stat()
    return _is_whole_zip(path, seen.st_ino, seen.st_size, seen.st_mtime_ns)


@functools.lru_cache(maxsize=4096)
def _is_whole_zip(path: Path, _inode: int, _size: int, _changed: int) -> bool:
    """Whether the list of contents is there and all contents are: asked once a file."""
    try:
        with zipfile.ZipFile(path) as archive:
            # It is at the end, so what it lists has been written before it. A file whose
            # beginning is missing or shifted is told by where its entries would lie.
            first = min((entry.header_offset for entry in archive.infolist()), default=-1)
        with path.open("rb") as file:
            return first == 0 and file.read(4) == b"PK\x03\x04"
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError):
        return False


def _whole_folder(parts: list[Path]) -> bool:
    """Whether each rank's share of DeepSpeed's folder is there, and whole."""
    states = [part for part in parts if part.suffix == ".pt"]
    models = [part for part in states if "model_states" in part.name]
    if not models or not all(_whole_file(part) for part in states):
        return False
    ranks, needs_optimizer = _promised(models[0])
    shares = {
        kind: {
            int(found[1])
            for part in states
            if (found := _RANK.search(part.name)) and found[3] == kind
        }
        for kind in ("model", "optim")
    }
    if not shares["optim"] and needs_optimizer:
        return False
    # Without ZeRO there is no optim file; before ZeRO-3, one model file for all ranks. More
    # ranks than that are an earlier save's under the same name.
    return all(not share or share >= set(range(ranks)) for share in shares.values())


def _promised(model_states: Path) -> tuple[int, bool]:
    """How many ranks wrote the folder of `model_states`, and whether optimizers lie beside it."""
    seen = model_states.stat()
    return _read_promise(model_states, seen.st_ino, seen.st_mtime_ns)


@functools.lru_cache(maxsize=1024)
def _read_promise(model_states: Path, _inode: int, _changed: int) -> tuple[int, bool]:
    with zipfile.ZipFile(model_states) as archive:
        names = [name for name in archive.namelist() if name.endswith("data.pkl")]
        pickle = archive.read(names[0]) if names else b""
    ranks = _RANKS.search(pickle)
    count = int.from_bytes(ranks[1] or ranks[2], "little") if ranks else 1
    return count, _NO_OPTIMIZER.search(pickle) is not None


def _loss(history: History, step: int) -> float | None:
    at = bisect_right(history.step, step) - 1
    if at < 0 or not math.isfinite(history["loss"][at]):
        return None
    return history["loss"][at]
