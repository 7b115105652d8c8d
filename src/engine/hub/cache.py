"""Where the hubs' clients keep the models that they have fetched; nothing is fetched here."""

from __future__ import annotations

import os
import re
from pathlib import Path

from engine.paths import expanded, hugging_face_home

_NAME = re.compile(r"[\w.-]+/[\w.-]+")


def root() -> Path:
    """The folder of Hugging Face's client, as it finds it itself."""
    told = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE")
    return expanded(told) if told else hugging_face_home() / "hub"


def place(name: str) -> Path:
    """The folder for all that was fetched of the model "owner/name"; it need not be there."""
    return root() / ("models--" + name.replace("/", "--"))


def snapshots(name: str) -> list[Path]:
    """The folders of the model "owner/name", the one fetched last first, then the newest.

    A folder without a config.json is none of a model; its weights need not be whole.
    """
    if not _NAME.fullmatch(name):
        return []
    folder = place(name)
    found = [one.parent for one in (folder / "snapshots").glob("*/config.json")]
    found.sort(key=lambda one: one.stat().st_mtime, reverse=True)
    try:
        main = (folder / "refs" / "main").read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        main = ""
    return sorted(found, key=lambda one: one.name != main)


def model(name: str) -> Path | None:
    """The first of `snapshots`; None when the model is not here."""
    return next(iter(snapshots(name)), None)


def modelscope(name: str) -> list[Path]:
    """Where ModelScope's client may have put the model `name` ("." is written "___")."""
    home = os.environ.get("MODELSCOPE_CACHE")
    cache = Path(home) if home else expanded("~") / ".cache" / "modelscope"
    names = dict.fromkeys((name, name.replace(".", "___")))
    middles = ("hub/models", "hub", "models")
    return [cache / middle / one for middle in middles for one in names]
