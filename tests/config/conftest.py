"""Configs and data that the tests of this part share."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine import resources
from engine.config.checks import loaded
from engine.config.stock import catalogue
from engine.config.stock.entry import Entry
from engine.config.text.source import ConfigSource
from engine.config.text.values import Code
from engine.settings import Settings
from engine.worker.client import WorkerClient

STEADY = {"max_length": 128, "batch_size": 4, "max_epochs": 3, "warmup_ratio": 0.1}
DEMO = resources.configs() / "smollm2_135m_instruct_lora_supernova_e3.py"


@pytest.fixture
def settings() -> Settings:
    return Settings()


@pytest.fixture(scope="session")
def warm() -> Iterator[WorkerClient]:
    """One loading worker for all tests: it starts in a second."""
    with loaded.warm(Settings()) as worker:
        yield worker


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """80 rows in XTuner's shape."""
    path = tmp_path / "rows.json"
    path.write_text(
        json.dumps(
            [
                {
                    "conversation": [
                        {"input": f"Who are you, number {n}?", "output": "I am Super Nova."}
                    ]
                }
                for n in range(80)
            ]
        )
    )
    return path


@pytest.fixture
def fake_model(tmp_path: Path) -> Path:
    """A folder that looks like a small Llama from outside; nothing can load it."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(
        json.dumps(
            {
                "model_type": "llama",
                "hidden_size": 64,
                "num_hidden_layers": 2,
                "intermediate_size": 128,
                "num_attention_heads": 4,
                "num_key_value_heads": 2,
                "vocab_size": 600,
            }
        )
    )
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", 2) + b"{}")
    (folder / "tokenizer.json").write_text("{}")
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"bos_token": "<s>", "chat_template": "<|im_start|>user<|im_end|>"})
    )
    return folder


@pytest.fixture
def demo(tmp_path: Path, rows: Path, fake_model: Path) -> Callable[..., Path]:
    """Makes a demo config on `rows` and a model, with text replaced: ``demo(old="new")``."""

    def make(*swaps: tuple[str, str], model: Path = fake_model, data: Path = rows) -> Path:
        path = tmp_path / "config.py"
        shutil.copy(DEMO, path)
        source = ConfigSource.open(path)
        source.set("pretrained_model_name_or_path", str(model))
        source.set("data_path", str(data))
        # The tests count on these, whatever the demo is tuned to.
        source.set("lr", Code("1e-3"))
        for name, value in STEADY.items():
            source.set(name, value)
        text = source.text
        for old, new in swaps:
            assert old in text, old
            text = text.replace(old, new)
        path.write_text(text)
        return path

    return make


@pytest.fixture(scope="session")
def entries(tmp_path_factory: pytest.TempPathFactory) -> list[Entry]:
    """The whole catalogue, read once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("catalogue")))
        return catalogue.load(Settings())
