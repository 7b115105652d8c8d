from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.chat.session import ChatSession, ModelSpec
from engine.settings import Settings
from tests.chat import make_adapter

CONFIG = """\
from xtuner.utils import PROMPT_TEMPLATE
raise SystemExit("a config is never run")
prompt_template = PROMPT_TEMPLATE.qwen_chat
SYSTEM = "You are brief."
train_dataloader = dict(dataset=dict(template_map_fn=dict(template=prompt_template)))
custom_hooks = [dict(system=SYSTEM, prompt_template=prompt_template)]
"""


@pytest.fixture(scope="session")
def adapter(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random adapter of the tiny model, with the training config that XTuner leaves beside it."""
    folder = make_adapter.write(tiny_model, tmp_path_factory.mktemp("adapters") / "tiny")
    (folder / "xtuner_config.py").write_text(CONFIG, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def session(tiny_model: Path, adapter: Path) -> Iterator[ChatSession]:
    """The tiny model in slot A, its adapter on it in slot B."""
    with ChatSession(Settings(threads=1)) as opened:
        opened.load("A", ModelSpec(str(tiny_model)))
        opened.load("B", ModelSpec(str(tiny_model), adapter=str(adapter)))
        yield opened
