"""What checks found before, kept in a folder for each question."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import msgspec

from engine import files
from engine.dataset.reader import Dataset
from engine.errors import Problem
from engine.i18n import language
from engine.paths import expanded
from engine.settings import Settings

FORMAT = 6
"""Goes up when a check finds more, or says it differently."""
KEPT = 20
"""Checks kept; those not asked for the longest go."""
_TOKENIZER = ("token", "vocab", "merges", "special", "added", "spiece", "chat_template")


def key(
    dataset: Dataset,
    model: Path | str | None,
    template: str | None,
    max_length: int,
    settings: Settings,
) -> str | None:
    """Stands for everything that the answer depends on; None when that cannot be told."""
    told = None if model is None else _tokenizer(expanded(model))
    if model is not None and told is None:
        return None  # a name on the hub: what it names may change
    parts = [
        FORMAT,
        dataset.fingerprint(),
        dataset.format,
        _shape(dataset.shape),
        told,
        None if model is None else [template, max_length],
        settings.python,
        language(),
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def _shape(name: str) -> str:
    """The name, with the content of the map function's module that it may name."""
    module = Path(name)
    return name + (hashlib.sha256(module.read_bytes()).hexdigest() if module.is_file() else "")


def _tokenizer(folder: Path) -> str | None:
    """A fingerprint of the tokenizer in `folder`; None when it is no folder.

    Of its files' content, and of the Python code that may come with them.
    """
    if not folder.is_dir():
        return None
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        wanted = path.name.startswith(_TOKENIZER) or path.suffix in (".py", ".model", ".tiktoken")
        if path.is_file() and (wanted or path.name == "config.json"):
            digest.update(f"{path.name} {path.stat().st_size} ".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


def folder(cache: Path, name: str) -> Path:
    """The folder for the question `name`, made or marked as used; old ones go."""
    checks = files.private_folder(cache / "checks")
    wanted = files.private_folder(checks / name)
    os.utime(wanted)
    others = sorted(checks.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
    for old in others[KEPT:]:
        shutil.rmtree(old, ignore_errors=True)
    return wanted


def usable(cache: Path) -> bool:
    """Whether a megabyte finds room there."""
    try:
        with TemporaryFile(dir=files.private_folder(cache)) as file:
            file.write(bytes(1_000_000))
    except (OSError, Problem):
        return False
    return True


def load(kept: Path, name: str) -> dict[str, Any] | None:
    """What was stored under `name`; None when it is not there."""
    try:
        found: dict[str, Any] = msgspec.json.decode((kept / f"{name}.json").read_bytes())
    except (OSError, msgspec.MsgspecError):
        return None
    return found


def store(kept: Path, name: str, value: dict[str, Any]) -> None:
    """Keep `value`. It is written last: what it speaks of lies there already.

    Where there is no room it is asked for anew next time.
    """
    with contextlib.suppress(OSError), files.replacing(kept / f"{name}.json") as file:
        file.write(msgspec.json.encode(value))
