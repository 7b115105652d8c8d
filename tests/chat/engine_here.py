"""A vllm that is found, is really started and really serves: `fake_vllm.py` under its name."""

from __future__ import annotations

import json
import os
import struct
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

HERE = Path(__file__).parent


def install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put it first on PATH; the file in which it will write what it was given."""
    program = folder / "env/bin/vllm"
    program.parent.mkdir(parents=True)
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {HERE / "fake_vllm.py"} "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_TOLD", str(folder / "told.json"))
    return folder / "told.json"


def read(told: Path) -> Any:
    """What it was given, and its processes."""
    return json.loads(told.read_text())


def gone(pids: list[int]) -> bool:
    """Whether all have ended, within some seconds."""
    end = time.monotonic() + 20
    while time.monotonic() < end:
        if not any(_lives(pid) for pid in pids):
            return True
        time.sleep(0.05)
    return False


def _lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def hollow_model(folder: Path) -> Path:
    """A folder that passes for a model."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", 2) + b"{}")
    return folder
