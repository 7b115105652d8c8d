"""torch counts the GPUs as we do, in every process of ours that uses one.

CUDA's own order is by speed, NVML's by place on the bus: only a variable makes them one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import pytest

from engine.chat import engines
from engine.chat.engine_server import EngineServer
from engine.chat.session import ChatSession
from engine.chat.sources import ModelSpec
from engine.errors import Problem
from engine.export import verify
from engine.export.gpu_merge import GpuMerge
from engine.run import planning
from engine.settings import Settings
from engine.worker import client
from engine.workspace import Workspace
from tests.chat.engine_here import hollow_model, install
from tests.support.nvml import GB, Card, Instance, Nvml, instance_uuid

FULL, ROOMY = Card(used=70 * GB), Card(used=10 * GB)
DIVIDED = Card(mig=True, instances=[Instance(), Instance("3g.40gb", 40 * GB)])

Started = list[dict[str, str]]
Starts = Callable[[Path], object]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Started:
    """The environments of the processes that would be started; none is."""
    found: Started = []

    def start(*_command: Any, env: dict[str, str], **_more: Any) -> NoReturn:
        found.append(env)
        raise OSError("it is not started here")

    monkeypatch.setattr(client.subprocess, "Popen", start)
    return found


@contextmanager
def not_started() -> Iterator[None]:
    with pytest.raises((Problem, OSError), match="not started here"):
        yield


def chat(folder: Path, *busy: int | str, device: str = "auto") -> None:
    with ChatSession(Settings(), busy) as session:
        session.load("A", ModelSpec(str(hollow_model(folder / "model")), device=device))


def merge(_folder: Path) -> None:
    GpuMerge(Settings(), "cuda:0")


def verifies(_folder: Path) -> None:
    verify.worker_for(Settings()).start()


@pytest.mark.parametrize(("starts", "expected"), [(chat, "0,1"), (merge, "0,1"), (verifies, "1")])
def test_a_worker_counts_as_the_driver_does(
    nvml: Nvml, started: Started, tmp_path: Path, starts: Starts, expected: str
) -> None:
    nvml.set(FULL, ROOMY)
    with not_started():
        starts(tmp_path)
    [env] = started
    assert env["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    assert env["CUDA_VISIBLE_DEVICES"] == expected


@pytest.mark.parametrize("starts", [chat, merge, verifies])
def test_without_a_driver_to_ask_a_worker_sees_what_there_is(
    nvml: Nvml,
    started: Started,
    tmp_path: Path,
    starts: Starts,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nvml.absent()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    with not_started():
        starts(tmp_path)
    [env] = started
    assert env["CUDA_VISIBLE_DEVICES"] == "3", "as the user has it"


def test_on_a_divided_card_a_worker_gets_one_instance(
    nvml: Nvml, started: Started, tmp_path: Path
) -> None:
    nvml.set(DIVIDED)
    first, large = (instance_uuid(one, 0, at) for at, one in enumerate(DIVIDED.instances))
    for starts, expected in ((chat, first), (merge, first), (verifies, large)):
        with not_started():
            starts(tmp_path / starts.__name__)
        assert started[-1]["CUDA_VISIBLE_DEVICES"] == expected
    with not_started():
        chat(tmp_path / "beside", "0:0")
    assert started[-1]["CUDA_VISIBLE_DEVICES"] == large, "a training of ours is on the first"


def test_a_trainer_and_an_engine_get_the_gpus_that_they_were_given(
    nvml: Nvml, started: Started, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nvml.set(FULL, ROOMY, DIVIDED)
    (tmp_path / "a.py").write_text("")
    place: dict[str, Any] = {"workspace": Workspace(tmp_path), "settings": Settings()}
    large = instance_uuid(DIVIDED.instances[1], 2, 1)
    for wanted, expected in (([1, 0], "1,0"), (["2:1"], large)):
        env = planning.plan(tmp_path / "a.py", gpus=wanted, **place).env
        assert env["CUDA_VISIBLE_DEVICES"] == expected
        assert env["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    install(tmp_path, monkeypatch)
    spec = ModelSpec(str(hollow_model(tmp_path / "model")), device="cuda:1")
    server = EngineServer(engines.named("vllm", Settings()), spec, Settings())
    with not_started():
        server.start(1)
    assert started[-1]["CUDA_VISIBLE_DEVICES"] == "1"
    assert started[-1]["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
