"""What a Python file assigns is told without running it."""

from __future__ import annotations

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
system += "Be brief."
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
    assert names == {"noted": "here", "kept": 1, "deep": {"rank": 8}} | dict.fromkeys(
        ("system", "lr", "betas", "steps", "gone"), UNKNOWN
    )


def test_what_is_not_python_says_nothing() -> None:
    assert read("model = (") is None
    assert read("a\0b") is None
    assert read("x = " + "(" * 10_000 + ")" * 10_000) is None
