"""What a Python file assigns is told without running it."""

from __future__ import annotations

import pytest

from engine.assignments import UNKNOWN, Reference, read

TEXT = """
path = "model"
path = "other"
raise SystemExit("never run")
hooks = [dict(type=Hook, every=2), {"name": path}]
template = PROMPT_TEMPLATE.qwen_chat
bits = transformers.BitsAndBytesConfig(load_in_4bit=True)
made = build(load_in_4bit=True)
joined = dict(first, second=2)
read = open("/etc/passwd").read()
missing = nowhere
"""


def test_names_literals_and_arguments_are_followed() -> None:
    assert read(TEXT) == {
        "path": "other",
        "hooks": [{"type": UNKNOWN, "every": 2}, {"name": "other"}],
        "template": Reference("PROMPT_TEMPLATE", "qwen_chat"),
        "bits": {"load_in_4bit": True},
        "made": UNKNOWN,
        "joined": UNKNOWN,
        "read": UNKNOWN,
        "missing": UNKNOWN,
    }


def test_what_is_assigned_otherwise_leaves_no_value_from_before() -> None:
    """A text that is added to is another one: the model would be asked with half of it."""
    text = """
noted: str = "here"
system = "You are kind. "
system += brief
lr, betas = 1e-4, (0.9, 0.999)
steps = 100
if lr < 1:
    steps = 200
gone = 1
del gone
kept = 1
def make():
    kept = 2
deep = {deep}(rank=8)
"""
    names = read(text.replace("{deep}", "made" + ".Deep" * 800))
    assert names == {"kept": 1, "deep": {"rank": 8}} | dict.fromkeys(
        ("noted", "system", "lr", "betas", "steps", "gone"), UNKNOWN
    )


@pytest.mark.parametrize("on", [True, False])
def test_what_a_switch_adds_is_added(on: bool) -> None:
    """As in all of XTuner's own configs."""
    text = f"""
use_varlen_attn = {on}
custom_hooks = [dict(evaluation_inputs=["Who are you?"])]
system = "Be kind."
if use_varlen_attn:
    custom_hooks += [dict(type=Varlen)]
    system += " Be brief."
else:
    plain = 1
"""
    names = read(text)
    assert names is not None
    hooks = [{"evaluation_inputs": ["Who are you?"]}, *([{"type": UNKNOWN}] if on else [])]
    assert names["custom_hooks"] == hooks and ("plain" in names) is not on
    assert names["system"] == ("Be kind. Be brief." if on else "Be kind.")


def test_what_is_not_python_says_nothing() -> None:
    assert read("model = (") is None
    assert read("a\0b") is None
    assert read("x = " + "(" * 10_000 + ")" * 10_000) is None
