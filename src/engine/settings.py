"""The user's settings: one TOML file, overridden by the environment.

The file is ``$XDG_CONFIG_HOME/tunedeck/settings.toml``; each setting may also
come from ``TUNEDECK_<NAME>`` (``TUNEDECK_LANGUAGE=zh``), which wins.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import msgspec
import platformdirs

from engine import files
from engine.errors import Problem
from engine.i18n import _

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the user chose. Every field has a default that works."""

    language: str = ""
    """"en", "zh", or "" for what the locale asks for."""
    theme: str = ""
    """A Textual theme's name, or "" for the app's own choice."""
    interpreter: str = ""
    """The Python of the training environment; "" is the app's own."""
    mouse: bool = False
    """Whether the app asks the terminal for mouse reports (costs bytes, and text selection)."""
    threads: int = 0
    """CPU threads for workers and training on a CPU; 0 leaves the libraries' own choice."""

    @property
    def python(self) -> str:
        """The interpreter that workers and training run under."""
        return self.interpreter or sys.executable


def path() -> Path:
    """Where the settings file lies (it need not exist)."""
    return platformdirs.user_config_path("tunedeck") / "settings.toml"


def load() -> Settings:
    """The settings in force. Raises `Problem` for a file or variable that is wrong."""
    values: dict[str, Any] = {}
    source = path()
    try:
        values = tomllib.loads(source.read_text(encoding="utf-8"))
    except FileNotFoundError:
        pass
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise Problem(
            _("Cannot read the settings in {path}").format(path=source),
            str(error),
            _("Correct the file, or remove it to start from the defaults."),
        ) from error
    for name in Settings.__struct_fields__:
        value = os.environ.get(f"TUNEDECK_{name.upper()}")
        if value is not None:
            values[name] = value
    try:
        return msgspec.convert(values, Settings, strict=False)
    except msgspec.ValidationError as error:
        raise Problem(
            _("A setting is not right (in {path} or a TUNEDECK_ variable)").format(path=source),
            str(error),
            _("Known settings: {names}.").format(names=", ".join(Settings.__struct_fields__)),
        ) from error


def save(**changes: str | bool | int) -> None:
    """Write `changes` into the settings file; the rest of it stays, comments too."""
    import tomlkit  # only needed here

    source = path()
    document = (
        tomlkit.parse(source.read_text(encoding="utf-8")) if source.exists() else tomlkit.document()
    )
    document.update(changes)
    with files.replacing(source) as file:
        file.write(tomlkit.dumps(document).encode())
