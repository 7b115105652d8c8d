"""The real clients of both hubs, against a small hub on this machine."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from engine.errors import Failed, Problem
from engine.hub import client, worker
from engine.hub.repo import cached, parse
from engine.settings import Settings
from tests.support.hub_server import Hub, serving

ROWS = json.dumps(
    [{"conversation": [{"input": "你是谁？", "output": "我是Super Nova。"}]}]
).encode()
LARGE = b'{"text": "' + b"0123456789" * 2_400_000 + b'"}\n'


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    hub = Hub()
    hub.repos["datasets", "me/names"] = {
        "README.md": b"# Names",
        "data/train.json": ROWS,
        "data/test.json": b"[]",
    }
    hub.repos["datasets", "me/large"] = {"train.jsonl": LARGE}
    hub.repos["models", "me/model"] = {
        "config.json": b"{}",
        "model.safetensors": b"weights",
        "pytorch_model.bin": b"the same weights",
        "original/consolidated.00.pth": b"once more",
    }
    with serving(hub):
        for name, value in hub.environment(str(tmp_path)).items():
            monkeypatch.setenv(name, value)
        yield hub


def downloads(hub: Hub) -> list[str]:
    """The ranges of all downloads so far, "" for a whole file."""
    return [
        range
        for method, path, range in hub.asked
        if method == "GET" and ("/resolve/" in path or "FilePath=" in path)
    ]


@pytest.mark.parametrize("source", ["hf", "ms"])
def test_a_dataset_is_fetched_once(hub: Hub, source: str) -> None:
    repo = parse(f"{source}:me/names")
    assert repo is not None
    [path] = client.dataset(repo, settings=Settings())
    assert path.read_bytes() == ROWS and path.name == "train.json"
    known = cached(path)
    assert known is not None and (known.source, known.name) == (source, "me/names")
    assert downloads(hub) == [""]
    assert client.dataset(repo, settings=Settings()) == [path]
    assert downloads(hub) == [""], "the second time it is here"


@pytest.mark.parametrize("source", ["hf", "ms"])
def test_a_broken_line_goes_on_where_it_was(hub: Hub, source: str) -> None:
    hub.break_off.add("train.jsonl")
    repo = parse(f"{source}:me/large")
    assert repo is not None
    seen: list[tuple[int, int]] = []
    [path] = client.dataset(
        repo, settings=Settings(), progress=lambda done, total: seen.append((done, total))
    )
    assert path.read_bytes() == LARGE
    first, second = downloads(hub)
    assert first == "" and second.startswith("bytes="), "the rest alone was asked for"
    assert int(second.removeprefix("bytes=").split("-")[0]) > 1_000_000
    assert all(done <= total == len(LARGE) for done, total in seen) and seen


@pytest.mark.parametrize("source", ["hf", "ms"])
def test_what_has_come_over_a_slow_line_is_told(hub: Hub, source: str) -> None:
    hub.repos["datasets", "me/slow"] = {"train.jsonl": LARGE[: 2 << 20]}
    repo = parse(f"{source}:me/slow")
    assert repo is not None
    hub.slow, total = 0.2, 2 << 20
    seen: list[int] = []

    def told(done: int, _total: int) -> None:
        seen.append(done)
        if 0 < done < total:
            hub.slow = 0  # it is shown: the rest may come at once

    client.dataset(repo, settings=Settings(), progress=told)
    assert any(0 < done < total for done in seen), seen


def test_the_card_says_which_files_are_for_training(hub: Hub) -> None:
    hub.repos["datasets", "me/two"] = {"de/a.json": b"[1]", "en/a.json": b"[2]"}
    data = {"config_name": "default", "data_files": [{"split": "train", "path": "en/*"}]}
    hub.cards["datasets", "me/two"] = {"configs": [data]}
    repo = parse("me/two")
    assert repo is not None
    assert [path.parts[-2:] for path in client.dataset(repo, settings=Settings())] == [
        ("en", "a.json")
    ]


@pytest.mark.parametrize("source", ["hf", "ms"])
def test_a_model_comes_with_its_weights_once(hub: Hub, source: str) -> None:
    repo = parse(f"{source}:me/model")
    assert repo is not None
    folder = client.model(repo, settings=Settings())
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert {name for name in files if not name.startswith(".")} == {
        "config.json",
        "model.safetensors",
    }


@pytest.mark.parametrize("source", ["hf", "ms"])
def test_what_is_not_there_says_so(hub: Hub, source: str) -> None:
    repo = parse(f"{source}:me/nothing")
    assert repo is not None
    with pytest.raises(Failed) as told:
        client.dataset(repo, settings=Settings())
    assert "me/nothing" in told.value.what and "no dataset of this name" in told.value.why
    assert ("ms:me/nothing" if source == "hf" else "hf:me/nothing") in told.value.todo


def test_what_is_closed_or_unreadable_says_so(hub: Hub) -> None:
    hub.repos["datasets", "me/secret"] = {"train.json": ROWS}
    hub.closed.add(("datasets", "me/secret"))
    hub.repos["datasets", "me/script"] = {"script.py": b"", "README.md": b""}
    for name, error, word in (
        ("me/secret", Failed, "HF_TOKEN"),
        ("me/script", Problem, "script of their own"),
    ):
        repo = parse(name)
        assert repo is not None
        with pytest.raises(error) as told:
            client.dataset(repo, settings=Settings())
        assert word in told.value.todo


def test_a_hub_that_does_not_answer(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nobody listens there
    repo = parse("me/names")
    assert repo is not None
    with pytest.raises(Failed) as told:
        client.dataset(repo, settings=Settings())
    assert "HF_ENDPOINT" in told.value.todo


@pytest.mark.parametrize("source", ["hf", "ms"])
def test_what_is_here_needs_no_hub(hub: Hub, monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    hub.repos["datasets", "me/parts"] = {f"train-{at}.json": ROWS for at in range(2)}
    repo = parse(f"{source}:me/parts")
    assert repo is not None
    paths = client.dataset(repo, settings=Settings())
    for name in ("HF_ENDPOINT", "MODELSCOPE_ENDPOINT"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nobody listens there
    assert client.dataset(repo, settings=Settings()) == paths
    paths[0].unlink()
    with pytest.raises(Failed, match="Check the network"):
        client.dataset(repo, settings=Settings())  # a part is not the dataset


def test_a_line_that_breaks_does_not_bring_back_an_old_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hub has answered: what it has now is wanted, not what was fetched before."""

    class Changing(worker.HuggingFace):
        broken = False

        def __init__(self, *_asked: object) -> None: ...

        def files(self) -> dict[str, int]:
            return {"train.json": 2}

        def declared(self) -> list[str]:
            return []

        def arrived(self) -> int:
            return 0

        def fetch(self, _names: object) -> Path:
            if self.broken:
                raise requests.ConnectionError("Connection reset by peer")
            return tmp_path

    (tmp_path / "train.json").write_text("[]")
    monkeypatch.setitem(worker.HUBS, "hf", Changing)
    monkeypatch.setattr(worker, "ATTEMPTS", 1)
    asked = {"source": "hf", "name": "me/changing", "revision": None}

    def fetch() -> dict[str, object]:
        return worker.dataset(asked, lambda *_args, **_facts: None, lambda: False)

    assert fetch() == {"paths": [str(tmp_path / "train.json")]}
    Changing.broken = True
    with pytest.raises(Failed, match="Connection reset"):
        fetch()


def test_a_download_can_be_stopped_and_gone_on_with(hub: Hub) -> None:
    hub.slow = 0.05
    repo = parse("ms:me/large")
    assert repo is not None
    started = time.monotonic()
    with pytest.raises(Failed, match="stopped"):
        client.dataset(repo, settings=Settings(), cancelled=lambda: time.monotonic() - started > 4)
    hub.slow = 0
    [path] = client.dataset(repo, settings=Settings())
    assert path.read_bytes() == LARGE
