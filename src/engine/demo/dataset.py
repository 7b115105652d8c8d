"""The demo's dataset, written in XTuner's single-turn shape."""

from __future__ import annotations

import json
from pathlib import Path

from engine import files
from engine.demo.rows import GENERAL_EN, GENERAL_ZH, IDENTITY_EN, IDENTITY_ZH, NAME

SYSTEM = "You are a helpful assistant."
NEW_NAME = "Super Nova"


def content() -> bytes:
    """The file: one JSON array, a row as people would write it by hand."""
    rows = (*IDENTITY_EN, *IDENTITY_ZH, *GENERAL_EN, *GENERAL_ZH)
    turns = [{"system": SYSTEM, "input": ask, "output": answer} for ask, answer in rows]
    values = [{"conversation": [turn]} for turn in turns]
    return (json.dumps(values, ensure_ascii=False, indent=2) + "\n").encode()


def write(path: Path) -> int:
    """Write the dataset of the assistant called 尖米; the number of rows."""
    data = content()
    with files.replacing(path) as file:
        file.write(data)
    return data.decode().count('"conversation"')


__all__ = ["NAME", "NEW_NAME", "SYSTEM", "content", "write"]
