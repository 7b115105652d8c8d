"""Files that ship with Tunedeck, found in an installed package and in a checkout alike."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).parent
_CHECKOUT = _PACKAGE.parent.parent


def _shipped(name: str) -> Path:
    inside = _PACKAGE / name
    return inside if inside.exists() else _CHECKOUT / name


def configs() -> Path:
    """The folder of Tunedeck's own training configs."""
    return _shipped("configs")


def lock() -> Path:
    """The training environment's lock: names, versions and hashes."""
    return _shipped("requirements.lock")
