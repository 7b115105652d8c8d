"""What a run reads of the user's: told again at a resume when it moved or changed since.

Every text in the frozen config that names a file or folder counts, so that no
list of settings has to be kept; what is read is written down at each start
(``inputs.json``).
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec

from engine import files
from engine.paths import expanded

NAME = "inputs.json"
_FILES = 100
"""Files of one folder that are looked at: enough for a model's shards."""
_WHOLE = 1 << 20
"""Bytes up to which a file is read whole; of a bigger one both ends are."""
_END = 1 << 16


class Print(msgspec.Struct, frozen=True):
    """A file as it was."""

    size: int
    mtime_ns: int
    digest: str
    """sha256 of it, or of the ends of a big one."""


class Input(msgspec.Struct, frozen=True):
    """A file or folder that the config names."""

    text: str
    """As the config writes it."""
    path: str
    files: dict[str, Print]
    """By the name inside the folder; "" for a file itself."""

    @property
    def is_model(self) -> bool:
        """Whether it is a model's folder (or a tokenizer's)."""
        return "config.json" in self.files or "tokenizer_config.json" in self.files


class Moved(msgspec.Struct, frozen=True):
    """An input that is not as it was."""

    input: Input
    how: Literal["missing", "changed", "touched"]
    """touched: written to since, with the same size and ends."""
    name: str = ""
    """The first file of a folder that differs."""


def write(folder: Path, config: Path, workspace: Path) -> None:
    """Write down what the run in `folder` reads; relative paths start from `workspace`."""
    files.write_json(folder / NAME, list(_inputs(config, workspace)))


def read(folder: Path) -> list[Input]:
    """What the run in `folder` read at its last start; empty for one that did not note it."""
    try:
        return msgspec.json.decode((folder / NAME).read_bytes(), type=list[Input])
    except (OSError, msgspec.MsgspecError):
        return []


def moved(folder: Path, workspace: Path) -> list[Moved]:
    """The inputs of the run in `folder` that are not as they were at its last start.

    workspace: where relative paths start now.
    """
    found = []
    for read_then in read(folder):
        path = Path(os.path.normpath(workspace / expanded(read_then.text)))
        one = msgspec.structs.replace(read_then, path=str(path))
        if not path.exists():
            found.append(Moved(one, "missing"))
        elif differs := _difference(one.files, prints(path)):
            found.append(Moved(one, *differs))
    return found


def same(one: Input, path: Path) -> bool:
    """Whether `path` has the content that `one` had, wherever that was."""
    now = prints(path)
    return bool(now) and {name: (was.size, was.digest) for name, was in one.files.items()} == {
        name: (is_now.size, is_now.digest) for name, is_now in now.items()
    }


def prints(path: Path) -> dict[str, Print]:
    """The files at `path`, by their names inside it."""
    found = {}
    for file in _files(path):
        # One that is gone, or not ours to read, is missing from the list.
        with contextlib.suppress(OSError):
            found["" if file == path else str(file.relative_to(path))] = _print(file)
    return found


def _inputs(config: Path, workspace: Path) -> Iterator[Input]:
    for text in _texts(config):
        path = _path(text, workspace)
        if path is not None:
            yield Input(text, str(path), prints(path))


def _path(text: str, workspace: Path) -> Path | None:
    """The file or folder that `text` names; a folder that the run itself lies in is no input."""
    try:
        path = Path(os.path.normpath(workspace / expanded(text)))
        return path if path.exists() and not workspace.is_relative_to(path) else None
    except (OSError, ValueError, RuntimeError):  # too long for a path, and the like
        return None


def _texts(config: Path) -> list[str]:
    """The one-line texts in a config, each once."""
    try:
        tree = ast.parse(config.read_text(encoding="utf-8-sig"))
    except (OSError, SyntaxError, ValueError):
        return []
    texts = [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    return [text for text in dict.fromkeys(texts) if text.strip() and "\n" not in text]


def _files(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
        return
    count = 0
    for folder, inside, names in os.walk(path):
        inside[:] = sorted(name for name in inside if not name.startswith("."))
        for name in sorted(names):
            if count == _FILES:
                return
            count += 1
            yield Path(folder, name)


def _print(file: Path) -> Print:
    status = file.stat()
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        if status.st_size <= _WHOLE:
            digest.update(stream.read())
        else:
            digest.update(stream.read(_END))
            stream.seek(-_END, os.SEEK_END)
            digest.update(stream.read())
    return Print(status.st_size, status.st_mtime_ns, digest.hexdigest())


def _difference(
    before: dict[str, Print], now: dict[str, Print]
) -> tuple[Literal["changed", "touched"], str] | None:
    touched = ""
    for name in sorted(before.keys() | now.keys()):
        was, is_now = before.get(name), now.get(name)
        if was is None or is_now is None or (was.size, was.digest) != (is_now.size, is_now.digest):
            return "changed", name
        if was.mtime_ns != is_now.mtime_ns:
            touched = touched or (name or ".")
    return ("touched", touched) if touched else None
