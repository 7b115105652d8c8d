"""A corrected answer becomes a row of the open dataset, in its shape, or of a file beside it."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from engine.dataset.mapping import Mapping, source
from engine.dataset.reader import Dataset
from engine.dataset.shapes import SHAPES, Turn, by_mapping, conversation
from engine.dataset.shapes.writing import row_of
from engine.errors import Problem
from engine.joined import corrected
from engine.workspace import Workspace

TURN = Turn("你是谁?\n(really)", 'I am "Nova".', "Be brief.")
EXAMPLES: dict[str, list[dict[str, Any]]] = {
    "xtuner": [
        {"conversation": [{"input": "a", "output": "b"}]},
        {"conversation": [{"system": "s", "input": "a", "output": "b", "output_with_loss": False}]},
    ],
    "openai": [
        {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]},
        {
            "messages": [
                {"role": "system", "content": "s"},
                {"role": "user", "content": "a"},
                {"role": "assistant", "content": "b", "loss": True},
            ]
        },
    ],
    "openai_own": [
        {
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "a"}]},
                {"role": "assistant", "content": [{"type": "text", "text": "b"}]},
            ]
        }
    ],
    "sharegpt": [
        {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]},
        {
            "system": "s",
            "conversations": [{"from": "user", "value": "a"}, {"from": "assistant", "value": "b"}],
        },
    ],
    "alpaca": [{"instruction": "a", "input": "", "output": "b"}],
    "alpaca_own": [{"instruction": "a", "output": "b", "system": "s"}],
}
CASES = [(name, example) for name, examples in EXAMPLES.items() for example in examples]


@pytest.mark.parametrize(("name", "example"), CASES)
def test_a_row_says_the_turn_with_the_keys_of_its_neighbours(
    name: str, example: dict[str, Any]
) -> None:
    shape = next(one for one in SHAPES if one.name == name)
    row = row_of(shape, TURN, example)
    system = TURN.system if conversation(example, name)[0].system else ""
    assert conversation(row, name) == [Turn(TURN.input, TURN.output, system)]
    assert set(row) == set(example) and shape.check(0, row) == []
    [(column, turns)] = [(key, value) for key, value in example.items() if key != "system"][:1]
    if isinstance(turns, list):
        assert [sorted(one) for one in row[column]] == [sorted(one) for one in turns]


def test_rows_of_a_mapping_and_of_its_module(tmp_path: Path) -> None:
    mapping = Mapping(question="问", answer="答", extra=("context",))
    shape = by_mapping(mapping, "m", "m")
    wanted = {"问": TURN.input, "context": "", "答": TURN.output}
    assert row_of(shape, TURN, {"问": "a", "context": "x", "答": "b"}) == wanted
    module = tmp_path / "map_it.py"
    module.write_text(source(mapping, "map_it"), encoding="utf-8")
    data = tmp_path / "d.jsonl"
    data.write_text('{"问": "a", "context": "x", "答": "b"}\n', encoding="utf-8")
    workspace = opened(tmp_path, data, str(module))
    corrected.add(corrected.target(workspace), TURN, workspace, into_data=True)
    assert json.loads(data.read_text(encoding="utf-8").splitlines()[1]) == wanted


def test_plain_text_has_no_place_for_a_question() -> None:
    text = next(one for one in SHAPES if one.name == "text")
    with pytest.raises(Problem, match="cannot be written as a row"):
        row_of(text, TURN, {"text": "a"})


def opened(root: Path, data: Path, shape: str = "") -> Workspace:
    workspace = Workspace(root)
    workspace.remember(data=str(data), shape=shape)
    return workspace


@pytest.mark.parametrize(
    "text",
    [
        json.dumps([EXAMPLES["xtuner"][0]] * 2, indent=2) + "\n",
        json.dumps([EXAMPLES["xtuner"][0]] * 2),
        json.dumps(EXAMPLES["xtuner"][0]) + "\r\n" + json.dumps(EXAMPLES["xtuner"][0]) + "\r\n",
        json.dumps(EXAMPLES["xtuner"][0]),
    ],
)
def test_it_goes_behind_the_last_row_and_the_rest_stays_to_the_byte(
    tmp_path: Path, text: str
) -> None:
    data = tmp_path / ("d.json" if text.startswith("[") else "d.jsonl")
    data.write_bytes(text.encode())
    workspace = opened(tmp_path, data)
    where = corrected.target(workspace)
    assert where.closed == "" and where.beside == tmp_path / "d-corrected.jsonl"
    added = corrected.add(where, TURN, workspace, into_data=True)
    assert Path(added.kept).read_bytes() == text.encode(), "the former version is kept"
    with Dataset.open(data) as dataset:
        assert dataset.index() == added.row + 1
        assert conversation(dataset.row(added.row)) == [Turn(TURN.input, TURN.output)]
    head = text.rstrip("]\n\r ")
    assert data.read_bytes().startswith(head.encode())
    assert data.read_bytes().endswith(text[len(head) :].lstrip("}").encode())


def test_beside_a_dataset_that_cannot_be_edited_a_file_grows(tmp_path: Path) -> None:
    data = tmp_path / "d.jsonl.gz"
    data.write_bytes(gzip.compress(json.dumps(EXAMPLES["sharegpt"][0]).encode() + b"\n"))
    before = data.read_bytes()
    workspace = opened(tmp_path, data)
    where = corrected.target(workspace)
    assert "compressed" in where.closed
    with pytest.raises(Problem, match="cannot be edited"):
        corrected.add(where, TURN, workspace, into_data=True)
    rows = [corrected.add(where, TURN, workspace, into_data=False).row for _time in range(2)]
    assert rows == [0, 1] and data.read_bytes() == before
    made = [json.loads(line) for line in where.beside.read_text(encoding="utf-8").splitlines()]
    assert made[0] == made[1] and conversation(made[0], "sharegpt")[0].output == TURN.output


def test_without_a_dataset_or_with_one_that_is_gone_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(Problem, match="No dataset is open"):
        corrected.target(Workspace(tmp_path))
    with pytest.raises(Problem):
        corrected.target(opened(tmp_path, tmp_path / "gone.json"))


def test_what_came_from_a_hub_grows_in_the_workspace(tmp_path: Path) -> None:
    """Not in the hub's cache: it is everybody's, and may be emptied."""
    data = tmp_path / "hub/datasets--me--talks/snapshots" / ("5f" * 20) / "train.jsonl"
    data.parent.mkdir(parents=True)
    data.write_text(json.dumps(EXAMPLES["sharegpt"][0]) + "\n", encoding="utf-8")
    (tmp_path / "work").mkdir()
    workspace = opened(tmp_path / "work", data)
    where = corrected.target(workspace)
    assert "cache of Hugging Face" in where.closed
    assert where.beside == workspace.data / "talks-corrected.jsonl"
    corrected.add(where, TURN, workspace, into_data=False)
    assert [one.name for one in data.parent.iterdir()] == ["train.jsonl"]
