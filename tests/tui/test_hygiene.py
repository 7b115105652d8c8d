"""The app starts at once because it never imports what is heavy: held in a real process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HEAVY = ("torch", "transformers", "datasets", "xtuner", "peft", "mmengine", "deepspeed")

WALK = """
import asyncio, sys
from pathlib import Path
from engine.settings import Settings
from engine.workspace import Workspace
from tui.app import TABS, Tunedeck

async def walk():
    app = Tunedeck(Workspace(Path(sys.argv[1])), Settings())
    async with app.run_test(size=(80, 24)) as pilot:
        at_start = set(sys.modules)
        for name in TABS:
            await app.action_tab(name)
            await pilot.pause(0.3)
    return at_start

at_start = asyncio.run(walk())
roots = {name.partition(".")[0] for name in sys.modules}
print(*sorted(roots & set(sys.argv[2:])))
print("numpy" in at_start)
"""

ENGINE = """
import importlib, pkgutil, sys
import engine
WORKERS = ("worker", "train", "load_worker", "bootstrap")
for found in pkgutil.walk_packages(engine.__path__, "engine."):
    if not any(part in found.name for part in WORKERS):
        importlib.import_module(found.name)
roots = {name.partition(".")[0] for name in sys.modules}
print(*sorted(roots & {"textual", "tui", *sys.argv[1:]}))
"""


def said(program: str, *arguments: str | Path) -> list[str]:
    """What a program prints in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


def test_the_app_imports_nothing_heavy_in_any_pane(tmp_path: Path) -> None:
    heavy, at_start = said(WALK, tmp_path, *HEAVY)
    assert heavy == ""
    assert at_start == "False"


def test_the_engine_imports_nothing_heavy_and_no_screen() -> None:
    assert said(ENGINE, *HEAVY) == [""]
