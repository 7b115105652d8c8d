"""Datasets by a hub's name, where a path could stand."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.dataset import named
from engine.settings import Settings
from tests.support.hub_server import Hub, serving

ROWS = [{"instruction": f"问题{number}？", "input": "", "output": "是。"} for number in range(30)]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    hub = Hub()
    halves = {f"data/train-{half}.json": json.dumps(ROWS[half::2]).encode() for half in (0, 1)}
    hub.repos["datasets", "me/names"] = halves
    with serving(hub):
        for name, value in hub.environment(str(tmp_path)).items():
            monkeypatch.setenv(name, value)
        yield hub


def tunedeck(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from engine.cli.main import main; exit(main())"]
    return subprocess.run(
        [*command, *arguments], cwd=cwd, env=os.environ, capture_output=True, text=True, timeout=120
    )


def test_a_dataset_on_a_hub_is_shown_like_a_folder(hub: Hub, tmp_path: Path) -> None:
    shown = tunedeck("data", "show", "ms:me/names", "--rows", "14:16", "--json", cwd=tmp_path)
    document = json.loads(shown.stdout)
    assert shown.returncode == 0 and not shown.stderr
    assert (document["format"], document["shape"], document["rows"]) == ("json", "alpaca", 30)
    assert [item["value"] for item in document["items"]] == [ROWS[28], ROWS[1]]


def test_what_no_hub_has_is_said_once(hub: Hub, tmp_path: Path) -> None:
    told = tunedeck("data", "check", "me/nothing", cwd=tmp_path)
    assert told.returncode == 1 and not told.stdout
    assert "no dataset of this name" in told.stderr and len(told.stderr.splitlines()) <= 3


def test_a_path_that_is_there_is_a_path(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    local = Path("me/names")
    local.mkdir(parents=True)
    assert named.files([local], settings=Settings()) == local
    assert not hub.asked
