"""Where the training interpreter keeps a package, found without importing it."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

from engine.settings import Settings
from engine.worker.client import NOT_HERE

_ASK = (
    f"{NOT_HERE}import importlib.util as u; s = u.find_spec(sys.argv[1]);"
    "print(next(iter(s.submodule_search_locations)) if s else '')"
)


def folder(package: str, settings: Settings) -> Path | None:
    """The folder of a top-level `package`; None when that interpreter has none."""
    if settings.python == sys.executable:
        try:
            spec = importlib.util.find_spec(package)
        except (ImportError, ValueError):
            return None
        if spec is None or not spec.submodule_search_locations:
            return None
        return Path(next(iter(spec.submodule_search_locations)))
    return _ask(settings.python, package)


@lru_cache(maxsize=16)
def _ask(python: str, package: str) -> Path | None:
    try:
        answer = subprocess.run(
            [python, "-c", _ASK, package], capture_output=True, text=True, timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    place = answer.stdout.strip()
    return Path(place) if answer.returncode == 0 and place else None


def version(package: str, settings: Settings) -> str:
    """The installed version of `package`, or ""."""
    place = folder(package, settings)
    if place is None:
        return ""
    for info in sorted(place.parent.glob(f"{package}-*.dist-info")):
        return info.name.removesuffix(".dist-info").partition("-")[2]
    return ""
