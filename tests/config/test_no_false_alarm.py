"""Good configs of the catalogue, on real toy models and data: nothing is said that is wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.config.checks import findings, loaded
from engine.config.preflight import preflight
from engine.config.stock.entry import Entry
from engine.joined.copying import copy_config
from engine.joined.rows import Rows
from engine.settings import Settings
from engine.worker.client import WorkerClient
from tests.support.nvml import Card, Nvml

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent.parent
CONFIGS = {
    "llama": (
        "llama2_7b_chat_qlora_alpaca_e3",
        "llama2_7b_chat_qlora_alpaca_zh_e3",
        "llama2_7b_chat_qlora_alpaca_enzh_e3",
        "llama2_7b_chat_qlora_code_alpaca_e3",
        "llama2_7b_qlora_alpaca_e3",
        "llama2_7b_qlora_oasst1_e3",
        "llama3_8b_instruct_full_alpaca_e3",
        "llama2_7b_qlora_alpaca_zh_e3",
        "deepseekcoder_6_7b_instruct_qlora_code_alpaca_e3",
    ),
    "qwen2": (
        "qwen1_5_0_5b_chat_full_alpaca_e3",
        "qwen1_5_0_5b_chat_qlora_alpaca_e3",
        "qwen1_5_7b_chat_qlora_alpaca_e3",
        "qwen1_5_7b_qlora_alpaca_e3",
        "qwen1_5_1_8b_chat_full_alpaca_e3",
        "qwen1_5_14b_qlora_alpaca_e3",
    ),
    "internlm2": (
        "internlm2_5_chat_7b_qlora_alpaca_e3",
        "internlm2_5_chat_7b_qlora_oasst1_e3",
        "internlm2_chat_7b_qlora_alpaca_e3",
        "internlm2_chat_1_8b_qlora_alpaca_e3",
        "internlm2_7b_qlora_alpaca_e3",
        "internlm2_7b_qlora_code_alpaca_e3",
        "internlm2_7b_qlora_oasst1_e3",
    ),
}
GOOD = [(kind, name) for kind, names in CONFIGS.items() for name in names]


@pytest.fixture(scope="session")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny model of each kind, their contexts as long as real ones'."""
    folder = tmp_path_factory.mktemp("toys")
    make = (
        "import sys, pathlib; from tests.support import tiny\n"
        "for kind in tiny.KINDS:\n"
        "    tiny.build(pathlib.Path(sys.argv[1]) / kind, kind)\n"
    )
    subprocess.run([sys.executable, "-c", make, folder], check=True, cwd=ROOT)
    for kind in CONFIGS:
        file = folder / kind / "config.json"
        config = json.loads(file.read_text())
        file.write_text(json.dumps(config | {"max_position_embeddings": 32768}))
    return folder


@pytest.fixture(scope="session")
def many_rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows enough for a warm-up after packing: some 80,000 tokens."""
    question = "Who are you, and what is the capital of the country number {}?"
    answer = "I am Super Nova, a small assistant. The capital of that country is Paris. " * 8
    rows = [
        {"conversation": [{"input": question.format(number), "output": answer}]}
        for number in range(500)
    ]
    path = tmp_path_factory.mktemp("data") / "rows.json"
    path.write_text(json.dumps(rows))
    return path


@pytest.fixture(scope="session")
def loader() -> Iterator[WorkerClient]:
    with loaded.warm(Settings()) as worker:
        yield worker


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Rows:
    """Counts each question once."""
    return Rows(Settings(), tmp_path_factory.mktemp("counted"))


def test_twenty_configs_are_tried(entries: list[Entry]) -> None:
    there = {entry.name for entry in entries}
    assert len([name for _kind, name in GOOD if name in there]) >= 20


@pytest.mark.parametrize(("kind", "name"), GOOD)
def test_a_good_config_raises_no_alarm(
    kind: str,
    name: str,
    entries: list[Entry],
    toys: Path,
    many_rows: Path,
    tmp_path: Path,
    loader: WorkerClient,
    data: Rows,
    nvml: Nvml,
) -> None:
    if name not in {entry.name for entry in entries}:
        pytest.skip("not in this XTuner")
    nvml.set(Card())
    done = copy_config(
        name,
        tmp_path / "c.py",
        settings=Settings(),
        data=many_rows,
        model=str(toys / kind),
        template="qwen_chat",  # what the toys' tokenizers write
    )
    report = preflight(done.path, settings=Settings(), data=data, worker=loader)
    alarms = [one for one in report.findings if one.level != findings.INFO]
    assert not alarms
    assert report.ok
    assert (report.samples or 0) > 20
