"""Shapes: told from rows, read, and checked for what XTuner needs."""

from __future__ import annotations

import pytest

from engine.dataset import shapes
from engine.errors import Problem

TURN = {"input": "a", "output": "b"}
ASK, SAY = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}
TOLD = {"role": "system", "content": "s"}
HUMAN, GPT = {"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}
PARTS = {"role": "user", "content": [{"type": "text", "text": "q"}]}


@pytest.mark.parametrize(
    ("row", "shape", "turns", "words"),
    [
        ({"conversation": [TURN, TURN]}, "xtuner", 2, "a"),
        ({"conversation": []}, "xtuner", 0, '{"conversation": []}'),
        ({"instruction": " 你是谁", "input": "", "output": "b"}, "alpaca", 1, "你是谁"),
        ({"instruction": "a", "input": "x", "output": "b", "text": "all"}, "alpaca", 1, "a\nx"),
        ({"instruction": "a", "output": "b"}, "alpaca_own", 1, "a"),
        ({"instruction": "a", "input": "", "output": "b", "system": "s"}, "alpaca_own", 1, "a"),
        ({"messages": [TOLD, ASK, SAY, ASK, SAY]}, "openai", 2, "q"),
        ({"messages": [PARTS, SAY]}, "openai_own", 1, "q"),
        ({"messages": "a"}, "openai", 0, '{"messages": "a"}'),
        ({"conversations": [HUMAN, GPT, HUMAN]}, "sharegpt", 1, "q"),
        ({"text": " 从前 "}, "text", 1, "从前"),
        ({"text": "a", "url": "b", "meta": {}}, "text", 1, "a"),
        ({"question": "a", "answer": "b", "text": "c"}, "", None, '{"question": "a", "answer'),
        ({"conversation": [ASK, SAY]}, "", None, '{"conversation": [{"role'),
        ({"conversations": [ASK, SAY]}, "", None, '{"conversations": [{"role'),
        ([1, 2], "", None, "[1, 2]"),
        (None, "", None, "null"),
    ],
)
def test_a_row_tells_its_shape(row, shape, turns, words):
    assert shapes.detect(row) == shape
    assert shapes.turns(row) == turns
    assert shapes.first_words(row).startswith(words)


def test_the_shape_is_that_of_most_rows_or_one_that_takes_them_all():
    alpaca, xtuner = {"instruction": "a", "input": "", "output": "b"}, {"conversation": [TURN]}
    assert shapes.detect_all([alpaca, xtuner, 3, alpaca]) == "alpaca"
    assert shapes.detect_all([alpaca, alpaca, {"instruction": "a", "output": "b"}]) == "alpaca_own"
    assert shapes.detect_all([{}, None]) == ""


def test_each_shape_has_what_makes_it_right_for_xtuner():
    made = {shape.name: shape.map_fn or shape.mapping for shape in shapes.SHAPES}
    assert made["xtuner"] is None
    assert made["alpaca"] == "alpaca_map_fn"
    assert made["openai"] == "openai_map_fn"
    assert made["text"] == "pretrain_map_fn"
    assert made["sharegpt"].messages == "conversations"
    assert [shape.name for shape in shapes.SHAPES if not shape.templated] == ["text"]
    with pytest.raises(Problem, match="no shape called nope") as caught:
        shapes.by_name("nope")
    assert "sharegpt" in caught.value.todo


def test_turns_hold_question_answer_and_system():
    (turn,) = shapes.conversation({"conversation": [TURN | {"system": "s"}]})
    assert turn == ("a", "b", "s")
    (turn,) = shapes.conversation({"instruction": "i", "input": "x", "output": "o"})
    assert turn == ("i\nx", "o", "")
    (turn,) = shapes.conversation({"messages": [TOLD, ASK, SAY, 3, {"role": "tool"}]})
    assert turn == ("q", "a", "s")
    (turn,) = shapes.conversation({"system": "s", "conversations": [GPT, HUMAN, GPT, GPT]})
    assert turn == ("q", "a\na", "s")


@pytest.mark.parametrize(
    "row",
    [
        {"conversation": [TURN]},
        {"conversation": [TURN | {"system": None}, TURN | {"system": "s", "input": None}]},
        {"conversation": [TURN | {"output": "", "more": 1}]},
        {"instruction": "", "input": "", "output": "b"},
        {"instruction": "a", "output": "b", "input": None, "system": "s"},
        {"messages": [TOLD, ASK, SAY, TOLD, ASK, SAY | {"loss": False}]},
        {"messages": [PARTS, SAY, {"role": "developer", "content": "s"}, PARTS, SAY]},
        {"conversations": [HUMAN, GPT, {"from": "user", "value": "q"}, GPT]},
        {"text": "a"},
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
        ("alpaca_own", {"instruction": "a", "text": "b"}, "output", "missing"),
        ("alpaca_own", {"instruction": "a", "input": {}, "output": "b"}, "input", "an object"),
        ("openai", {"messages": {}}, "messages", "an object, not a list"),
        ("openai", {"messages": [ASK, "a"]}, "messages[1]", "a text, not an object"),
        ("openai", {"messages": [ASK, {"content": "a"}]}, "messages[1].role", "missing"),
        ("openai", {"messages": [ASK, {"role": "assistant"}]}, "messages[1].content", "missing"),
        (
            "openai",
            {"messages": [ASK, {"role": "tool", "content": "7"}, SAY]},
            "messages[1].role",
            "'tool', which the map function does not take",
        ),
        ("openai", {"messages": [ASK, SAY | {"role": ["a"]}]}, "messages[1].role", "a list"),
        ("openai", {"messages": [PARTS, SAY]}, "messages[0].content", "in parts"),
        ("openai", {"messages": [ASK, SAY | {"content": None}]}, "messages[1].content", "null"),
        ("openai", {"messages": [ASK, SAY | {"loss": 1}]}, "messages[1].loss", "a number"),
        ("openai", {"messages": [ASK, SAY | {"content": "\udc00"}]}, "messages[1].content", "half"),
        (
            "openai_own",
            {"messages": [ASK | {"content": [{"type": "image_url", "image_url": {}}]}, SAY]},
            "messages[0].content[0]",
            "part 0 is not text (image_url)",
        ),
        ("openai_own", {"messages": [ASK | {"content": ["q"]}, SAY]}, "messages[0].content[0]", ""),
        (
            "sharegpt",
            {"conversations": [HUMAN, GPT | {"from": "observation"}]},
            None,
            "observation",
        ),
        (
            "sharegpt",
            {"conversations": [HUMAN, {"from": "gpt"}]},
            "conversations[1].value",
            "value",
        ),
        ("text", {"text": ["a"]}, "text", "a list, not a text"),
        ("text", {"content": "a"}, "text", "missing"),
    ],
)
def test_a_broken_row_names_field_reason_and_remedy(shape, row, field, reason):
    (finding,) = shapes.by_name(shape).check(7, row)
    assert (finding.row, finding.level) == (7, shapes.ERROR)
    assert finding.field == (field or finding.field)
    assert reason in finding.reason
    assert finding.remedy


@pytest.mark.parametrize(
    ("shape", "row", "field", "reason"),
    [
        ("xtuner", {"conversation": []}, "conversation", "drops"),
        ("alpaca", {"instruction": "a", "input": "", "output": "<nooutput>"}, "output", "drops"),
        ("alpaca", {"instruction": "a", "input": "", "output": "b", "system": "s"}, "system", ""),
        ("alpaca_own", {"instruction": "a", "output": None}, "output", "drops"),
        ("openai", {"messages": []}, "messages", "drops"),
        ("openai", {"messages": [TOLD, ASK]}, "messages", "drops"),
        ("openai", {"messages": [SAY, ASK, SAY]}, "messages[0]", "left out"),
        ("openai", {"messages": [TOLD, SAY, ASK, SAY]}, "messages[1]", "an empty one"),
        ("openai", {"messages": [ASK, SAY, SAY]}, "messages[2]", "an empty one"),
        ("openai", {"messages": [ASK, ASK, SAY]}, "messages[1]", "without a space"),
        ("openai", {"messages": [TOLD, TOLD, ASK, SAY]}, "messages[1]", "forgets"),
        ("openai", {"messages": [ASK, SAY, ASK]}, "messages[2]", "left out"),
        ("openai_own", {"messages": [PARTS, PARTS, SAY]}, "messages[1]", "line break"),
        ("sharegpt", {"conversations": [GPT, HUMAN, GPT]}, "conversations[0]", "left out"),
        ("sharegpt", {"conversations": [HUMAN, GPT, GPT]}, "conversations[2]", "line break"),
        ("text", {"text": " \n"}, "text", "drops"),
    ],
)
def test_what_is_dropped_or_joined_in_silence_is_a_warning(shape, row, field, reason):
    (finding,) = shapes.by_name(shape).check(7, row)
    assert (finding.row, finding.field, finding.level) == (7, field, shapes.WARNING)
    assert reason in finding.reason
    assert finding.remedy
    assert shapes.errors([finding]) == []


def test_loss_marks_are_given_by_all_answers_or_by_none():
    marked = {"messages": [ASK, SAY | {"loss": True}, ASK, SAY]}
    assert shapes.loss_marks(marked, "openai") == (True, True)
    assert shapes.loss_marks({"messages": [ASK, SAY]}, "openai") == (False, True)
    assert shapes.loss_marks({"conversation": [TURN | {"output_with_loss": False}]}) == (
        True,
        False,
    )
    assert shapes.loss_marks({"instruction": "a"}, "alpaca") == (False, False)
    assert shapes.unmarked(4, "openai").field == "messages[].loss"
