"""What one's own finished runs tell preflight, and where hub models are found."""

from __future__ import annotations

import json
import platform
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from engine import files
from engine.config.checks import loaded
from engine.config.checks.loaded import Loaded
from engine.config.checks.start import Start
from engine.config.memory import estimate, past, sizing
from engine.config.memory.past import PastRun
from engine.hub import cache
from engine.joined.own_runs import OwnRuns
from engine.run import state
from engine.settings import Settings
from engine.worker.client import WorkerClient
from engine.workspace import Workspace
from tests.support.run_files import START, write_run

MIB = 1 << 20


class Runs:
    """A past made up for a test."""

    def __init__(self, *runs: PastRun) -> None:
        self._runs = runs

    def runs(self) -> Iterator[PastRun]:
        yield from self._runs


def run(config: Path, name: str = "before", **changes: Any) -> PastRun:
    values: dict[str, Any] = {"gpus": [0], "deepspeed": "", "peak": None, "step_seconds": None}
    return PastRun(name=name, config=config, **{**values, **changes})


@pytest.fixture
def begin(demo: Callable[..., Path], warm: WorkerClient, settings: Settings) -> Start:
    """The demo's config with packed rows, to be trained on the GPU 0."""
    config = demo(("pack_to_max_length = False", "pack_to_max_length = True"))
    return Start(config, loaded.load(config, settings, worker=warm), settings, wanted=[0])


@pytest.fixture
def variant(begin: Start, tmp_path: Path) -> Callable[..., Path]:
    """Makes another config of it, with text replaced: ``variant("name", (old, new))``."""

    def make(name: str, *swaps: tuple[str, str]) -> Path:
        text = begin.path.read_text()
        for old, new in swaps:
            assert old in text, old
            text = text.replace(old, new)
        path = tmp_path / f"{name}.py"
        path.write_text(text)
        return path

    return make


def sizes(begin: Start, warm: WorkerClient, *runs: PastRun) -> sizing.Sizes:
    return sizing.of(begin, steps=100, longest=None, runs=Runs(*runs), worker=warm)


def allocated(found: sizing.Sizes) -> int:
    assert found.estimate is not None
    return found.estimate.allocated_bytes


def test_without_a_past_there_is_no_time(begin: Start, warm: WorkerClient) -> None:
    found = sizes(begin, warm)
    assert allocated(found) > 0
    assert (found.seconds, found.seconds_like) == (None, None)


def test_the_newest_run_with_the_same_work_tells_the_time(
    begin: Start, warm: WorkerClient, variant: Callable[..., Path]
) -> None:
    found = sizes(
        begin,
        warm,
        run(variant("longer", ("max_length = 128", "max_length = 64")), step_seconds=9.0),
        run(begin.path, "on-cpu", step_seconds=9.0, gpus=[]),
        run(begin.path, "two", step_seconds=9.0, gpus=[0, 1]),
        run(begin.path, "zero", step_seconds=9.0, deepspeed="deepspeed_zero2"),
        run(begin.path, "steady", step_seconds=1.5),
        run(begin.path, "older", step_seconds=9.0),
    )
    assert (found.seconds, found.seconds_like) == (150.0, "steady")


def test_rows_that_are_not_packed_take_the_time_of_their_own_lengths(
    demo: Callable[..., Path], warm: WorkerClient, settings: Settings, tmp_path: Path
) -> None:
    config = demo()
    begin = Start(config, loaded.load(config, settings, worker=warm), settings, wanted=[])
    data = str(begin.config.get("data_path"))
    elsewhere = tmp_path / "elsewhere.py"
    elsewhere.write_text(config.read_text().replace(data, data + ".other"))
    other = run(elsewhere, "other", gpus=[], step_seconds=9.0)
    same = run(config, "same", gpus=[], step_seconds=1.0)
    assert sizes(begin, warm, other).seconds is None
    assert sizes(begin, warm, other, same).seconds_like == "same"


def test_runs_of_the_same_model_correct_the_memory(
    begin: Start, warm: WorkerClient, variant: Callable[..., Path]
) -> None:
    plain = allocated(sizes(begin, warm))
    shorter = variant("shorter", ("max_length = 128", "max_length = 64"))
    told = past.ask(Runs(run(shorter, peak=1)), begin, _shape(begin), warm).measured
    assert 0 < told[0].estimated < plain  # estimated for its own length
    above = run(shorter, peak=told[0].estimated * 11 // 10)
    assert allocated(sizes(begin, warm, above)) == pytest.approx(1.1 * plain, rel=1e-3)


def test_other_runs_do_not(
    begin: Start, warm: WorkerClient, variant: Callable[..., Path], tmp_path: Path
) -> None:
    plain = allocated(sizes(begin, warm))
    model = str(begin.config.get("model.llm.pretrained_model_name_or_path"))
    other = tmp_path / "wider"
    shutil.copytree(model, other)
    values = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**values, "num_hidden_layers": 3}))
    peak = plain * 11 // 10
    found = sizes(
        begin,
        warm,
        run(
            variant("unpacked", ("pack_to_max_length = True", "pack_to_max_length = False")),
            peak=peak,
        ),
        run(variant("wider", (model, str(other))), peak=peak),
        run(variant("broken", ("max_length = 128", "max_length = ")), peak=peak),
        run(tmp_path / "gone.py", peak=peak),
        run(begin.path, deepspeed="gone.json", peak=peak),
        run(begin.path, deepspeed="deepspeed_zero2", peak=peak),
        run(begin.path, gpus=[], peak=peak),
    )
    assert allocated(found) == plain


def _shape(begin: Start) -> Any:
    place = estimate.place(begin.config)
    assert place is not None
    return estimate.shape(place)


def test_offload_leaves_the_optimizer_out(begin: Start, warm: WorkerClient) -> None:
    zero = {"zero_optimization": {"stage": 2, "offload_optimizer": {"device": "cpu"}}}
    found = {}
    for name, told in (("here", {"zero_optimization": {"stage": 2}}), ("host", zero)):
        start = Start(begin.path, begin.config, begin.settings, [0], told)
        needed = sizes(start, warm).estimate
        assert needed is not None
        found[name] = needed.parts["optimizer"]
    assert found["host"] == 0 < found["here"]


def test_a_workspaces_own_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "node", lambda: "here")
    workspace = Workspace(tmp_path)
    done = write_run(workspace, "done", "finished", step=30, created=200)
    write_run(workspace, "older", "finished", step=30, created=100)
    write_run(workspace, "ended", "failed", step=30, created=300)
    away = write_run(workspace, "away", "finished", step=30, created=400)
    record = json.loads((away / state.RECORD).read_text())
    files.write_json(away / state.RECORD, {**record, "host": "there"})
    (write_run(workspace, "torn", "finished", created=500) / state.RECORD).write_text("{")
    with (done / START / "vis_data" / "scalars.json").open("a") as scalars:
        for step, memory in ((31, 900), (32, 1000), (33, 950)):
            scalars.write(json.dumps({"step": step, "time": 0.5, "memory": memory}) + "\n")
    found = list(OwnRuns(workspace).runs())
    assert [one.name for one in found] == ["done", "older"]
    assert found[0] == PastRun(
        name="done",
        config=done / "config/assistant.py",
        gpus=[],
        deepspeed="",
        peak=1000 * MIB,
        step_seconds=0.5,
        processes=1,
    )
    assert found[1].peak is None


def test_a_hub_models_sizes_come_from_the_local_cache(
    fake_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for name in ("HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    llm = {"pretrained_model_name_or_path": "someone/small"}
    config = Loaded({"values": {"model": {"llm": llm}}})
    assert estimate.place(config) is None
    place = tmp_path / "huggingface/hub/models--someone--small"
    for commit in ("aaa", "bbb"):
        shutil.copytree(fake_model, place / "snapshots" / commit)
    (place / "refs").mkdir()
    (place / "refs/main").write_text("aaa")
    assert estimate.place(config) == place / "snapshots/aaa"
    (place / "refs/main").write_text("not there")
    assert estimate.place(config) in (place / "snapshots/aaa", place / "snapshots/bbb")
    assert cache.model("../small") is None
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "elsewhere"))
    assert estimate.place(config) is None
