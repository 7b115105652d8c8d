"""Where the Hugging Face client keeps what it has fetched; nothing is fetched here."""

from __future__ import annotations

import os
import re
from pathlib import Path

from engine.paths import expanded

_NAME = re.compile(r"[\w.-]+/[\w.-]+")


def root() -> Path:
    """The cache's folder, as huggingface_hub finds it."""
    users = Path(os.environ.get("XDG_CACHE_HOME") or expanded("~") / ".cache")
    home = Path(os.environ.get("HF_HOME") or users / "huggingface")
    told = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE")
    return expanded(told or home / "hub")


def place(name: str) -> Path:
    """The folder for all that was fetched of the model "owner/name"; it need not be there."""
    return root() / ("models--" + name.replace("/", "--"))


def model(name: str) -> Path | None:
    """The folder of a hub model ("owner/name") with its config.json, as it was fetched last.

    None when it is not here. The weights need not be whole.
    """
    if not _NAME.fullmatch(name):
        return None
    folder = place(name)
    try:
        main = (folder / "refs" / "main").read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        main = ""
    snapshots = folder / "snapshots"
    if main and (snapshots / main / "config.json").is_file():
        return snapshots / main
    found = [one.parent for one in snapshots.glob("*/config.json")]
    return max(found, key=lambda one: one.stat().st_mtime, default=None)
