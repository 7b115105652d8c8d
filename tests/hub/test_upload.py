"""The real client of Hugging Face puts a folder on a small hub on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.errors import Failed, Problem
from engine.hub import upload
from engine.settings import Settings
from tests.support.hub_server import Hub, serving

WEIGHTS = {f"model-{number}.safetensors": bytes([number]) * 3_000_000 for number in (1, 2, 3)}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    hub = Hub()
    with serving(hub):
        for name, value in hub.environment(str(tmp_path)).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("HF_TOKEN", "hf_none")
        monkeypatch.setenv("MODELSCOPE_API_TOKEN", "ms-none")
        yield hub


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "README.md").write_text("---\nlicense: mit\n---\n# 模型\n")
    (folder / ".hidden").write_text("stays here")
    for name, data in WEIGHTS.items():
        (folder / name).write_bytes(data)
    return folder


def sent(hub: Hub) -> int:
    return sum(1 for method, _path, _size in hub.asked if method == "PUT")


def test_a_folder_is_uploaded_privately_and_goes_on_after_a_cancel(hub: Hub, model: Path) -> None:
    repo = upload.target("hf:me/name")
    hub.accepts = 1
    with pytest.raises(Failed, match="cancelled"):
        upload.folder(model, repo, settings=Settings(), cancelled=lambda: len(hub.large) == 1)
    assert hub.repos["models", "me/name"] == {}, "nothing is shown before all of it is there"
    assert hub.private == {"me/name"}
    hub.accepts, hub.asked = 9, []
    heard: list[tuple[int, int]] = []
    made = upload.folder(model, repo, settings=Settings(), progress=lambda *now: heard.append(now))
    assert hub.repos["models", "me/name"] == {
        one.name: one.read_bytes() for one in model.iterdir() if one.name != ".hidden"
    }
    assert sent(hub) == len(WEIGHTS) - 1, "what had arrived is not sent again"
    total = sum(one.stat().st_size for one in model.iterdir() if one.name != ".hidden")
    assert heard[-1] == (total, total)
    assert made.url == f"{hub.address}/me/name"
    assert (made.files, made.bytes, made.public) == (5, total, False)


def test_modelscope_gets_the_same(hub: Hub, model: Path, tmp_path: Path) -> None:
    repo = upload.target("ms:me/name")
    hub.accepts = 1
    with pytest.raises(Failed, match="cancelled"):
        upload.folder(model, repo, settings=Settings(), cancelled=lambda: len(hub.large) == 1)
    hub.accepts, hub.asked = 9, []
    heard: list[tuple[int, int]] = []
    made = upload.folder(model, repo, settings=Settings(), progress=lambda *now: heard.append(now))
    assert hub.repos["models", "me/name"] == {
        one.name: one.read_bytes() for one in model.iterdir() if one.name != ".hidden"
    }
    assert sent(hub) == len(WEIGHTS) - 1, "what had arrived is not sent again"
    assert made.url == f"{hub.address}/models/me/name"
    assert (made.files, made.public, hub.private) == (5, False, {"me/name"})
    assert heard[-1] == (made.bytes, made.bytes)
    assert sorted(one.name for one in model.iterdir() if one.name[0] == ".") == [".hidden"]
    # Who may see a repository that is there is its owner's choice.
    again = upload.folder(model, repo, settings=Settings(), public=True)
    assert again.public is False and hub.private == {"me/name"}


def test_a_refusal_is_said_with_what_to_do(hub: Hub, model: Path) -> None:
    hub.refuses = True
    with pytest.raises(Failed, match="Cannot upload me/name to Hugging Face") as caught:
        upload.folder(model, upload.target("me/name"), settings=Settings(), public=True)
    assert "HF_TOKEN" in caught.value.todo


@pytest.mark.parametrize("text", ["name", "hf:me/name@main", "gh:me/name", ""])
def test_a_target_must_be_a_repository(text: str) -> None:
    with pytest.raises(Problem, match="is not a repository"):
        upload.target(text)
