"""Engines of the user: found, started where nobody else reaches them, stopped whole."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import msgspec
import pytest

from engine.chat import engines
from engine.chat.engine_server import EngineServer
from engine.chat.engines import ADAPTER, Engine, Place
from engine.chat.session import ChatSession, ModelSpec
from engine.errors import Failed, Problem
from engine.settings import Settings
from tests.chat.asking import ask
from tests.chat.engine_here import gone, hollow_model, install, read
from tests.support.nvml import Card, Nvml

OPTIONS = "lib/python3.11/site-packages/vllm/entrypoints/openai/cli_args.py"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return hollow_model(tmp_path / "model")


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return install(tmp_path, monkeypatch)


def listens_on_sockets(told: Path) -> None:
    options = told.parent / "env" / OPTIONS
    options.parent.mkdir(parents=True)
    options.write_text("class FrontendArgs:\n    uds: str | None = None\n")


@pytest.mark.parametrize("sockets", [True, False])
def test_it_serves_where_only_we_reach_it_and_ends_whole(
    model: Path, told: Path, sockets: bool
) -> None:
    if sockets:
        listens_on_sockets(told)
    engine = engines.named("vllm", Settings())
    with EngineServer(engine, ModelSpec(str(model)), Settings()) as server:
        spec = server.start(60)
        argv = read(told)["argv"]
        assert argv[:2] == ["serve", str(model)]
        assert spec.model.startswith("unix:") == sockets and bool(spec.key) == (not sockets)
        assert not spec.key or spec.key not in " ".join(argv), "others can read a command line"
        assert server.log.parent.stat().st_mode & 0o077 == 0
        with ChatSession(Settings()) as session:
            session.load("A", spec)
            assert ask(session, "A", "Who?")[1].text == "I am model."
            if spec.key:
                with pytest.raises(Failed, match="401"):
                    session.load("B", ModelSpec(spec.model.partition("#")[0]))
    assert gone(read(told)["pids"]) and not server.running and not server.log.exists()


def test_one_that_fails_says_why_and_leaves_nothing(
    model: Path, told: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_VLLM", "broken")
    server = EngineServer(engines.named("vllm", Settings()), ModelSpec(str(model)), Settings())
    with pytest.raises(Failed, match="No available memory for the cache blocks"):
        server.start(60)
    assert gone(read(told)["pids"]) and not server.log.parent.exists()


def test_it_is_stopped_while_it_starts(
    model: Path, told: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_VLLM", "slow")
    server = EngineServer(engines.named("vllm", Settings()), ModelSpec(str(model)), Settings())

    def stop() -> None:
        while not told.exists() or not told.read_text():
            time.sleep(0.02)
        server.stop()

    thread = threading.Thread(target=stop)
    thread.start()
    with pytest.raises(Failed, match="It was stopped"):
        server.start(60)
    thread.join()
    assert gone(read(told)["pids"])


APP = """
import sys, time
from engine.chat import engines
from engine.chat.engine_server import EngineServer
from engine.chat.sources import ModelSpec
from engine.settings import Settings
server = EngineServer(engines.named("vllm", Settings()), ModelSpec(sys.argv[1]), Settings())
server.start(60)
print("serves", server.log, flush=True)
time.sleep(600)
"""


def test_it_does_not_outlive_an_app_that_was_killed(model: Path, told: Path) -> None:
    app = subprocess.Popen([sys.executable, "-c", APP, str(model)], stdout=subprocess.PIPE)
    assert app.stdout is not None
    serves, log = app.stdout.readline().decode().split()
    assert serves == "serves"
    app.send_signal(signal.SIGKILL)
    app.communicate()
    assert gone(read(told)["pids"])
    end = time.monotonic() + 20  # its keeper cleans up behind it
    while Path(log).parent.exists():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_an_adapter_is_asked_by_its_own_name(model: Path, told: Path) -> None:
    adapter = model.parent / "tuned"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text('{"r": 48}')
    (adapter / "adapter_model.bin").write_bytes(b"PK")
    spec = ModelSpec(str(model), adapter=str(adapter))
    with EngineServer(engines.named("vllm", Settings()), spec, Settings()) as server:
        served = server.start(60)
        with ChatSession(Settings()) as session:
            session.load("A", served)
            assert ask(session, "A", "Who?")[1].text == f"I am {ADAPTER}."
    argv = read(told)["argv"]
    assert argv[argv.index("--max-lora-rank") + 1] == "64"
    assert f"{ADAPTER}={adapter}" in argv


@pytest.mark.parametrize(
    ("name", "begins", "adapted"),
    [
        ("lmdeploy", "serve api_server /m --model-name model", "--backend pytorch --adapters"),
        ("sglang", "serve --model-path /m --served-model-name model", "--lora-paths"),
    ],
)
def test_the_others_listen_on_the_loopback_with_a_key(name: str, begins: str, adapted: str) -> None:
    place = Place(port=4711, key="secret", cards=2)
    words = " ".join(Engine(name, name).command(ModelSpec("/m", adapter="/a"), place))
    assert words.startswith(f"{name} {begins}") and f"{adapted} adapter=/a" in words
    assert "127.0.0.1" in words and "4711" in words and "secret" in words and "--tp 2" in words


def test_what_is_not_there_is_named(model: Path, told: Path) -> None:
    with pytest.raises(Problem, match=r"no engine warp.*found: .*vllm"):
        engines.named("warp", Settings())
    assert "vllm" in [one.name for one in engines.found(Settings())]
    with pytest.raises(Problem, match="in 4 bits"):
        EngineServer(Engine("vllm", "vllm"), ModelSpec(str(model), bits=4), Settings())


def test_a_session_starts_it_and_asks_as_in_training(
    model: Path, told: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_START", "0.7")
    (model / "xtuner_config.py").write_text('SYSTEM = "Be brief."\n', encoding="utf-8")
    lines: list[str] = []
    with ChatSession(Settings()) as session:
        loaded = session.load("A", ModelSpec(str(model), engine="vllm"), lines.append)
        assert (loaded.device, loaded.system) == ("vllm", "Be brief.")
        assert lines[-1] == "INFO loading model weights"
        assert ask(session, "A", "Who?")[1].text == "I am model."
        assert read(told)["asked"][0]["messages"][0] == {"role": "system", "content": "Be brief."}
        assert session.occupied and session.holds("A")
        os.kill(read(told)["pids"][0], signal.SIGKILL)  # it crashes
        assert gone(read(told)["pids"])
        while session.holds("A"):
            time.sleep(0.02)
        monkeypatch.setenv("FAKE_START", "0")
        session.load("A", ModelSpec(str(model), engine="vllm"))
        pids = read(told)["pids"]
        session.unload("A")
        assert gone(pids) and not session.occupied
        session.load("A", ModelSpec(str(model), engine="vllm"))
    assert gone(read(told)["pids"]), "it ends with the session"


def test_a_gpu_on_which_a_run_trains_is_left_alone_unless_one_says_so(
    model: Path, told: Path, nvml: Nvml
) -> None:
    nvml.set(Card())
    spec = ModelSpec(str(model), engine="vllm")
    with ChatSession(Settings(), busy=[0]) as session:
        with pytest.raises(Failed, match="would disturb a training"):
            session.load("A", spec)
        assert not told.exists()
        session.load("A", msgspec.structs.replace(spec, share=True))
        assert read(told)["cards"] == "0"


def test_the_command_line_starts_it_and_ends_it(
    model: Path, told: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_START", "0.7")
    order = [sys.executable, "-m", "tui", "chat", model, "--engine", "vllm", "--prompt", "Who?"]
    done = subprocess.run([*order, "--json"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)[0]["answer"] == "I am model."
    assert "Starting vllm" in done.stderr and "INFO loading model weights" in done.stderr
    assert gone(read(told)["pids"])
    done = subprocess.run([*order, "--bits", "4"], capture_output=True, text=True)
    assert done.returncode == 2 and "Leave out --engine" in done.stderr
