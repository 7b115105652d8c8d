"""Steps per epoch as we count them, against what XTuner logs when it trains on the file."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from engine.dataset.checking.check import check
from engine.dataset.reader import Dataset
from engine.settings import Settings
from tests.support import tiny_config

pytestmark = pytest.mark.trains

PROGRAM = Path(__file__).parent / "xtuner_trainings.py"
NAMES = ("pack", "max_length", "batch_size", "accumulation", "map_num_proc")
SETTINGS = [
    (False, 128, 1, 1, 1),
    (False, 128, 3, 4, 2),
    (False, 30, 2, 1, 1),  # rows are cut, and one is dropped for it
    (True, 64, 1, 1, 1),
    (True, 64, 2, 3, 1),
    (True, 96, 1, 2, 3),
    (True, 1024, 1, 1, 2),  # no piece fills a sample
]
SEED = 42


def row(number: int) -> dict[str, str]:
    answer = "我是Super Nova的小助手。" * (1 + number % 4)
    return {"instruction": f"你是谁？ {number}", "input": "", "output": answer}


def write(folder: Path, model: Path, number: int) -> Path:
    """A config for one of SETTINGS."""
    wishes = dict(zip(NAMES, SETTINGS[number], strict=True))
    place = folder / str(number)
    place.mkdir()
    config = tiny_config.write(place, model)
    text = config.read_text()
    for name, value in {
        "alpaca_en_path": str(folder / "data.json"),
        "max_length": wishes["max_length"],
        "pack_to_max_length": wishes["pack"],
        "batch_size": wishes["batch_size"],
        "accumulative_counts": wishes["accumulation"],
    }.items():
        text = re.sub(rf"(?m)^{name} = .*$", f"{name} = {value!r}", text)
    text = text.replace("map_num_proc=1", f"map_num_proc={wishes['map_num_proc']}")
    text = text.replace("PROMPT_TEMPLATE.qwen_chat", "PROMPT_TEMPLATE.internlm2_chat")
    # Neither answers nor a warm-up are wanted of a run that ends after one step.
    text += "\ncustom_hooks = []\nparam_scheduler = []\n"
    config = folder / f"setting_{number}.py"
    config.write_text(text)
    return config


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    rows = [row(number) for number in range(23)]
    rows[7]["instruction"] = "long " * 40
    folder = tmp_path_factory.mktemp("steps")
    (folder / "data.json").write_text(json.dumps(rows, ensure_ascii=False))
    return folder


@pytest.fixture(scope="module")
def logged(rows, tiny_model):
    configs = [str(write(rows, tiny_model, number)) for number in range(len(SETTINGS))]
    done = subprocess.run(
        [sys.executable, PROGRAM],
        input=json.dumps(configs),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


@pytest.mark.slow
def test_steps_are_those_that_xtuner_logs(rows, tiny_model, logged):
    counted, samples = [], []
    for setting in SETTINGS:
        with Dataset.open(rows / "data.json") as dataset:
            report = check(
                dataset,
                model=tiny_model,
                template="internlm2_chat",
                seed=SEED,
                settings=Settings(),
                cache=rows / "cache",
                **dict(zip(NAMES, setting, strict=True)),
            )
        counted.append(report.steps_per_epoch)
        samples.append(report.packed_samples or report.samples)
        assert report.updates_per_epoch == -(-report.steps_per_epoch // setting[3])
    assert counted == logged
    assert samples == [
        pytest.approx(steps * setting[2], abs=setting[2] - 1)
        for steps, setting in zip(logged, SETTINGS, strict=True)
    ]
    assert samples[2] == 22, "the row that the cut leaves without an answer is dropped"
