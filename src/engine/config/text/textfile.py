"""A config as a file: read whole or not at all, written so that nobody's edit is lost."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from engine import files
from engine.errors import Problem
from engine.i18n import _, sentences

MOST = 4 << 20
"""Bytes; no config is that long."""


def read(path: Path) -> str:
    """The text of the file `path`, line ends as they are. Raises `Problem`."""
    try:
        if path.stat().st_size > MOST:
            raise Problem(
                _("{path} is no config").format(path=path),
                _("It is larger than any: {n:,} bytes.").format(n=path.stat().st_size),
                _("Give the path of a Python config."),
            )
        data = path.read_bytes()
    except OSError as error:
        raise Problem(
            _("Cannot read the config {path}").format(path=path),
            _("It is a folder.") if path.is_dir() else (error.strerror or str(error)),
            _("Give the path of a Python config, or copy one: tunedeck config copy NAME"),
        ) from error
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise _not_text(path, data, error) from error


def _not_text(path: Path, data: bytes, error: UnicodeDecodeError) -> Problem:
    line = data.count(b"\n", 0, error.start) + 1
    why = _("Byte {byte}, on line {line}, cannot be read.").format(byte=error.start, line=line)
    todo = _("Save it as UTF-8: mmengine reads configs only so.")
    guess = _encoding(data)
    if guess:
        name = path.name
        command = f"iconv -f {guess} -t UTF-8 {name} > utf8.py"
        looks = _("It looks like {encoding}: {command}")
        todo = sentences(todo, looks.format(encoding=guess, command=command))
    return Problem(_("{path} is not UTF-8 text").format(path=path), why, todo)


def _encoding(data: bytes) -> str:
    """What text that is not UTF-8 most likely is, or ""."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "UTF-16"
    if b"\0" in data:
        return ""
    try:
        data.decode("gb18030")
    except UnicodeDecodeError:
        return ""
    return "GB18030"


def now(path: Path) -> str | None:
    """The text of `path` now; None when it is gone or no text."""
    try:
        return path.read_bytes().decode()
    except (OSError, UnicodeDecodeError):
        return None


def write(path: Path, text: str, force: bool = False) -> Path:
    """Make `text` the content of `path`, its mode kept; return where it really went.

    A link is followed. Raises `Problem` for a file that is read-only, and one
    that exists unless `force`.
    """
    target = path.resolve()
    mode = 0o600
    if target.exists():
        mode = stat.S_IMODE(target.stat().st_mode)
        # Replacing a file asks only for a folder that can be written to; a file
        # that was made read-only is meant to stay.
        if not mode & 0o222 or not os.access(target, os.W_OK):
            raise Problem(
                _("{path} is read-only").format(path=target),
                _("Nothing was written."),
                _("Make it writable (chmod u+w), or copy it: tunedeck config copy FILE NEW.py"),
            )
    try:
        with files.replacing(target, force=force, mode=mode) as file:
            file.write(text.encode())
    except OSError as error:
        raise Problem(
            _("Cannot write {path}").format(path=target),
            error.strerror or str(error),
            _("Nothing was changed. Make room or correct the folder's permissions."),
        ) from error
    return target
