"""The settings as they were written: the file, and the variables that win over it.

Nothing is checked here; `engine.settings` does that, with a library whose import takes
as long as the rest of a short verb. What every verb needs is the language alone.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from engine.errors import Problem
from engine.i18n import LANGUAGES, _
from engine.paths import expanded


def path() -> Path:
    """Where the settings file lies (it need not exist)."""
    home = os.environ.get("XDG_CONFIG_HOME", "").strip() or "~/.config"
    return expanded(home) / "tunedeck" / "settings.toml"


def values() -> dict[str, Any]:
    """What the file says; {} when there is none. Raises `Problem` for one that is not TOML."""
    source = path()
    try:
        text = source.read_bytes().decode()
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise _problem(source, error) from error
    if sys.version_info >= (3, 11):  # (imported where there is something to read)
        import tomllib
    else:
        import tomli as tomllib
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _problem(source, error) from error


def variable(*names: str) -> str | None:
    """What the environment says of a setting (its table's name before its own), or None."""
    return os.environ.get("_".join(["TUNEDECK", *names]).upper())


def language() -> str:
    """The language that the user chose; "" when nobody did. Raises `Problem` as `values` does."""
    chosen = variable("language")
    if chosen is None:
        chosen = values().get("language")
    return chosen if isinstance(chosen, str) else ""


def require_language(language: str) -> None:
    """Raises `Problem` for a `language` that is none of ours; "" is what nobody asked for."""
    if language and language not in LANGUAGES:
        raise Problem(
            _("There is no language {language}").format(language=language),
            "",
            _("Known: {names}.").format(names=", ".join(LANGUAGES)),
        )


def _problem(source: Path, error: Exception) -> Problem:
    return Problem(
        _("Cannot read the settings in {path}").format(path=source),
        str(error),
        _("Correct the file, or remove it to start from the defaults."),
    )
