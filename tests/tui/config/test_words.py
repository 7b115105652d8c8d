"""What the Config pane says of a setting."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.config.known.field_table import find
from engine.config.text.source import ConfigSource
from engine.settings import Settings
from tui.panes.config.opened import OpenConfig
from tui.panes.config.words import changes, usual


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("randomness.seed", "0 … 4294967295"),
        ("lr", "1e-6 … 0.001"),
        ("model.lora.r", "4 … 256"),
        ("model.lora.lora_dropout", "0 … 0.3"),
        ("use_varlen_attn", "True, False"),
    ],
)
def test_usual_values_are_told_as_they_are_typed(name: str, told: str) -> None:
    known = find(name)
    assert known is not None and usual(known) == told


def test_a_long_change_stands_before_and_after_below_one_another(tmp_path: Path) -> None:
    before, after = "models/" + "a" * 30, "models/" + "b" * 30
    path = tmp_path / "one.py"
    path.write_text(f"lr = 1e-4\npretrained_model_name_or_path = '{before}'\n")
    origin = ConfigSource.open(path)
    path.write_text(f"lr = 2e-4\npretrained_model_name_or_path = '{after}'\n")
    told = [str(line) for line in changes(OpenConfig.read(path, Settings(), origin))]
    assert "lr  1e-4 → 2e-4" in told
    at = told.index("pretrained_model_name_or_path")
    assert told[at + 1 : at + 3] == [f"  '{before}'", f"→ '{after}'"]
