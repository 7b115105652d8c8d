"""Datasets that came from a hub, in the Data pane: today, tomorrow, and taken to a config."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from engine.config.text.source import ConfigSource
from engine.hub import client
from engine.hub.repo import Repo
from engine.workspace import Workspace
from tests.support.data_pane import ROWS
from tests.support.driver import opened

COMMIT = "5f" * 20
NAME = "hf:me/talks@5f5f5f5f"


def fetched(root: Path, count: int) -> list[Path]:
    """The files of ``hf:me/talks`` as Hugging Face's client lays them down: links to blobs."""
    repo = root / "hf" / "hub" / "datasets--me--talks"
    (repo / "blobs").mkdir(parents=True)
    found = []
    for at in range(count):
        blob = repo / "blobs" / f"{at}c0de"
        blob.write_text(json.dumps(ROWS[at::count], ensure_ascii=False), encoding="utf-8")
        link = repo / "snapshots" / COMMIT / "data" / f"train-{at:05}.json"
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(f"../../../blobs/{blob.name}")
        found.append(link)
    return found


@pytest.mark.parametrize("count", [1, 2])
async def test_it_is_called_by_its_name_and_whole_tomorrow_too(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    files = fetched(tmp_path, count)
    monkeypatch.setattr(client, "dataset", lambda _repo, **_told: files)
    async with opened(workspace) as screen:
        own = "data/assistant.json"
        for typed, called in ((f"./{own}", own), ("hf:me/talks", NAME)):
            await screen.press("o")
            await screen.shows("Open a dataset")
            await screen.type(typed)
            await screen.press("enter")
            await screen.shows(f" {called} · 30 rows")
            await screen.press("r")
            await screen.shows(f" {called} · 30 rows")
    again = Workspace(workspace.root)
    async with opened(again) as screen:
        await screen.shows(f" {NAME} · 30 rows")
        await screen.press("f3")
        await screen.shows(f"pointed at the dataset that is open: {NAME}", f"for {NAME}")
        await screen.press("n")
        await screen.shows("New config: what to start from")
        await screen.type("internlm2_chat_1_8b_qlora_custom_sft_e1")
        await screen.shows("(1 of ")
        await screen.press("enter")
        await screen.shows("configs/talks.py")
        await screen.press("enter", "enter")
        await screen.shows("▸ p  preflight")
    told = ConfigSource.open(workspace.configs / "talks.py").get("train_dataset.dataset.data_files")
    names = told["train"] if isinstance(told, dict) else told
    found = [names] if isinstance(names, str) else names
    assert [str(one) for one in found] == [str(path) for path in files], "all of its files"


async def test_what_lies_in_the_cache_is_not_written_to(
    workspace: Workspace, tmp_path: Path
) -> None:
    [path] = fetched(tmp_path, 1)
    before = path.read_bytes()
    workspace.remember(data=str(path))
    async with opened(workspace) as screen:
        await screen.shows(f" {NAME} · 30 rows")
        await screen.press("d")
        await screen.shows(f"Rows of {NAME} cannot be edited here", "cache of Hugging Face")
        await screen.press("escape", "s")
        await screen.shows(f"Substitute in {NAME}", "data/talks-renamed.json")
        await screen.type("尖米")
        await screen.press("enter")
        await screen.type("新星")
        await screen.shows("30 places")
        await screen.press("enter", "enter")
        await screen.shows("data/talks-renamed.json", "我是新星的小助手")
    assert path.read_bytes() == before and path.is_symlink()
    assert sorted(one.name for one in path.parent.iterdir()) == [path.name]


async def test_a_substitution_is_made_in_all_of_its_files(
    workspace: Workspace, tmp_path: Path
) -> None:
    files = fetched(tmp_path, 2)
    workspace.remember(data=str(files[0]), files=[str(path) for path in files])
    async with opened(workspace) as screen:
        await screen.shows(f" {NAME} · 30 rows")
        await screen.press("s")
        await screen.type("尖米")
        await screen.press("enter")
        await screen.type("新星")
        await screen.shows("30 places in 30 of 30 rows")
        await screen.press("enter", "enter")
        await screen.shows("data/talks-renamed", "30 rows", "我是新星的小助手")
        await screen.press("u")
        await screen.shows(f" {NAME} · 30 rows")
    made = sorted((workspace.data / "talks-renamed").iterdir())
    assert [path.name for path in made] == [path.name for path in files]


def test_the_name_names_the_repository() -> None:
    assert Repo("hf", "me/talks", COMMIT).short == NAME
