"""Shapes: told from rows, read, and checked for what XTuner needs."""

from __future__ import annotations

import pytest

from engine.dataset import shapes
from engine.errors import Problem

TURN = {"input": "a", "output": "b"}


@pytest.mark.parametrize(
    ("row", "shape", "turns", "words"),
    [
        ({"conversation": [TURN, TURN]}, "xtuner", 2, "a"),
        ({"conversation": []}, "xtuner", 0, '{"conversation": []}'),
        ({"instruction": " 你是谁", "input": "", "output": "b"}, "alpaca", 1, "你是谁"),
        ({"instruction": "a", "output": "b", "text": "all"}, "alpaca", 1, "a"),
        ({"question": "a", "answer": "b"}, "", None, '{"question": "a", "answer": "b"}'),
        ([1, 2], "", None, "[1, 2]"),
        (None, "", None, "null"),
    ],
)
def test_a_row_tells_its_shape(row, shape, turns, words):
    assert shapes.detect(row) == shape
    assert shapes.turns(row) == turns
    assert shapes.first_words(row) == words


def test_the_shape_is_that_of_most_rows():
    alpaca, xtuner = {"instruction": "a", "output": "b"}, {"conversation": [TURN]}
    assert shapes.detect_all([alpaca, xtuner, 3, alpaca]) == "alpaca"
    assert shapes.detect_all([{}, None]) == ""
    assert shapes.by_name("xtuner").map_fn is None
    assert shapes.by_name("alpaca").map_fn == "alpaca_map_fn"
    with pytest.raises(Problem, match="no shape called sharegpt"):
        shapes.by_name("sharegpt")


def test_turns_hold_question_answer_and_system():
    (turn,) = shapes.conversation({"conversation": [TURN | {"system": "s"}]})
    assert turn == ("a", "b", "s")
    (turn,) = shapes.conversation({"instruction": "i", "input": "x", "output": "o"})
    assert turn == ("i\nx", "o", "")


@pytest.mark.parametrize(
    "row",
    [
        {"conversation": [TURN]},
        {"conversation": [TURN | {"system": None}, TURN | {"system": "s", "input": None}]},
        {"conversation": [TURN | {"output": "", "more": 1}]},
        {"conversation": []},
        {"instruction": "", "input": "", "output": ""},
    ],
)
def test_rows_that_xtuner_takes_are_right(row):
    assert shapes.by_name(shapes.detect(row)).check(0, row) == []


@pytest.mark.parametrize(
    ("shape", "row", "field", "reason"),
    [
        ("xtuner", {"messages": []}, "conversation", "missing (there: messages)"),
        ("xtuner", {"conversation": TURN}, "conversation", "an object, not a list"),
        ("xtuner", {"conversation": ["a"]}, "conversation[0]", "a text, not an object"),
        ("xtuner", {"conversation": [TURN, {"input": "a"}]}, "conversation[1].output", "missing"),
        (
            "xtuner",
            {"conversation": [{"input": "a", "output": None}]},
            "conversation[0].output",
            "null",
        ),
        ("xtuner", {"conversation": [TURN | {"system": 3}]}, "conversation[0].system", "a number"),
        ("xtuner", {"conversation": [{"output": "b"}]}, "conversation[0].input", "missing"),
        (
            "xtuner",
            {"conversation": [TURN | {"output_with_loss": None}]},
            "conversation[0].output_with_loss",
            "null",
        ),
        ("xtuner", 5, "", "a number, not an object"),
        ("alpaca", {"instruction": "a", "input": "", "response": "b"}, "output", "response"),
        ("alpaca", {"instruction": ["a"], "input": "", "output": "b"}, "instruction", "a list"),
        ("alpaca", {"instruction": "a", "output": "b"}, "input", "missing"),
        ("alpaca", {"instruction": "a", "input": "", "output": "\ud83d"}, "output", "half a"),
    ],
)
def test_a_broken_row_names_field_reason_and_remedy(shape, row, field, reason):
    (finding,) = shapes.by_name(shape).check(7, row)
    assert (finding.row, finding.field) == (7, field)
    assert reason in finding.reason
    assert finding.remedy
