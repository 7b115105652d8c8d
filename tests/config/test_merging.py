"""Two edits of one config become one, or are refused and shown; no character is made up."""

from __future__ import annotations

import random

import pytest

from engine.config.text.merging import Touching, hunks, merge, merge_configs
from engine.errors import Problem

BASE = "lr = 2e-4  # peak\nbetas = (0.9, 0.999)\nmax_epochs = 3\nmodel = dict(r=8, alpha=16)\n"


@pytest.mark.parametrize(
    ("mine", "theirs"),
    [
        (("2e-4", "5e-4"), ("0.9,", "0.8,")),  # lines next to each other
        (("r=8", "r=16"), ("alpha=16", "alpha=32")),  # one line
        (("2e-4", "5e-4"), ("max_epochs = 3\n", "max_epochs = 3\nresume = True\n")),
        (("max_epochs = 3\n", ""), ("# peak", "# 尖")),
        (("2e-4", "5e-4"), ("2e-4", "5e-4")),  # both the same
    ],
)
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_edits_that_do_not_touch_are_both_there(
    mine: tuple[str, str], theirs: tuple[str, str], newline: str
) -> None:
    base = BASE.replace("\n", newline)
    one, two = (tuple(part.replace("\n", newline) for part in pair) for pair in (mine, theirs))
    ours, others = base.replace(*one), base.replace(*two)
    both = ours if mine == theirs else ours.replace(*two)
    assert merge_configs(base, ours, others, "c.py") == both
    assert merge_configs(base, others, ours, "c.py") == both


def test_edits_of_one_place_are_refused_with_both_shown() -> None:
    with pytest.raises(Problem, match="line 1") as caught:
        merge_configs(BASE, BASE.replace("2e-4", "5e-4"), BASE.replace("2e-4", "1e-5"), "c.py")
    assert "lr = 5e-4" in caught.value.why and "lr = 1e-5" in caught.value.why


def test_edits_that_would_mean_another_thing_together_are_refused() -> None:
    ours = BASE.replace("lr = 2e-4", "lr = 5e-4")
    theirs = BASE + "lr = 1e-5\n"  # a later line decides now
    with pytest.raises(Problem, match="changed elsewhere too"):
        merge_configs(BASE, ours, theirs, "c.py")


def test_what_is_broken_elsewhere_is_not_merged() -> None:
    with pytest.raises(Problem, match="not valid Python now"):
        merge_configs(BASE, BASE.replace("2e-4", "5e-4"), BASE + "x = (\n", "c.py")


def test_hunks_make_the_changed_text_and_merging_is_the_same_from_both_sides() -> None:
    chance = random.Random(5)
    words = ["a", "b = 1", "\n", " ", "尖", "(", ")\n", "# c\n"]

    def mutated(text: str) -> str:
        for _time in range(chance.randrange(1, 4)):
            start = chance.randrange(len(text) + 1)
            end = min(len(text), start + chance.randrange(4))
            text = text[:start] + "".join(chance.choices(words, k=2)) + text[end:]
        return text

    merged = 0
    for _case in range(400):
        base = "".join(chance.choices(words, k=30))
        ours, theirs = mutated(base), mutated(base)
        text, at = "", 0
        for hunk in hunks(base, ours):
            text += base[at : hunk.start] + hunk.text
            at = hunk.end
        assert text + base[at:] == ours
        try:
            both = merge(base, ours, theirs)
        except Touching:
            continue
        merged += 1
        assert both == merge(base, theirs, ours)
        assert merge(base, ours, base) == ours
    assert merged > 20
