"""What the Config pane says of a setting."""

from __future__ import annotations

import pytest

from engine.config.known.field_table import find
from tui.panes.config.words import usual


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
